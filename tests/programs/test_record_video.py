"""The program that films policies, and the film of a training."""

import glob
import importlib.util
import io
import json
import os
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from reading import values
from small_world import bind, check_mistake, offline_args, offline_dir

from brac import checkpoints, environments, policy_loader, rng
from brac.agents import frozen
from brac.networks import Actor, Box
from brac.rollouts import Evaluator


def args(world, *more, output='film.gif', checkpoint='policies/pendulum'):
  return (
    '--env_name=Pendulum-v1', f'--output={world / output}', f'--checkpoint={world / checkpoint}',
    '--steps=20', *more,
  )  # fmt: skip


def test_two_policies_of_two_checkpoints_stand_side_by_side(finish, finished, world, tmp_path):
  agent = offline_dir(finished) / 'agent'
  (run,) = finish(
    ['record_video', *args(world, output=tmp_path / 'film.gif'), f'--checkpoint={agent}',
     '--policy=sample', '--policy=max_q', '--label=behavior', '--label=SAC α=0.1', '--fps=10'],
  )  # fmt: skip
  said = f'{tmp_path}/film.gif: 20 steps, 10 pictures a second; return behavior -'
  assert run.stdout.startswith(said) and ', SAC α=0.1 -' in run.stdout
  with Image.open(tmp_path / 'film.gif') as film:
    assert film.size == (720, 360) and film.n_frames == 8


MISTAKES = [
  (dict(output='film.avi'), [], ['--output {world}/film.avi', '.gif or .mp4']),
  (dict(output='file.gif'), [], ['--output {world}/file.gif is there already']),
  (dict(checkpoint='policies/none'), [], ['no policy at {world}/policies/none', 'pendulum']),
  (dict(checkpoint='policies/nan'), [], ['policies/nan', 'NaN']),
  (dict(checkpoint='policies/cheetah'), [], ['policies/cheetah', '17-8-12', '3-8-2']),
  (dict(checkpoint='data/Pendulum-v1/damaged/0/data'), [], ['damaged/0/data is damaged']),
  ({}, ['--policy=max_q'], ["policies/pendulum has no 'max_q'; there is 'main', 'sample'"]),
  ({}, ['--policy=main', '--policy=sample'], ['--policy is given 2 times, for 1 checkpoints']),
  ({}, ['--policy=mode'], ["policies/pendulum has no 'mode'; there is 'main', 'sample'"]),
  ({}, ['--label=a', '--label=b'], ['--label is given 2 times, for 1 checkpoints']),
  (
    {},
    ['--checkpoint={world}/policies/pendulum', '--label=a', '--label=a'],
    ["--label: two pictures are called 'a'"],
  ),
  ({}, ['--fps=60'], ['--fps 60', 'a gif shows 50']),
  ({}, ['--env_name=Pendulun-v1'], ["unknown environment 'Pendulun-v1'"]),
  (dict(output='file/film.gif'), [], ['cannot write {world}/file/film.gif']),
]


@pytest.mark.parametrize('place, more, texts', MISTAKES)
def test_a_mistake_is_one_line_and_leaves_no_film(start, world, place, more, texts):
  more = [word.replace('{world}', str(world)) for word in more]
  check_mistake(start('record_video', *args(world, *more, **place)), world, 'record_video', texts)
  assert (world / 'file.gif').read_text() == 'mine'
  assert not glob.glob(f'{world}/film*')


def test_bcq_acts_in_films_and_elsewhere_as_in_its_evaluations(finish, world, tmp_path):
  units = bind('train_eval_offline', model_params=(((8,), (8,), (8,)), 2, 0.2))
  finish(['train_offline', *offline_args(world, tmp_path, '--agent_name=bcq', *units)])
  agent = offline_dir(tmp_path, 'bcq') / 'agent'
  env, export = '--env_name=Pendulum-v1', f'--checkpoint={agent}'
  film, _, _ = finish(
    ['record_video', env, export, f'--output={tmp_path}/film.gif'],
    ['export_policy', env, export, f'--output_dir={tmp_path}/saved'],
    ['export_policy', env, export, f'--output_dir={tmp_path}/onnx', '--format=onnx'],
  )
  returned = float(re.search(r'200 steps, .*; return agent (.*)', film.stdout)[1])
  with environments.make_batch('Pendulum-v1', 1, 0) as batch:
    specs = batch.observation_spec, batch.action_spec
  policy = frozen.load(str(agent), 'main', *specs)
  assert returned == round(
    float(Evaluator('Pendulum-v1', {'main': policy}, 1, 0).run(0)['main'][0]), 1
  )
  # Both of the others draw by themselves: what is the same is where their actions are.
  s = np.repeat(np.array([[0.6, -0.8, 0.5]], np.float32), 2000, 0)
  own = policy(s, rng.Rng(0)).numpy()
  saved = tf.saved_model.load(str(tmp_path / 'saved')).signatures['action']
  rows = {'0/step_type': tf.zeros(2000, tf.int32), '0/observation': tf.constant(s)}
  rows |= {f'0/{k}': tf.zeros(2000) for k in ('reward', 'discount')}
  found = [saved(**rows)['action'].numpy()]
  assert sorted(os.listdir(tmp_path / 'onnx')) == ['main.onnx', 'policy.json']
  if importlib.util.find_spec('onnxruntime'):
    found.append(
      policy_loader.load_onnx(f'{tmp_path}/onnx/main.onnx', *specs)(s, rng.Rng(1)).numpy()
    )
  for a in found:
    assert own.std() > 0.01
    np.testing.assert_allclose(a.mean(), own.mean(), atol=own.std() / 8)
    np.testing.assert_allclose(a.std(), own.std(), rtol=0.15)


def test_an_export_tells_which_policy_it_is_of(start, finish, finished, world, tmp_path):
  units = bind('train_eval_offline', model_params=(((8, 8),), 2))
  primal = bind(
    'brac_primal_agent.Agent',
    behavior_ckpt_file=f'{world}/policies/pendulum',
    divergence_name='mmd',
    value_penalty=False,
    train_alpha=True,
  )
  brief = '--agent_name=brac_primal', '--total_train_steps=2', '--n_eval_episodes=0'
  finish(['train_offline', *offline_args(world, tmp_path, *brief, *units, *primal)])
  agent = f'--checkpoint={offline_dir(tmp_path, "brac_primal") / "agent"}'
  idle = bind('brac_primal_agent.Agent', alpha=7.0)
  plain, largest = finish(
    ['export_policy', '--env_name=Pendulum-v1', agent, f'--output_dir={tmp_path}/plain'],
    ['export_policy', '--env_name=Pendulum-v1', agent, f'--output_dir={tmp_path}/max_q',
     '--policy=max_q', *idle],
  )  # fmt: skip
  assert 'this is main; its agent is judged by max_q: --policy=max_q' in plain.stderr
  assert 'judged by' not in largest.stderr
  assert 'brac_primal_agent.Agent.alpha is bound, but a policy acts by' in largest.stderr
  s = np.repeat(np.array([[0.6, -0.8, 0.5]], np.float32), 500, 0)
  rows = {'0/step_type': tf.zeros(500, tf.int32), '0/observation': tf.constant(s)}
  rows |= {f'0/{k}': tf.zeros(500) for k in ('reward', 'discount')}
  for name, is_drawn in (('plain', False), ('max_q', True)):
    a = tf.saved_model.load(str(tmp_path / name)).signatures['action'](**rows)['action'].numpy()
    assert (a.std() > 1e-3) == is_drawn
  for more, texts in (
    (['--policy=max_q', '--format=onnx'], ['--policy: --format=onnx writes a file of each']),
    (['--policy=max_q', '--sample'], ['--sample and --policy=max_q are two policies']),
    (['--policy=max'], ["has no 'max'; there is 'main'", "'max_q'"]),
  ):
    command = '--env_name=Pendulum-v1', agent, f'--output_dir={tmp_path}/none', *more
    check_mistake(start('export_policy', *command), world, 'export_policy', texts)
    assert not os.path.exists(tmp_path / 'none')


def test_an_export_tells_the_order_of_dict_observations(start, finish, tmp_path):
  here = os.path.dirname(os.path.abspath(__file__))
  shutil.copy(os.path.join(here, '..', 'odd_environments.py'), start.home)
  box = Box(np.float32([-1]), np.float32([1]))
  policy = Actor(3, (8,), box, rng.Rng(0))
  checkpoints.save(str(tmp_path / 'policy'), policy=policy)
  common = '--env_name=odd_environments:Goal-v0', f'--checkpoint={tmp_path}/policy'
  finish(['export_policy', *common, f'--output_dir={tmp_path}/saved'])
  parts = json.loads((tmp_path / 'saved' / 'observation_parts.json').read_text())
  assert list(parts.items()) == [('achieved', 1), ('desired', 2)]


def test_a_policy_of_another_environment_is_one_line(start, finished, world):
  agent = offline_dir(finished) / 'agent'
  more = f'--checkpoint={agent}', '--env_name=Hopper-v2'
  check_mistake(
    start('record_video', *more, f'--output={world}/film.gif'), world, 'record_video',
    [f'policy {agent} does not fit'],
  )  # fmt: skip


def test_a_training_ends_with_a_film_and_the_same_bits(finish, finished, world, tmp_path):
  film = bind('train_eval_offline', video_steps=10)
  finish(['train_offline', *offline_args(world, tmp_path, *film)])
  place = offline_dir(tmp_path)
  assert (place / 'results.csv').read_text() == (offline_dir(finished) / 'results.csv').read_text()
  ours, plain = (values(folder / 'agent') for folder in (place, offline_dir(finished)))
  assert all((ours[k] == plain[k]).all() for k in plain if k != 'settings')
  found = []
  for path in glob.glob(f'{place}/eval/main/events.out.tfevents.*'):
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      found += [(event.step, v) for v in event.summary.value if v.tag == 'film']
  ((step, value),) = found
  assert step == 400 and value.metadata.plugin_data.plugin_name == 'images'
  width, height, gif = tf.make_ndarray(value.tensor)
  with Image.open(io.BytesIO(gif)) as image:
    assert image.size == (int(width), int(height)) == (180, 180)
    assert image.n_frames == 6  # every second of 10 steps, and the start


def test_a_film_that_cannot_be_is_known_before_the_training(start, world, tmp_path):
  command = offline_args(world, tmp_path, *bind('train_eval_offline', video_steps=-1))
  check_mistake(start('train_offline', *command), world, 'train_offline', ['video_steps', '-1'])
  assert not offline_dir(tmp_path).exists()
