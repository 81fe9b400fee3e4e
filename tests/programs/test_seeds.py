"""The same seed gives the same bits, another one gives others."""

import os
import subprocess
import sys

import numpy as np
import pytest
from reading import assert_same_run, assert_same_values, results, values
from small_world import collect_args, offline_args, offline_dir, online_args, online_dir

from brac.dataset import load


@pytest.fixture(scope='module')
def seeded(finish, world, tmp_path_factory):
  """Runs of each program in the folders a and b with seed 3, in c with seed 4."""
  root = tmp_path_factory.mktemp('seeded')
  for name, seed in (('a', 3), ('b', 3), ('c', 4)):
    given, data = f'--seed={seed}', ['--n_samples=1500', '--gin_bindings=collect.n_envs=2']
    finish(
      ['train_offline', *offline_args(world, root / name, given)],
      ['train_online', *online_args(root / name, given)],
      ['collect_data', *collect_args(world, 'mixture', given, *data, root=root / name)],
    )
  return root


def test_the_same_seed_gives_the_same_bits(seeded):
  a, b = seeded / 'a', seeded / 'b'
  assert_same_run(offline_dir(a, seed=3), offline_dir(b, seed=3))
  assert_same_run(online_dir(a), online_dir(b))
  place = 'Pendulum-v1/mixture/0/data'
  assert_same_values(a / place, b / place)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='one core is all there is')
def test_the_number_of_cores_changes_no_bit(world, tmp_path):
  cores = [str(core) for core in sorted(os.sched_getaffinity(0))[:2]]
  for name in ('0', '01'):
    command = ['taskset', '-c', ','.join(cores[: len(name)]), sys.executable, '-m']
    args = offline_args(world, tmp_path / name, '--total_train_steps=100', eval_freq=50)
    subprocess.run([*command, 'brac.train_offline', *args], check=True, capture_output=True)
  assert_same_run(offline_dir(tmp_path / '0'), offline_dir(tmp_path / '01'))


@pytest.mark.parametrize(
  'folder, other, name',
  [
    (offline_dir('a', seed=3), offline_dir('c', seed=4), 'agent'),
    (online_dir('a'), online_dir('c'), 'agent_final'),
  ],
)
def test_another_seed_gives_other_weights_and_returns(seeded, folder, other, name):
  a, b = (values(seeded / x / name) for x in (folder, other))
  kernels = [key for key in a if key.endswith('kernel')]
  assert kernels and all(np.mean(a[key] == b[key]) < 0.01 for key in kernels)
  assert results(seeded / folder)[1][0][1:] != results(seeded / other)[1][0][1:]


@pytest.mark.parametrize('name', ['Pendulum-v1/mixture/0/data', 'Pendulum-v1/sac/0/replay_final'])
def test_another_seed_gives_other_data(seeded, name):
  a, c = (load(str(seeded / x / name), 3, 1) for x in ('a', 'c'))
  for field in ('s1', 'a1', 's2', 'a2', 'reward'):
    assert np.mean(getattr(a, field) == getattr(c, field)) < 0.05
