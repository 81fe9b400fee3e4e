"""Runs whose folder or whose numbers are not as they should be."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from reading import files, n_rows, unchanged
from small_world import (
  BRAC,
  bind,
  check_mistake,
  collect_args,
  gin,
  offline_args,
  offline_dir,
  online_args,
  online_dir,
  run_to,
)

from brac.errors import InUse


@pytest.mark.parametrize(
  'args, texts',
  [
    (gin('train_eval_offline.model_params=(((8, 16),), 2)'), ['model_params']),
    (gin('train_eval_offline.discount=0.5'), ['train_eval_offline.discount', '0.99', '0.5']),
    (['--n_eval_episodes=2'], ['n_eval_episodes']),
    (
      ['--allow_changed_config', *gin('train_eval_offline.model_params=(((8, 16),), 2)')],
      ['{root}/Pendulum-v1/randwalk/n1000/sac/0/0/agent does not fit', '8] there and', '16] here'],
    ),
    (
      ['--allow_changed_config', *gin('train_eval_offline.model_params=(((8, 8),), 3)')],
      ['{root}/Pendulum-v1/randwalk/n1000/sac/0/0/agent', 'it lacks agent/_q_nets/2'],
    ),
  ],
)  # fmt: skip
def test_a_run_does_not_go_on_with_what_does_not_fit(start, world, finished, args, texts):
  before = files(finished)
  run = start('train_offline', *offline_args(world, finished, '--total_train_steps=600'), *args)
  check_mistake(run, world, 'train_offline', [t.replace('{root}', str(finished)) for t in texts])
  assert unchanged(before, files(finished))


@pytest.mark.parametrize('name', ['state', 'agent_final', 'replay_final'])
def test_a_damaged_save_is_one_line_and_nothing_is_written_over(
  start, world, finished, tmp_path, name
):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  folder = online_dir(tmp_path)
  if name == 'state':
    for end in ('.index', '.data-00000-of-00001'):
      os.rename(f'{folder}/agent_final{end}', f'{folder}/state{end}')
  os.truncate(folder / f'{name}.data-00000-of-00001', 100)
  before = files(tmp_path)
  run = start('train_online', *online_args(tmp_path, '--total_train_steps=600'))
  check_mistake(run, world, 'train_online', [f'{folder}/{name}', 'is damaged'])
  assert unchanged(before, files(tmp_path))


def test_a_partial_policy_of_another_run_is_one_line(start, world, finished, tmp_path):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  folder = online_dir(tmp_path)
  for name in files(folder):
    if name.startswith(('agent_final', 'replay_final')):
      os.remove(folder / name)
  for name in ('agent_partial_target.index', 'agent_partial_target.data-00000-of-00001'):
    (folder / name).write_bytes(b'of another run')
  before = files(tmp_path)
  run = start('train_online', *online_args(tmp_path, '--seed=5'))
  check_mistake(run, world, 'train_online', [f'{folder}/agent_partial_target', 'of another run'])
  assert unchanged(before, files(tmp_path))


def test_a_smaller_replay_buffer_is_one_line(start, world, finished):
  before = files(finished)
  args = online_args(finished, '--total_train_steps=600', replay_buffer_size=300)
  run = start('train_online', *args, '--allow_changed_config')
  check_mistake(run, world, 'train_online', ['600 transitions, there is room for 300'])
  assert unchanged(before, files(finished))


def test_a_folder_that_another_process_uses_is_one_line(start, world, tmp_path):
  folder = offline_dir(tmp_path, 'bc')
  command = ['train_offline', *offline_args(world, tmp_path, '--agent_name=bc')]
  first = start(*command, '--total_train_steps=1000000')
  while not n_rows(folder):
    assert first.poll() is None, first.stderr
    time.sleep(0.01)
  second = start(*command)
  in_use = f'{folder} is in use by process {first.pid} '
  check_mistake(second, world, 'train_offline', [in_use], InUse.exit_status)
  assert first.poll() is None
  os.kill(first.pid, signal.SIGTERM)
  assert first.wait() == 143


def test_a_run_of_other_code_goes_on_and_is_told_as_such(start, world, finished, tmp_path):
  root = shutil.copytree(finished, tmp_path / 'runs')
  brac = shutil.copytree(BRAC, tmp_path / 'brac', ignore=shutil.ignore_patterns('__pycache__'))
  with open(brac / 'divergences.py', 'a', encoding='utf-8') as f:
    f.write('# another version\n')
  run = subprocess.run(
    [
      *(sys.executable, '-m', 'brac.train_offline'),
      *offline_args(world, root, '--total_train_steps=401'),
    ],
    env={**os.environ, 'PYTHONPATH': str(tmp_path)},
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  change = r'version was ([\d.]+ of source \w+), is (?!\1)'
  assert len(re.findall(rf'^W.* going on in other surroundings: {change}', run.stderr, re.M)) == 1
  record = (offline_dir(root) / 'operative_config.gin').read_text()
  assert re.search(rf'^# at step 400: {change}', record, re.M)


def test_data_that_were_collected_with_other_physics_are_said(start, world, tmp_path):
  of_hopper, forces = '--env_name=Hopper-v2', bind('physics', ant_contact_forces=True)
  data = collect_args(world, 'randwalk', of_hopper, '--n_samples=300', f'--root_dir={tmp_path}')
  run_to(start, 'collect_data', *data, *forces)
  args = offline_args(world, tmp_path, of_hopper, f'--data_root_dir={tmp_path}', '--n_train=300')
  args = [*args, '--total_train_steps=2', '--n_eval_episodes=0']
  said = f'{tmp_path}/Hopper-v2/randwalk/0/data was collected with physics.ant_contact_forces = '
  for more, expected in (([], True), (['--sub_dir=same', *forces], False)):
    run = start('train_offline', *args, *more)
    assert run.wait() == 0
    assert (f'{said}True, here it is False' in run.stderr) == (said in run.stderr) == expected


def test_a_training_that_diverges_says_where_and_keeps_the_last_save(start, world, tmp_path):
  folder = offline_dir(tmp_path, 'bc')
  args = offline_args(world, tmp_path, '--agent_name=bc')
  run_to(start, 'train_offline', *args)
  before = files(folder)
  more = ['--total_train_steps=2000', '--allow_changed_config']
  rate = bind('train_eval_offline', optimizers=(('adam', 1e30),))
  run = start('train_offline', *args, *more, *rate)
  assert run.wait() == 1
  assert re.fullmatch(
    r'train_offline: .*\w+ is (nan|inf|-inf)\b.* at step 420;.* what was saved before is kept',
    run.said[-1],
  )
  after = files(folder)
  for name in before:
    if name.startswith('agent'):
      assert before[name] == after[name]


def test_a_multiplier_that_is_trained_and_stays_at_its_bound_is_warned_of(start, world, tmp_path):
  run = start(
    *('train_offline', *offline_args(world, tmp_path, eval_freq=20_000, summary_freq=2000)),
    *('--agent_name=bc', '--total_train_steps=12001'),
    *bind('bc_agent.Agent', alpha_entropy=0.0, target_entropy=-1000.0),
  )
  assert run.wait() == 0
  (line,) = re.findall(r'^W.*\] (.*)$', run.stderr, re.M)
  assert line.startswith('alpha_entropy has been 0 in every summary from step 2000 to step 12000')
