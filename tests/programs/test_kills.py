"""Kill -9 at random moments: what is resumed ends as what nobody stopped, bit for bit.

The nightly run has more kills, over every program and agent on both kinds of environment:

    BRAC_KILLS=50 python -m pytest tests/programs/test_kills.py

The number of a kill is the seed of its moments; `-k kill-17-` repeats it. A run is killed once or
twice, each time at a moment that is uniform over what a whole run takes, and then let end. Half of
them run on a file system that cannot link, lock and sync folders.
"""

import os
import pathlib
import random
import signal
import textwrap
import time

import numpy as np
import pytest
from reading import assert_same_run, assert_same_values, checkpoint_names, no_litter
from small_world import MIXTURE, bind

from brac import checkpoints, rng
from brac.networks import Actor, Box

ENVS = {'Pendulum-v1': (3, 1), 'HalfCheetah-v2': (17, 6)}
RUNS = [
  ('collect_data', 'none'),
  ('train_online', 'sac'),
  ('train_offline', 'brac_primal'),
  ('train_offline', 'bc'),
  ('train_online', 'brac_dual'),
  ('train_offline', 'bcq'),
  ('train_offline', 'sac'),
  ('train_offline', 'brac_dual'),
  ('train_online', 'bc'),
  ('train_online', 'bcq'),
  ('train_online', 'brac_primal'),
]
KILLS = [
  # Their number is odd: each of them meets each environment.
  (k, *RUNS[k % len(RUNS)], list(ENVS)[k % len(ENVS)], '@poor' if k // 2 % 2 else '')
  for k in range(int(os.environ.get('BRAC_KILLS', 4)))
]
# Saves come so often that kills meet them.
OFTEN = dict(save_minutes=0.002)
SMALL = dict(model_params=(((8, 8),), 2), batch_size=16, summary_freq=20, eval_freq=100, **OFTEN)


@pytest.fixture(scope='module')
def world(start, tmp_path_factory):
  """A folder with a data config, and for each environment a dataset and a behavior policy."""
  folder = tmp_path_factory.mktemp('kills')
  (folder / 'dcfg_mixture.py').write_text(textwrap.dedent(MIXTURE))
  for env_name, (n_states, n_actions) in ENVS.items():
    run = start('collect_data', *arguments(folder, 'collect_data', 'none', env_name, folder))
    assert run.wait() == 0, run.stderr
    ones = np.ones(n_actions, np.float32)
    actor = Actor(n_states, (8,), Box(-ones, ones), rng.Rng(0))
    checkpoints.save(str(folder / env_name / 'agent_behavior'), policy=actor)
  return folder


def arguments(world, program, agent_name, env_name, root):
  common = [f'--root_dir={root}', f'--env_name={env_name}', '--n_eval_episodes=1', '--seed=5']
  if program == 'collect_data':
    config = [f'--config_dir={world}', '--config_file=dcfg_mixture', '--data_name=mixture']
    return [*common, *config, '--n_samples=5000', *bind('collect', n_envs=2, **OFTEN)]
  common += [f'--agent_name={agent_name}', '--total_train_steps=200']
  if agent_name == 'brac_primal':
    path = str(world / env_name / 'agent_behavior')
    common += bind('brac_primal_agent.Agent', behavior_ckpt_file=path, train_alpha=True)
  if program == 'train_online':
    replay = dict(initial_explore_steps=250, replay_buffer_size=400, save_freq=150)
    return [*common, '--eval_target=-1e9', *bind('train_eval_online', **SMALL, **replay)]
  data = [f'--data_root_dir={world}', '--data_name=mixture', '--n_train=5000']
  return [*common, *data, *bind('train_eval_offline', **SMALL, save_freq=70)]


@pytest.fixture(scope='module')
def straight(start, world, tmp_path_factory):
  """`straight(program, agent, env)`: the folder of a run that nobody stops, and its seconds."""
  done = {}

  def straight(*what):
    if what not in done:
      root, begin = tmp_path_factory.mktemp('straight'), time.monotonic()
      run = start(what[0], *arguments(world, *what, root))
      assert run.wait() == 0, run.stderr
      done[what] = leaf(root), time.monotonic() - begin
    return done[what]

  return straight


def leaf(root):
  """The folder of the one run below a folder."""
  (lock,) = pathlib.Path(root).rglob('lock')
  return lock.parent


_was_killed = []  # of those that were to be


@pytest.mark.parametrize('kill', KILLS, ids=['-'.join(map(str, ('kill', *x))) for x in KILLS])
def test_a_run_that_is_killed_at_any_moment_ends_as_one_that_is_not(
  start,
  world,
  straight,
  tmp_path,
  kill,
):
  k, *what, disk = kill
  other, seconds = straight(*what)
  command, draws = [what[0] + disk, *arguments(world, *what, tmp_path)], random.Random(k)
  for moment in [draws.uniform(0, seconds) for _ in range(draws.choice([1, 2]))]:
    run, end = start(*command), time.monotonic() + moment
    while run.poll() is None and time.monotonic() < end:
      time.sleep(0.002)
    if run.poll() is None:
      os.kill(run.pid, signal.SIGKILL)
    print(f'kill {k} of {" ".join(what)} after {moment:.2f} of {seconds:.2f} s: {run.wait()}')
    assert run.status in (0, -signal.SIGKILL), run.stderr
    _was_killed.append(run.status != 0)
  last = start(*command)
  assert last.wait() == 0, last.stderr
  folder = leaf(tmp_path)
  assert no_litter(folder)
  if what[0] == 'collect_data':
    assert checkpoint_names(folder) == ['data']
    assert_same_values(folder / 'data', other / 'data')
  else:
    assert_same_run(folder, other)


def test_some_were_killed_before_they_were_over():
  if not _was_killed:
    pytest.skip('none was to be')
  assert any(_was_killed), 'the moments are of a run that was slower'
