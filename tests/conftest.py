"""What the tests share: a quiet TensorFlow on two threads, small specs, data and agents."""

import fcntl
import os
import shutil
import subprocess
import sys

os.environ['CUDA_VISIBLE_DEVICES'] = '-1'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'

from brac import programs  # isort: skip  (brac.patches is to come before TensorFlow)

import gin
import numpy as np
import poor_disk
import pytest
import tensorflow as tf
from agent_tools import files_of
from launcher import launched

from brac import agents, checkpoints, files, gin_config, rng
from brac.data.replay import Dataset
from brac.data.transitions import GOES_ON, TERMINAL, Transitions
from brac.networks import Actor, Box
from brac.rng import Rng
from brac.tf_agents_bridge import BoundedTensorSpec

pytest.register_assert_rewrite('reading', 'small_world')
# For the agent outside of the package, as that folder is for a user who stands in it.
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'examples'))
programs.quiet_imports()
programs.set_up_tensorflow()
gin_config.import_all()  # as a program does, so that any test may bind any parameter

N_STATES, N_ROWS = 4, 40
LOW, HIGH = [-1.0, -2.0, 0.0], [1.0, 3.0, 0.5]  # neither symmetric nor of unit size


# Of the files that take longest; side by side, one of them at the end would run alone.
LONGEST = (
  'test_docs_run',
  'test_sweep',
  'test_run_paper',
  'test_searches',
  'test_notebook',
  'test_agents',
  'test_bits',
)


def pytest_collection_modifyitems(items):
  items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(autouse=True)
def nothing_was_told(monkeypatch):
  """What is said once in a process is said again in each test."""
  monkeypatch.setattr(files, '_told', set())


@pytest.fixture
def poor(monkeypatch):
  """Mounts a poor file system under this process."""
  for module, name in ((os, 'link'), (os, 'fsync'), (os, 'mkdir'), (fcntl, 'flock')):
    monkeypatch.setattr(module, name, getattr(module, name))
  monkeypatch.setattr(fcntl, 'lockf', fcntl.lockf)
  poor_disk.mount()


@pytest.fixture(autouse=True)
def no_bindings():
  """Each test starts and leaves without gin bindings."""
  gin.clear_config()
  yield
  gin.clear_config()


@pytest.fixture(scope='session')
def start(tmp_path_factory):
  """`start(program, *args)` starts a program in a process of its own and returns its `Run`."""
  with launched(tmp_path_factory.mktemp('runs')) as start:
    yield start


@pytest.fixture(scope='session')
def finish(start):
  """`finish([program, *args], ...)` runs programs side by side, to ends that have to be good."""

  def finish(*commands):
    started = [start(*command) for command in commands]
    for run in started:
      assert run.wait() == 0, run.stderr
      assert run.said == [], run.stderr
    return started

  return finish


@pytest.fixture(scope='session')
def observation_spec():
  return BoundedTensorSpec([N_STATES], tf.float32, -10, 10)


@pytest.fixture(scope='session')
def action_spec():
  return BoundedTensorSpec([len(LOW)], tf.float32, LOW, HIGH)


@pytest.fixture(scope='session')
def box(action_spec):
  return Box.of(action_spec)


@pytest.fixture(scope='session')
def transitions():
  """40 random transitions: some actions on the very edge of the box, every fifth one terminal."""
  random = np.random.default_rng(0)
  rows = Transitions.zeros(N_ROWS, N_STATES, len(LOW))
  for states in (rows.s1, rows.s2):
    states[:] = random.normal(size=states.shape)
  for actions in (rows.a1, rows.a2):
    actions[:] = random.uniform(LOW, HIGH, actions.shape)
    actions[::7] = HIGH
    actions[3::7] = LOW
  rows.reward[:] = random.normal(size=N_ROWS)
  rows.discount[:] = np.arange(N_ROWS) % 5 > 0
  rows.end[:] = np.where(rows.discount, GOES_ON, TERMINAL)
  return rows


@pytest.fixture
def data(transitions):
  """The same in a dataset of the test's own."""
  return Dataset(transitions)


@pytest.fixture(scope='session')
def behavior_files(box, tmp_path_factory):
  """Two behavior policies, as `--agent_name=bc` leaves them."""
  folder = tmp_path_factory.mktemp('behavior')
  paths = [str(folder / str(seed) / 'agent_behavior') for seed in (100, 101)]
  for seed, path in zip((100, 101), paths):
    checkpoints.save(path, policy=Actor(N_STATES, (8,), box, Rng(seed, rng.INIT)))
  return paths


@pytest.fixture(scope='session')
def make_agent(observation_spec, action_spec, transitions, behavior_files):
  """`make_agent(name, **parameters)`: a small agent of that name, on the random transitions."""

  def make(name, **parameters):
    given = dict(
      observation_spec=observation_spec,
      action_spec=action_spec,
      data=Dataset(transitions),
      model_params=(((8, 8),), 2),
      batch_size=8,
    )
    given.update(files_of(name, behavior_files[0]))
    return agents.load(name)(**{**given, **parameters})

  return make


@pytest.fixture
def small_disk(request, tmp_path):
  """The folder of a file system of 256 kB, or of what its parameter says."""
  folder = str(tmp_path / 'disk')
  os.mkdir(folder)
  size = getattr(request, 'param', '256k')
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', folder]
  if not shutil.which('mount') or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('no right to mount a small file system here')
  yield folder
  subprocess.run(['umount', '--lazy', folder], check=True)  # writers may have files open
