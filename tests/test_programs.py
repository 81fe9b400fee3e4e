"""The three programs as a user starts them: what they leave, how they stop, what they say.

Most of them run in a process that is forked off one that has TensorFlow imported, and that ends
without the interpreter's clean-up; that is all that tells them from `python -m`. The pipeline of
the seed document is typed as it stands there.
"""

import csv
import glob
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import tensorflow as tf
from test_checkpoints import small_disk  # noqa: F401 - a fixture

from brac import (
  checkpoints,
  environments,
  policies,
  policy_loader,
  programs,
  rng,
  rollouts,
  runs,
  train_eval_online,
  training,
)
from brac import files as brac_files
from brac import results as brac_results
from brac.dataset import CUT_OFF, Dataset, load
from brac.errors import UserError
from brac.networks import Actor, Box

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_BRAC = os.path.join(_ROOT, 'brac')

_LAUNCHER = """
import json, os, runpy, sys, traceback
from gym_notices import notices
notices.notices.clear()
from brac import collection, train_eval_offline, train_eval_online

for line in sys.stdin:
  command, *rest = json.loads(line)
  if command == 'start':
    program, args, out, err, folder = rest
    pid = os.fork()
    if not pid:
      break
    answer = pid
  else:
    pid, status = os.waitpid(rest[0], 0 if command == 'wait' else os.WNOHANG)
    answer = os.waitstatus_to_exitcode(status) if pid else None
  print(json.dumps(answer), flush=True)
else:
  sys.exit()

os.chdir(folder)
for fd, path in enumerate((os.devnull, out, err)):
  os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT if fd else os.O_RDONLY), fd)
sys.argv = [program, *args]
status = 1
try:
  runpy.run_module('brac.' + program, run_name='__main__', alter_sys=True)
except SystemExit as end:
  status = end.code
except BaseException:
  traceback.print_exc()
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)
"""


class Run:
  """A program that was started."""

  def __init__(self, ask, pid, out, err):
    self._ask, self.pid, self._out, self._err = ask, pid, out, err
    self.status = None

  def poll(self):
    """The exit status, minus the signal that killed it; None while it runs."""
    if self.status is None:
      self.status = self._ask('poll', self.pid)
    return self.status

  def wait(self):
    if self.status is None:
      self.status = self._ask('wait', self.pid)
    return self.status

  def stop(self, signal_number, when):
    """Sends a signal as soon as `when()`; returns the exit status."""
    while self.poll() is None:
      if when():
        os.kill(self.pid, signal_number)
        return self.wait()
      time.sleep(0.01)
    raise AssertionError(f'ended too early, with {self.status}: {self.stderr}')

  @property
  def home(self):
    return os.path.dirname(self._out)

  @property
  def stdout(self):
    with open(self._out) as f:
      return f.read()

  @property
  def stderr(self):
    with open(self._err) as f:
      return f.read()

  @property
  def said(self):
    """The lines on stderr, but for the log's."""
    return [line for line in self.stderr.splitlines() if not re.match(r'[IW]\d{4} [\d:.]+ ', line)]


@pytest.fixture(scope='module')
def start(tmp_path_factory):
  """`start(program, *args)` starts a program in a process of its own and returns its `Run`."""
  folder = tmp_path_factory.mktemp('runs')
  environment = {**os.environ, 'HOME': str(folder), 'TF_CPP_MIN_LOG_LEVEL': '3'}
  process = subprocess.Popen(
    [sys.executable, '-c', _LAUNCHER],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    env=environment,
    text=True,
  )
  started = []

  def ask(*question):
    process.stdin.write(json.dumps(question) + '\n')
    process.stdin.flush()
    return json.loads(process.stdout.readline())

  def start(program, *args):
    out, err = (str(folder / f'{len(started)}.{name}') for name in ('out', 'err'))
    for path in (out, err):
      open(path, 'w').close()
    pid = ask('start', program, args, out, err, str(folder))
    started.append(Run(ask, pid, out, err))
    return started[-1]

  with process:
    yield start
    for run in started:
      if run.poll() is None:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    process.stdin.close()


@pytest.fixture(scope='module')
def finish(start):
  """`finish([program, *args], ...)` runs programs side by side, to ends that have to be good."""

  def finish(*commands):
    started = [start(*command) for command in commands]
    for run in started:
      assert run.wait() == 0, run.stderr
      assert run.said == [], run.stderr
    return started

  return finish


# --- What runs leave, read back -------------------------------------------------------------------


def files(folder):
  """The contents of the files below a folder, by their relative paths."""
  found = {}
  for root, _, names in os.walk(folder):
    for name in names:
      with open(os.path.join(root, name), 'rb') as f:
        found[os.path.relpath(f.name, folder)] = f.read()
  return found


def checkpoint_names(folder):
  paths = glob.glob(os.path.join(glob.escape(str(folder)), '**', '*.index'), recursive=True)
  names = sorted(os.path.relpath(path, folder)[: -len('.index')] for path in paths)
  return [name for name in names if not name.endswith('.old')]


def values(path):
  reader = checkpoints.Reader(str(path))
  return {key: reader.read(key) for key in reader.shapes}


def scalars(folder):
  """`(tag, step, value)` of the TensorBoard events in a folder, in order of steps and tags."""
  found = []
  for path in glob.glob(os.path.join(glob.escape(str(folder)), 'events.out.tfevents.*')):
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      found += [(v.tag, event.step, float(tf.make_ndarray(v.tensor))) for v in event.summary.value]
  return sorted(found, key=lambda x: (x[1], x[0]))


def results(folder):
  """The header of `results.csv` and its rows."""
  try:
    with open(os.path.join(folder, 'results.csv'), newline='') as f:
      header, *rows = csv.reader(f)
  except FileNotFoundError:
    return [], []
  return header, [[int(step), *map(float, means)] for step, *means in rows]


def n_rows(folder):
  return len(results(folder)[1])


def assert_same_values(path, other):
  a, b = values(path), values(other)
  assert a.keys() == b.keys()
  for key in a:
    np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def assert_same_run(folder, other):
  """Weights, optimizers, random state, replay, results and TensorBoard's numbers, bit for bit."""
  assert checkpoint_names(folder) == checkpoint_names(other)
  for name in checkpoint_names(folder):
    assert_same_values(os.path.join(folder, name), os.path.join(other, name))
  assert files(folder)['results.csv'] == files(other)['results.csv']
  parts = ['train'] + [os.path.join('eval', name) for name in os.listdir(folder / 'eval')]
  for part in parts:
    assert scalars(folder / part) == scalars(other / part)
    # No step is there twice.
    assert len({x[:2] for x in scalars(folder / part)}) == len(scalars(folder / part))


def no_litter(folder):
  return not any(
    re.search(r'unfinished|\.new|\.moving|_temp|tempst', name) for name in files(folder)
  )


# --- A small world --------------------------------------------------------------------------------

RANDWALK = """
  def get_data_config(env_name, policy_root_dir=None):
    return [['randwalk', ['randwalk', '', ['none'], ()], 1.0]]
"""
MIXTURE = """
  def get_data_config(env_name, policy_root_dir=None):
    return [
      ['randwalk', ['randwalk', '', ['none'], ()], 0.2],
      ['untrained', ['randinit', '', ['none'], (8,)], 0.4],
      ['noisy', ['randinit', '', ['gaussianeps', 0.3, 0.5], (8,)], 0.4],
    ]
"""
CONFIGS = {
  'dcfg_randwalk': RANDWALK,
  'dcfg_mixture': MIXTURE,
  'dcfg_proportions': RANDWALK.replace('1.0', '0.9'),
  'dcfg_wrapper': RANDWALK.replace("['none']", "['gausian', 0.1]"),
  'dcfg_ptype': RANDWALK.replace("['randwalk', ''", "['randwlak', ''"),
  'dcfg_syntax': RANDWALK.replace('return [[', 'return [[['),
  'dcfg_raises': RANDWALK.replace('return', 'assert env_name == 1; return'),
  'dcfg_exits': RANDWALK.replace('return', 'raise SystemExit; return'),
  'dcfg_list': RANDWALK.replace("['none']", "[['none']]"),
  'dcfg_own': """
    def get_data_config(env_name, policy_root_dir=None):
      return [['p', ['load', policy_root_dir + '/pendulum', ['none'], (8,)], 1.0]]
  """,
  'dcfg_units': """
    def get_data_config(env_name, policy_root_dir=None):
      return [['p', ['load', policy_root_dir + '/pendulum', ['none'], (200, 200)], 1.0]]
  """,
}


@pytest.fixture(scope='module')
def world(tmp_path_factory, finish):
  """A folder with datasets of Pendulum-v1, good and bad, policies and configs."""
  folder = tmp_path_factory.mktemp('world')
  (folder / 'configs').mkdir()
  for name, source in CONFIGS.items():
    (folder / 'configs' / f'{name}.py').write_text(textwrap.dedent(source))
  (folder / 'broken.gin').write_text('train_eval_offline.batch_size = 8\nthis is not gin\n')
  (folder / 'good.gin').write_text('train_eval_offline.batch_size = 8\n')
  (folder / 'file').write_text('mine')
  finish(['collect_data', *collect_args(folder, 'randwalk')])
  data = folder / 'data' / 'Pendulum-v1'
  shutil.copytree(data, folder / 'data' / 'HalfCheetah-v2')
  shutil.copytree(data / 'randwalk', data / 'damaged')
  os.truncate(data / 'damaged' / '0' / 'data.index', 100)
  rows = load(str(data / 'randwalk' / '0' / 'data'), 3, 1)
  checkpoints.save(str(data / 'empty' / '0' / 'data'), data=Dataset(rows, size=0))
  rows.s2[7, 1] = np.nan
  checkpoints.save(str(data / 'nan' / '0' / 'data'), data=Dataset(rows))
  rows.s2[7, 1] = 0
  for name, field, values in (
    ('discounts', '_discount', rows.discount + 6),
    ('text', '_s1', rows.s1.astype(str)),
    ('outside', '_a1', rows.a1 + 9),
    ('many_sizes', '_current_size', [10, 20]),
  ):
    other = Dataset(rows)
    setattr(other, field, tf.Variable(values))
    checkpoints.save(str(data / name / '0' / 'data'), data=other)
  shutil.copytree(data / 'randwalk', data / 'no_index')
  os.remove(data / 'no_index' / '0' / 'data.index')
  nan = Actor(3, (8,), Box(np.zeros(1, np.float32), np.ones(1, np.float32)), rng.Rng(0))
  nan.variables[0].assign(nan.variables[0] * np.nan)
  checkpoints.save(str(folder / 'policies' / 'nan'), policy=nan)
  for name, n_states, n_actions in (('pendulum', 3, 1), ('cheetah', 17, 6)):
    ones = np.ones(n_actions, np.float32)
    actor = Actor(n_states, (8,), Box(0 * ones, 2 * ones), rng.Rng(0))
    checkpoints.save(str(folder / 'policies' / name), policy=actor)
  return folder


def collect_args(world, name, *args, root='data'):
  return (
    f'--root_dir={world / root}',
    '--env_name=Pendulum-v1',
    f'--data_name={name}',
    f'--config_dir={world / "configs"}',
    f'--config_file=dcfg_{name}',
    '--n_samples=1000',
    '--n_eval_episodes=1',
    *args,
  )


def gin(binding):
  return [f'--gin_bindings={binding}']


def bind(function, **parameters):
  return [f'--gin_bindings={function}.{name}={value!r}' for name, value in parameters.items()]


def offline_args(world, root, *args, **parameters):
  small = dict(model_params=(((8, 8),), 2), batch_size=16, summary_freq=20, eval_freq=200)
  return (
    f'--root_dir={root}',
    f'--data_root_dir={world / "data"}',
    '--data_name=randwalk',
    '--env_name=Pendulum-v1',
    '--agent_name=sac',
    '--n_train=1000',
    '--n_eval_episodes=1',
    '--total_train_steps=400',
    *bind('train_eval_offline', **{**small, **parameters}),
    *args,
  )


def offline_dir(root, agent_name='sac', seed=0, n_train=1000, sub_dir='0'):
  place = f'Pendulum-v1/randwalk/n{n_train}/{agent_name}/{sub_dir}/{seed}'
  return pathlib.Path(root, place)


def online_args(root, *args, **parameters):
  small = dict(
    model_params=(((8, 8),), 2),
    batch_size=16,
    summary_freq=20,
    eval_freq=200,
    initial_explore_steps=250,
    replay_buffer_size=600,
  )
  return (
    f'--root_dir={root}',
    '--env_name=Pendulum-v1',
    '--n_eval_episodes=1',
    '--total_train_steps=400',
    *bind('train_eval_online', **{**small, **parameters}),
    *args,
  )


def online_dir(root, agent_name='sac', sub_dir='0'):
  return pathlib.Path(root, f'Pendulum-v1/{agent_name}/{sub_dir}')


# The quickest run there is.
BRIEF = ('--agent_name=bc', '--total_train_steps=1')


# --- The seed document's pipeline, typed ----------------------------------------------------------


def type_in(command, folder, home):
  """Runs `python -m ...` as in a shell at a folder; returns its stderr."""
  environment = {k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'}
  run = subprocess.run(
    [sys.executable, *command],
    cwd=folder,
    env={**environment, 'HOME': str(home)},
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  assert run.stdout == ''
  lines = run.stderr.splitlines()
  assert all(re.match(r'[IW]\d{4} [\d:.]+ ', line) for line in lines), run.stderr
  return run.stderr


def tags(folder):
  return {tag for tag, _, _ in scalars(folder)}


def test_the_pipeline_of_the_seed_document(tmp_path):
  home = tmp_path
  root = home / 'tmp' / 'offlinerl'

  type_in(
    [
      *('-m', 'train_online'),
      '--sub_dir=0',
      '--env_name=HalfCheetah-v2',
      '--eval_target=-4000',
      '--agent_name=sac',
      '--total_train_steps=90',
      '--n_eval_episodes=1',
      '--gin_bindings=train_eval_online.model_params=(((300, 300), (200, 200),), 2)',
      '--gin_bindings=train_eval_online.batch_size=256',
      "--gin_bindings=train_eval_online.optimizers=(('adam', 0.0005),)",
      '--gin_bindings=train_eval_online.initial_explore_steps=300',
      '--gin_bindings=train_eval_online.eval_freq=30',
      '--gin_bindings=train_eval_online.save_freq=40',
      '--gin_bindings=train_eval_online.summary_freq=15',
    ],
    _BRAC,
    home,
  )
  run = root / 'policies' / 'HalfCheetah-v2' / 'sac' / '0'
  assert checkpoint_names(run) == [
    *('agent-40', 'agent-80', 'agent_final', 'agent_partial_target'),
    *('replay_final', 'replay_partial_target'),
  ]
  header, rows = results(run)
  assert header == ['step', 'main'] and [row[0] for row in rows] == [30, 60, 90]
  assert scalars(run / 'eval' / 'main') == [
    ('episode_mean', step, float(np.float32(mean))) for step, mean in rows
  ]
  terms = 'q_loss q_norm r_mean dsc_mean q2_target_mean q1_target_mean p_loss p_norm a_loss alpha'
  assert tags(run / 'train') == set(terms.split())
  assert {step for _, step, _ in scalars(run / 'train')} == {15, 30, 45, 60, 75, 90}
  # A time limit does not cut the bootstrap, and a cheetah never falls.
  assert {value for tag, _, value in scalars(run / 'train') if tag == 'dsc_mean'} == {1.0}
  # The target was reached by the last two of the first evaluations.
  assert values(run / 'agent_partial_target')['global_step'] == 60
  assert values(run / 'agent_final')['global_step'] == 90
  for name, n in (('replay_partial_target', 360), ('replay_final', 390)):
    assert values(run / name)['data/_current_size'] == n
  assert 'train_eval_online.eval_freq = 30' in (run / 'operative_config.gin').read_text()
  assert no_litter(run)

  type_in(
    [
      *('-m', 'brac.collect_data'),
      '--sub_dir=0',
      '--env_name=HalfCheetah-v2',
      '--data_name=example',
      '--config_file=dcfg_example',
      '--n_samples=600',
      '--n_eval_episodes=1',
    ],
    home,
    home,
  )
  data = root / 'data' / 'HalfCheetah-v2' / 'example' / '0'
  assert checkpoint_names(data) == ['data'] and no_litter(data)
  rows = load(str(data / 'data'), 17, 6)
  assert len(rows.reward) == 600
  # Each of the three policies fills a stretch of its own.
  assert np.flatnonzero(rows.end == CUT_OFF)[-1] == 599
  assert {119, 359} < set(np.flatnonzero(rows.end == CUT_OFF))

  common = [
    '--sub_dir=0',
    '--env_name=HalfCheetah-v2',
    '--data_name=example',
    '--n_eval_episodes=1',
    '--gin_bindings=train_eval_offline.batch_size=256',
    '--gin_bindings=train_eval_offline.eval_freq=20',
    '--gin_bindings=train_eval_offline.summary_freq=10',
    '--gin_bindings=train_eval_offline.save_freq=20',
  ]
  log = type_in(
    [
      *('-m', 'train_offline'),
      *common,
      '--agent_name=bc',
      '--total_train_steps=40',
      '--n_train=1000000',
      '--seed=0',
      '--gin_bindings=train_eval_offline.model_params=((200, 200),)',
      "--gin_bindings=train_eval_offline.optimizers=(('adam', 5e-4),)",
    ],
    _BRAC,
    home,
  )
  assert re.search(r'^W.* n_train is 1000000, .* has 600 transitions: all of them', log, re.M)
  learn = root / 'learn' / 'HalfCheetah-v2' / 'example' / 'n1000000'
  run = learn / 'bc' / '0' / '0'
  assert checkpoint_names(run) == ['agent', 'agent_behavior']
  assert {key.split('/')[0] for key in values(run / 'agent_behavior')} <= {'policy', 'save_counter'}
  assert results(run)[0] == ['step', 'main'] and n_rows(run) == 2
  assert tags(run / 'train') == {'p_loss', 'p_norm', 'ae_loss', 'alpha_entropy'}
  assert no_litter(run)

  log = type_in(
    [
      *('-m', 'brac.train_offline'),
      *common,
      '--agent_name=brac_primal',
      '--total_train_steps=40',
      f"--gin_bindings=brac_primal_agent.Agent.behavior_ckpt_file='{run}/agent_behavior'",
      '--gin_bindings=brac_primal_agent.Agent.alpha=0.1',
      '--gin_bindings=brac_primal_agent.Agent.value_penalty=True',
      '--gin_bindings=train_eval_offline.model_params=(((300, 300), (200, 200),), 2)',
      '--gin_bindings=train_eval_offline.optimizers='
      "(('adam', 1e-3), ('adam', 3e-04), ('adam', 1e-3))",
    ],
    home,
    home,
  )
  assert re.search(r'^W.* warm_start is 20000, and the run ends at step 40', log, re.M)
  run = learn / 'brac_primal' / '0' / '0'
  assert checkpoint_names(run) == ['agent']
  header, rows = results(run)
  assert header == ['step', 'main', 'max_q'] and [row[0] for row in rows] == [20, 40]
  for k, name in enumerate(('main', 'max_q')):
    assert scalars(run / 'eval' / name) == [
      ('episode_mean', row[0], float(np.float32(row[1 + k]))) for row in rows
    ]
  terms = 'q_loss q_norm r_mean dsc_mean q2_target_mean q1_target_mean p_loss p_norm'
  assert tags(run / 'train') >= {*terms.split(), 'div_mean', 'div_std'}
  operative = (run / 'operative_config.gin').read_text()
  assert re.match(r'# version: \d.* of source \w{8}\n', operative)
  assert 'brac_primal_agent.Agent.alpha = 0.1' in operative
  assert 'brac_primal_agent.Agent.n_div_samples = 4' in operative
  assert no_litter(run)


# --- Flags ----------------------------------------------------------------------------------------

COMMON_FLAGS = {'seed': 0, 'n_eval_episodes': 20, 'gin_file': [], 'gin_bindings': []}
FLAGS = {
  'train_online': {
    'root_dir': '{HOME}/tmp/offlinerl/policies',
    'sub_dir': '0',
    'agent_name': 'sac',
    'env_name': 'Walker2d-v2',
    'eval_target': 1000,
    'total_train_steps': 500000,
  },
  'collect_data': {
    'root_dir': '{HOME}/tmp/offlinerl/data',
    'sub_dir': '0',
    'env_name': 'HalfCheetah-v2',
    'data_name': 'random',
    'config_file': 'dcfg_pure',
    'policy_root_dir': None,
    'n_samples': 1000000,
  },
  'train_offline': {
    'root_dir': '{HOME}/tmp/offlinerl/learn',
    'sub_dir': '0',
    'data_root_dir': '{HOME}/tmp/offlinerl/data',
    'data_sub_dir': '0',
    'data_name': 'eps1',
    'data_file_name': 'data',
    'agent_name': 'sac',
    'env_name': 'HalfCheetah-v2',
    'total_train_steps': 500000,
    'n_train': 1000000,
  },
}


@pytest.mark.parametrize('program', FLAGS)
def test_help_has_every_flag_with_its_default_and_what_it_means(start, tmp_path, program):
  run = start(program, '--helpshort')
  run.wait()
  helps = re.findall(
    r'^  --(?:\[no\])?(\w+): (.*?)(?=^  --|\Z)', run.stdout + run.stderr, re.M | re.S
  )
  helps = {name: ' '.join(text.split()) for name, text in helps}
  for name, default in {**COMMON_FLAGS, **FLAGS[program]}.items():
    text = helps[name]
    if default in (None, []):
      assert '(default: ' not in text or '(default: [])' in text or "(default: '[]')" in text, text
    else:
      shown = str(default).replace('{HOME}', run.home)
      assert re.search(rf"\(default: '?{re.escape(shown)}(\.0)?'?\)", text), text
  assert {'config_dir'} <= set(helps) or program != 'collect_data'
  for name, text in helps.items():
    meaning = re.sub(r'^<[\w|]*>: |\(default: .*|\(an? .*|; repeat this option.*', '', text).strip()
    assert len(meaning) > 10, f'--{name}: {text}'


def test_help_does_not_wait_for_tensorflow():
  code = 'import sys, brac.train_offline; sys.exit("tensorflow" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_a_typed_mistake_is_one_line(tmp_path):
  def type_in(name, folder):
    return subprocess.Popen(
      [sys.executable, '-m', name, f'--root_dir={tmp_path}/root', '--env_name=HalfCheeta-v2'],
      cwd=folder,
      env={**os.environ, 'HOME': str(tmp_path)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  for process in (type_in('brac.train_offline', tmp_path), type_in('train_offline', _BRAC)):
    out, err = process.communicate()
    assert process.returncode == 1 and out == ''
    (line,) = err.splitlines()
    assert line.startswith('train_offline: ') and "'HalfCheetah-v" in line
  assert not os.path.exists(tmp_path / 'root')


def test_sub_dir_auto_is_the_date_and_time(finish, world, tmp_path):
  finish(
    ['train_offline', *offline_args(world, tmp_path, *BRIEF, '--sub_dir=auto')],
    ['train_online', *online_args(tmp_path, '--total_train_steps=1', '--sub_dir=auto')],
    ['collect_data', *collect_args(world, 'randwalk', '--sub_dir=auto', root=tmp_path)],
  )
  for parent, last, name in (
    ('randwalk/n1000/bc', '0', 'agent'),
    ('sac', '', 'agent_final'),
    ('randwalk', '', 'data'),
  ):
    parent = tmp_path / 'Pendulum-v1' / parent
    (sub_dir,) = set(os.listdir(parent)) - {'n1000'}
    then = time.mktime(time.strptime(sub_dir, '%Y-%m-%d-%H-%M-%S'))
    assert abs(then - os.path.getmtime(parent / sub_dir)) < 3600
    assert name in checkpoint_names(parent / sub_dir / last)


def test_a_return_is_the_mean_of_as_many_episodes_as_the_flag_says(finish, world, tmp_path):
  n = '--n_eval_episodes=3'
  collecting, *_ = finish(
    ['collect_data', *collect_args(world, 'randwalk', n, root=tmp_path / 'data')],
    ['train_offline', *offline_args(world, tmp_path, *BRIEF, n)],
    ['train_online', *online_args(tmp_path, '--total_train_steps=1', n)],
  )
  env = environments.make_batch('Pendulum-v1', 1, 0)
  specs = env.observation_spec, env.action_spec

  def evaluate(policy, seed, step):
    return rollouts.Evaluator('Pendulum-v1', {'main': policy}, 3, seed).run(step)['main']

  for path in (
    offline_dir(tmp_path, 'bc') / 'agent_behavior',
    online_dir(tmp_path) / 'agent_final',
  ):
    actor = policy_loader.load_actor(str(path), 3, Box.of(specs[1]), 'policy')
    returns = evaluate(policies.ActorPolicy(*specs, actor, True), 0, 1)
    assert results(path.parent)[1] == [[1, pytest.approx(returns.mean(), rel=1e-5)]]
  returns = evaluate(policies.RandomPolicy(*specs), rollouts.seed_of(0, 0), 0)
  assert f'return {returns.mean():.1f} ± {returns.std():.1f}\n' in collecting.stderr


@pytest.mark.parametrize('home, name', [('~', 'tilde'), ('$HOME', 'dollar')])
def test_folders_may_be_given_by_a_tilde_and_by_home(finish, world, home, name):
  # No shell puts these in where they follow a sign of equality.
  (run,) = finish(['train_offline', *offline_args(world, f'{home}/{name}/learn', *BRIEF)])
  folder = os.path.join(run.home, name)
  assert checkpoint_names(offline_dir(f'{folder}/learn', 'bc')) == ['agent', 'agent_behavior']
  shutil.copytree(world, f'{folder}/world')
  finish(
    [
      *('train_offline', *offline_args(world, f'{folder}/other', *BRIEF)),
      f'--data_root_dir={home}/{name}/world/data',
    ],
    [
      *('collect_data', *collect_args(world, 'own')),
      f'--root_dir={home}/{name}/data',
      f'--config_dir={home}/{name}/world/configs',
      f'--policy_root_dir={home}/{name}/world/policies',
    ],
  )
  assert checkpoint_names(f'{folder}/data') == ['Pendulum-v1/own/0/data']


def test_gin_files_and_bindings_are_taken_together(finish, world, tmp_path):
  other = tmp_path / 'other.gin'
  other.write_text('train_eval_offline.discount = 0.5\ntrain_eval_offline.update_rate = 0.5\n')
  args = [arg for arg in offline_args(world, tmp_path, *BRIEF) if not arg.startswith('--gin')]
  finish(
    [
      'train_offline',
      *args,
      f'--gin_file={world / "good.gin"}',
      f'--gin_file={other}',
      *gin('train_eval_offline.update_rate=0.25'),
      *gin('bc_agent.Agent.alpha_entropy=0.75'),
      *gin('import math'),
    ]
  )
  operative = (offline_dir(tmp_path, 'bc') / 'operative_config.gin').read_text()
  for name, value in (('batch_size', '8'), ('discount', '0.5'), ('update_rate', '0.25')):
    assert f'train_eval_offline.{name} = {value}\n' in operative
  assert 'bc_agent.Agent.alpha_entropy = 0.75' in operative


def test_whole_floats_count_in_an_online_run(tmp_path):
  small = dict(initial_explore_steps=20.0, replay_buffer_size=1e2, batch_size=8.0, eval_freq=2.0)
  train_eval_online.train_eval_online(
    log_dir=str(tmp_path),
    agent_name='sac',
    env_name='Pendulum-v1',
    eval_target=-1e9,
    total_train_steps=4,
    n_eval_episodes=1,
    seed=0,
    model_params=(((8, 8),), 2),
    eval_target_n=2.0,
    update_freq=2.0,
    **small,
  )
  assert len(values(tmp_path / 'agent_partial_target')) and n_rows(tmp_path) == 2


# --- Presets --------------------------------------------------------------------------------------


def preset_args(world, root, preset, *args, steps=2):
  # The launcher's folder is neither the project's nor has a folder configs.
  return (
    *('train_offline', f'--gin_file={preset}', '--env_name=Pendulum-v1', '--data_name=randwalk'),
    *(f'--root_dir={root}', f'--data_root_dir={world / "data"}', '--n_train=1000'),
    *('--n_eval_episodes=1', f'--total_train_steps={steps}', *args),
  )


def test_a_preset_names_the_run_and_finds_the_clone_that_it_keeps(finish, world, tmp_path):
  root = tmp_path / 'a folder whose name is long enough for gin to break it over several lines'
  finish(preset_args(world, root, 'bc.gin'))
  clone = offline_dir(root, 'bc') / 'agent_behavior'
  mine = tmp_path / 'kl_strong.gin'
  mine.write_text(f"include '{_ROOT}/configs/kl_vp.gin'\nbrac_primal_agent.Agent.alpha = 3.0\n")
  runs = finish(
    preset_args(world, root, 'configs/kl_vp.gin', '--seed=3'),
    preset_args(world, root, 'mmd_pr.gin', '--sub_dir=x', '--agent_name=brac_primal'),
    preset_args(world, root, mine),
  )
  for run in runs:
    assert f'the behavior policy is {clone}\n' in run.stderr
  kl_vp = offline_dir(root, 'kl_vp', seed=3)
  for folder in (kl_vp, offline_dir(root, 'mmd_pr', sub_dir='x'), offline_dir(root, 'kl_strong')):
    assert checkpoint_names(folder) == ['agent']
  assert 'alpha = 3.0\n' in (offline_dir(root, 'kl_strong') / 'operative_config.gin').read_text()

  # Of which data a clone is, its run tells.
  data = world / 'data' / 'Pendulum-v1' / 'randwalk'
  rows = load(str(data / '0' / 'data'), 3, 1)
  rows.reward[0] += 1
  checkpoints.save(str(data / 'other' / 'data'), data=Dataset(rows))
  elsewhere = preset_args(world, root, 'kl_pr.gin', '--seed=4', '--data_sub_dir=other')
  elsewhere += tuple(gin('mmd.use_sqrt=True'))
  (other_data,) = finish(elsewhere)
  assert re.search(
    f'^W.*{re.escape(str(clone))} was cloned from other data', other_data.stderr, re.M
  )
  assert 'mmd.use_sqrt is bound, but the agent of this run does not' in other_data.stderr
  for run in runs:
    assert not re.search('was cloned from other data|is bound, but', run.stderr)

  # A nearer clone is for runs that begin.
  finish(preset_args(world, root, 'bc.gin', '--seed=3'))
  again = [
    preset_args(world, root, 'kl_vp.gin', '--seed=3', steps=4),
    preset_args(world, root, 'kl_pr.gin', '--seed=3'),
  ]
  going_on, other = finish(*again)
  assert f'the behavior policy is {clone}\n' in going_on.stderr
  assert values(kl_vp / 'agent')['global_step'] == 4
  own = offline_dir(root, 'bc', seed=3) / 'agent_behavior'
  assert f'the behavior policy is {own}\n' in other.stderr


def test_the_last_of_several_presets_counts(finish, world, tmp_path):
  more = tmp_path / 'more.gin'
  more.write_text('train_eval_offline.discount = 0.5\n')
  finish(preset_args(world, tmp_path, 'sac.gin', '--gin_file=bc.gin', f'--gin_file={more}'))
  folder = offline_dir(tmp_path, 'bc')
  assert checkpoint_names(folder) == ['agent', 'agent_behavior']
  assert 'discount = 0.5\n' in (folder / 'operative_config.gin').read_text()


# --- Seeds ----------------------------------------------------------------------------------------


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


# --- Stopped, and started again -------------------------------------------------------------------


@pytest.fixture(scope='module')
def straight(finish, world, tmp_path_factory):
  """Runs that nobody stopped."""
  root = tmp_path_factory.mktemp('straight')
  finish(
    ['train_offline', *offline_args(world, root, LONG, **LONG_GIN)],
    ['train_online', *online_args(root, LONG, '--eval_target=-1e9', **LONG_GIN)],
  )
  return root


LONG = '--total_train_steps=1600'
LONG_GIN = dict(save_freq=350, eval_freq=100)


def stop_and_go_on(start, command, folder, save):
  """Stops a run in each way, some rows of its results apart, and lets it end."""
  run = start(*command)
  assert run.stop(signal.SIGTERM, lambda: n_rows(folder) >= 1) == 143
  (line,) = run.said
  step = re.fullmatch(
    r'stopped by SIGTERM; step (\d+) is saved: the same command goes on from there', line
  )
  assert values(folder / save)['global_step'] == int(step[1]) < 1600

  run = start(*command)
  assert run.stop(signal.SIGINT, lambda: n_rows(folder) >= 4) == 130
  assert run.said[-1].startswith('stopped by SIGINT; step ')
  assert f'going on from step {step[1]} of ' in run.stderr

  # As a crash: what was written after the last save is to go.
  run = start(*command)
  assert run.stop(signal.SIGKILL, lambda: n_rows(folder) >= 8) == -signal.SIGKILL
  assert start(*command).wait() == 0


def test_an_offline_run_that_was_stopped_equals_one_that_was_not(start, world, straight, tmp_path):
  command = ['train_offline', *offline_args(world, tmp_path, LONG, **LONG_GIN)]
  folder = offline_dir(tmp_path)
  stop_and_go_on(start, command, folder, 'agent')
  assert_same_run(folder, offline_dir(straight))
  assert no_litter(folder)


def test_an_online_run_that_was_stopped_equals_one_that_was_not(start, straight, tmp_path):
  command = ['train_online', *online_args(tmp_path, LONG, '--eval_target=-1e9', **LONG_GIN)]
  folder = online_dir(tmp_path)
  stop_and_go_on(start, command, folder, 'state')
  assert checkpoint_names(folder) == [
    *('agent-1050', 'agent-1400', 'agent-350', 'agent-700'),
    *('agent_final', 'agent_partial_target', 'replay_final', 'replay_partial_target'),
  ]
  assert_same_run(folder, online_dir(straight))
  assert no_litter(folder)


def test_an_online_run_that_is_killed_before_it_saved_a_step_starts_afresh(start, world, tmp_path):
  command, folder = ['train_online', *online_args(tmp_path)], online_dir(tmp_path)
  command.append('--eval_target=-1e9')
  run = start(*command)
  assert run.stop(signal.SIGKILL, lambda: n_rows(folder) >= 2) == -signal.SIGKILL
  # Another run would leave this one's partially trained policy among its own files.
  check_mistake(start(*command, '--seed=1'), world, 'train_online', ['--seed was 0, is 1'])
  assert start(*command).wait() == 0
  assert [row[0] for row in results(folder)[1]] == [200, 400]
  assert [step for _, step, _ in scalars(folder / 'eval' / 'main')] == [200, 400]


def test_an_online_run_that_was_stopped_while_it_explored_equals_one_that_was_not(start, tmp_path):
  roots = tmp_path / 'stopped', tmp_path / 'straight'
  commands = [['train_online', *online_args(r, initial_explore_steps=20_000)] for r in roots]
  run = start(*commands[0])
  begun = online_dir(roots[0]) / 'operative_config.gin'
  assert run.stop(signal.SIGTERM, begun.exists) == 143
  assert run.said == ['stopped by SIGTERM; step 0 is saved: the same command goes on from there']
  assert 0 < values(online_dir(roots[0]) / 'state')['rollout/n_explored'] < 20_000
  for command in commands:
    assert start(*command).wait() == 0
  assert_same_run(*map(online_dir, roots))


def test_a_second_signal_does_not_wait(monkeypatch):
  monkeypatch.setattr(runs, '_stop_signals', [])
  before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
  try:
    runs.catch_stops()
    os.kill(os.getpid(), signal.SIGINT)
    assert runs.stop_requested()
    with pytest.raises(KeyboardInterrupt) as second:
      os.kill(os.getpid(), signal.SIGTERM)
    assert second.value.args == (signal.SIGTERM,)
  finally:
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGTERM, before[1])


def test_a_dataset_that_has_the_name_of_another_config_is_warned_of(finish, world, tmp_path):
  other, own = finish(
    *(
      ['collect_data', *collect_args(world, name, '--config_file=dcfg_randwalk', root=tmp_path)]
      for name in ('mixture', 'randwalk')
    )
  )
  assert re.search('^W.* called mixture, but is collected as dcfg_randwalk.py', other.stderr, re.M)
  for run in (other, own):
    assert f'the data config is {world}/configs/dcfg_randwalk.py' in run.stderr
  assert 'but is collected as' not in own.stderr


def test_a_collection_that_was_stopped_equals_one_that_was_not(start, finish, world, tmp_path):
  given = ['--gin_bindings=collect.n_envs=3', '--n_samples=12000']
  place = 'Pendulum-v1/mixture/0'
  folder = tmp_path / 'stopped' / place
  command = ['collect_data', *collect_args(world, 'mixture', *given, root=tmp_path / 'stopped')]
  run = start(*command)
  # The policy that it is at says so before it begins.
  assert run.stop(signal.SIGTERM, lambda: 'untrained: ' in run.stderr) == 143
  (line,) = run.said
  assert line.startswith('stopped by SIGTERM; ') and 'goes on from there' in line
  assert not checkpoints.exists(str(folder / 'data'))
  finish(
    command,
    ['collect_data', *collect_args(world, 'mixture', *given, root=tmp_path / 'straight')],
  )
  assert checkpoint_names(folder) == ['data']
  assert_same_values(folder / 'data', tmp_path / 'straight' / place / 'data')


def test_a_run_that_goes_on_says_nothing_but_its_log(finish, world, tmp_path):
  command = ['train_offline', *offline_args(world, tmp_path, *BRIEF)]
  finish(command)
  (run,) = finish([*command, '--total_train_steps=2'])
  lines = run.stderr.splitlines()
  assert len(lines) < 12 and not any(line.startswith('W') for line in lines), run.stderr


def test_a_record_that_is_taken_up_drops_what_came_after_and_what_is_half_written(tmp_path):
  record = runs.Record(str(tmp_path), ['main', 'max_q'])
  for step in (10, 20, 30):
    record.summary(step, {'q_loss': step / 8, 'p_loss': step / 4})
    record.evaluation(step, {'main': np.array([step, 3.0]), 'max_q': np.array([0.5])})
  (path,) = glob.glob(str(tmp_path / 'train' / '*'))
  os.truncate(path, os.path.getsize(path) - 5)

  record = runs.Record(str(tmp_path), ['main', 'max_q'], 20)
  train = [('p_loss', 10, 2.5), ('q_loss', 10, 1.25), ('p_loss', 20, 5.0), ('q_loss', 20, 2.5)]
  assert scalars(tmp_path / 'train') == train
  assert scalars(tmp_path / 'eval' / 'max_q') == [
    (*('episode_mean', step), 0.5) for step in (10, 20)
  ]
  rows = [[10, 6.5, 0.5], [20, 11.5, 0.5]]
  assert results(tmp_path) == (['step', 'main', 'max_q'], rows) and record.results == rows

  record.evaluation(40, {'main': np.array([1.0]), 'max_q': np.array([2.0])})
  assert results(tmp_path)[1] == [*rows, [40, 1.0, 2.0]]
  assert scalars(tmp_path / 'eval' / 'main')[-1] == ('episode_mean', 40, 1.0)


def test_a_record_on_a_full_disk_is_an_error(small_disk):  # noqa: F811
  record = runs.Record(small_disk, ['main'])
  with open(os.path.join(small_disk, 'fill'), 'wb') as f:
    f.write(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - 4096))
  with pytest.raises(UserError) as error:
    for step in range(300):
      record.summary(step, {'q_loss': 1.0})
    record.flush()
  message = str(error.value)
  assert f'cannot write to {small_disk}: ' in message and '\n' not in message
  assert '0 MB free' in message and 'what was saved before is kept' in message
  assert 'function_node' not in message


@pytest.mark.parametrize(
  'content',
  ['', 'step,main\n10,1.5', 'step,main\nabc,1.5\n', 'step,main\n2,x\n', b'\xff\xfe'],
)
def test_a_damaged_results_csv_is_one_line_and_is_not_written_over(tmp_path, content):
  path = tmp_path / 'results.csv'
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  before = files(tmp_path)
  with pytest.raises(UserError, match=rf'{tmp_path}: .*results\.csv .*; put a good copy'):
    runs.Record(str(tmp_path), ['main'], 20)
  assert files(tmp_path) == before


@pytest.mark.parametrize('what', ['lock', 'progress.json'])
def test_what_a_full_disk_does_not_take_is_one_line(small_disk, what):  # noqa: F811
  write = {
    'lock': lambda: runs.lock(small_disk),
    'progress.json': lambda: brac_results.write_progress(small_disk, 1, 2),
  }[what]
  if what != 'lock':
    with open(os.path.join(small_disk, what), 'w') as f:
      f.write('the one before')
  with pytest.raises(OSError), open(os.path.join(small_disk, 'fill'), 'wb', 0) as f:
    while True:
      f.write(bytes(4096))
  before = files(small_disk)
  with pytest.raises(UserError) as error, brac_files.writing(small_disk):
    write()
  message = str(error.value)
  assert message.startswith(f'cannot write to {small_disk}: No space left on device (0 MB free)')
  assert unchanged(before, files(small_disk), 'lock$|unfinished$')


def test_a_longer_online_run_that_finds_the_disk_full_loses_nothing(
  start,
  world,
  finished,
  small_disk,  # noqa: F811
  tmp_path,
):
  more = '--total_train_steps=600'
  shutil.copytree(finished / 'Pendulum-v1', tmp_path / 'Pendulum-v1')
  run_to(start, 'train_online', *online_args(tmp_path, more))
  said = set()
  for room in (30_000, 95_000):
    root = pathlib.Path(small_disk, 'run')
    shutil.copytree(online_dir(finished), online_dir(root))
    fill = os.path.join(small_disk, 'fill')
    with open(fill, 'wb') as f:
      f.write(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - room))
    run = start('train_online', *online_args(root, more))
    status = run.wait()
    if status:
      check_mistake(run, world, 'train_online', ['o space left on device (0 MB free)'])
      said.add(re.search(r'cannot (save|write to) \S*?(\w*)[:;]', run.said[0])[2])
    os.remove(fill)
    if status:
      run_to(start, 'train_online', *online_args(root, more))
    assert_same_run(online_dir(root), online_dir(tmp_path))
    shutil.rmtree(root)
  assert said == {'state', 'replay_final'}


def test_a_number_that_stands_still_for_long_is_warned_of_once():
  watch, said = runs.Watch(['alpha', 'div_mean']), {}
  for step in range(100, 40_000, 100):
    # α is at its bound from step 5,000 on, but for one summary; D moves.
    alpha = 500.0 if step >= 5000 and step != 12_000 else step / 100
    for line in watch.look(step, {'alpha': alpha, 'div_mean': step * 1.0, 'q_loss': 1.0}):
      said[step] = line
  assert list(said) == [22_100]
  assert said[22_100].startswith(
    'alpha has been 500 in every summary from step 12100 to step 22100'
  )


def test_a_multiplier_that_is_trained_and_stays_at_its_bound_is_warned_of(start, world, tmp_path):
  run = start(
    *('train_offline', *offline_args(world, tmp_path, eval_freq=20_000, summary_freq=2000)),
    *('--agent_name=bc', '--total_train_steps=12001'),
    *bind('bc_agent.Agent', alpha_entropy=0.0, target_entropy=-1000.0),
  )
  assert run.wait() == 0
  (line,) = re.findall(r'^W.*\] (.*)$', run.stderr, re.M)
  assert line.startswith('alpha_entropy has been 0 in every summary from step 2000 to step 12000')


def unchanged(before, after, but='lock$'):
  """Compares but for the lock, which a process that does not clean up leaves with its number."""
  keep = [name for name in {*before, *after} if not re.search(but, name)]
  return all(before.get(name) == after.get(name) for name in keep)


def run_to(start, *command):
  run = start(*command)
  assert run.wait() == 0, run.stderr


def test_a_finished_offline_run_changes_nothing_and_goes_on_with_more_steps(start, world, tmp_path):
  folder = offline_dir(tmp_path / 'a', 'bc')
  args = offline_args(world, tmp_path / 'a', '--agent_name=bc')
  run_to(start, 'train_offline', *args)
  before, events = files(folder), scalars(folder / 'train')
  run_to(start, 'train_offline', *args)
  # With fewer steps than it has there is nothing to do either.
  run_to(start, 'train_offline', *args, '--total_train_steps=200')
  assert unchanged(before, files(folder))
  assert scalars(folder / 'train') == events and len(events) > 0
  # But a clone that is damaged is made again.
  with open(folder / 'agent_behavior.data-00000-of-00001', 'r+b') as f:
    f.write(b'damaged')
  run_to(start, 'train_offline', *args)
  assert unchanged(before, files(folder))

  run_to(start, 'train_offline', *args, '--total_train_steps=800')
  args = offline_args(world, tmp_path / 'b', '--agent_name=bc', '--total_train_steps=800')
  run_to(start, 'train_offline', *args)
  assert_same_run(folder, offline_dir(tmp_path / 'b', 'bc'))


def test_a_finished_online_run_changes_nothing_and_goes_on_with_more_steps(start, tmp_path):
  folder = online_dir(tmp_path / 'a')
  args = online_args(tmp_path / 'a')
  run_to(start, 'train_online', *args)
  before, events = files(folder), scalars(folder / 'train')
  run_to(start, 'train_online', *args)
  assert unchanged(before, files(folder))
  assert scalars(folder / 'train') == events and len(events) > 0

  run_to(start, 'train_online', *args, '--total_train_steps=800')
  run_to(start, 'train_online', *online_args(tmp_path / 'b', '--total_train_steps=800'))
  assert_same_run(folder, online_dir(tmp_path / 'b'))


def test_an_online_run_killed_while_it_ends_goes_on(start, tmp_path):
  """At the end the state gives way to two files: whichever of them is missing, nothing is lost."""
  folder = online_dir(tmp_path)
  command = ['train_online', *online_args(tmp_path)]
  run = start(*command)
  assert run.stop(signal.SIGTERM, lambda: n_rows(folder) >= 1) == 143
  state = {
    n: content for n, content in files(folder).items() if re.match(r'state\.(index|data)', n)
  }
  assert len(state) == 2
  run_to(start, *command)
  finished = files(folder)
  for missing in ('agent_final', 'replay_final', 'neither'):
    for name in finished:
      if name.startswith(missing):
        os.remove(folder / name)
    for name, content in state.items():
      (folder / name).write_bytes(content)
    run_to(start, *command)
    assert unchanged(finished, files(folder), 'lock$|tfevents'), missing


# --- Bad input ------------------------------------------------------------------------------------


def primal(world_file='policies/pendulum', *args):
  name = 'brac_primal_agent.Agent.behavior_ckpt_file'
  return ['--agent_name=brac_primal', *gin(f"{name}='{{world}}/{world_file}'"), *args]


# What is given to train_offline on good data, and what the line has to name.
OFFLINE = [
  # Flags.
  (['--agent_name=brac_primol'], ['--agent_name is one of', "did you mean 'brac_primal'?"]),
  (['--agentname=bc'], ['agentname', 'agent_name']),
  (['bc'], ["'bc' is no flag"]),
  (['--seed=-1'], ['seed']),
  (['--seed=three'], ['seed', 'three']),
  (['--seed=99999999999999999999'], ['seed', '99999999999999999999']),
  (['--sub_dir='], ['--sub_dir']),
  (['--sub_dir=../../x'], ['--sub_dir', '../../x']),
  (['--root_dir='], ['--root_dir is empty']),
  (['--total_train_steps=0'], ['total_train_steps']),
  (['--total_train_steps=1e6'], ['total_train_steps', '1e6']),
  (['--n_train=0'], ['n_train']),
  (['--n_eval_episodes=0'], ['n_eval_episodes']),
  # Environments and data.
  (['--env_name=Pendulun-v1'], ["unknown environment 'Pendulun-v1'", "'Pendulum-v1'"]),
  (['--env_name=CartPole-v1'], ['CartPole-v1', 'Discrete(2)', 'Box']),
  (
    ['--data_name=randwlak'],
    ['no dataset at {world}/data/Pendulum-v1/randwlak/0/data', "did you mean 'randwalk'?"],
  ),
  (
    ['--data_name=eps3', '--env_name=HalfCheetah-v2'],
    ['no dataset at {world}/data/HalfCheetah-v2/eps3/0/data', 'this collects one: python -m '
     'brac.collect_data --root_dir={world}/data --env_name=HalfCheetah-v2 --data_name=eps3 '
     '--config_file=dcfg_eps3 --n_samples=1000'],
  ),
  (['--data_sub_dir=nope'], ['no dataset at {world}/data/Pendulum-v1/randwalk/nope/data']),
  (['--data_file_name=date'], ['no dataset at ', 'in that folder there is: data']),
  (['--data_name=empty'], ['{world}/data/Pendulum-v1/empty/0/data is empty']),
  (['--data_name=nan'], ['_s2', 'not finite', 'row 7']),
  (['--data_name=damaged'], ['{world}/data/Pendulum-v1/damaged/0/data is damaged']),
  (['--env_name=HalfCheetah-v2'], ['[1000, 3]', '17 states and 6 actions']),
  (['--data_name=discounts'], ['1000 numbers of _discount', 'not in [0, 1]', 'row 0']),
  (['--data_name=text'], ['_s1 holds no numbers']),
  (['--data_name=many_sizes'], ['_current_size is no whole number']),
  (['--data_name=no_index'], ['no_index/0/data.index is missing']),
  (
    ['--data_name=outside', *gin("train_eval_offline.out_of_box_actions='refuse'")],
    ["1000 of the 1000 transitions", "outside of the environment's box", 'row 0', "'clip'"],
  ),
  (['--n_train=10'], ['batch_size is 16, more than the 10 transitions']),
  # Names in gin.
  (gin('train_eval_oflline.batch_size=8'), ["'train_eval_oflline'", "'train_eval_offline'?"]),
  (gin('train_eval_offline.bach_size=8'), ["no parameter 'bach_size'", "'batch_size'?"]),
  (gin('sac_agnt.Agent.target_entropy=1'), ["'sac_agnt.Agent'", "'sac_agent.Agent'?"]),
  (gin('sac_agent.Agent.target_entrpy=1'), ["no parameter 'target_entrpy'", "'target_entropy'?"]),
  (gin('sac_agent.Agent.batch_size=1'), ['sac_agent.Agent', "no parameter 'batch_size'"]),
  (gin('Agent.alpha=1'), ['Agent', 'brac_dual_agent']),
  (gin('train_eval_offline.total_train_steps=5'), ['total_train_steps', 'flag']),
  (gin("train_eval_offline.env_name='Ant-v2'"), ['env_name', 'flag']),
  (gin('train_eval_offline.n_eval_episodes=5'), ['n_eval_episodes', 'flag']),
  (gin('train_eval_offline.batch_size='), ['train_eval_offline.batch_size=']),
  (gin('train_eval_offline.batch_size'), ['train_eval_offline.batch_size']),
  (gin('train_eval_offline.batch_size=%small'), ['small']),
  (gin('train_eval_offline.batch_size=@small()'), ['small']),
  (gin('import no_such_module'), ['no_such_module']),
  (['--gin_file={world}/none.gin'], ['{world}/none.gin', 'no such file']),
  (['--gin_file={world}/broken.gin'], ['broken.gin', 'line 2']),
  # Values in gin.
  (gin('sac_agent.Agent.target_entropy=none'), ['none is no value', 'None']),
  (gin('train_eval_offline.batch_size=0'), ['batch_size', '0']),
  (gin('train_eval_offline.batch_size=2.5'), ['batch_size', '2.5']),
  (gin("train_eval_offline.batch_size='big'"), ['batch_size', "'big'"]),
  (gin('train_eval_offline.update_freq=0'), ['update_freq', '0']),
  (gin('train_eval_offline.update_rate=1.5'), ['update_rate', '1.5']),
  (gin('train_eval_offline.discount=1.5'), ['train_eval_offline.discount', '1.5']),
  (gin("train_eval_offline.discount='high'"), ['discount', "'high'"]),
  (gin('train_eval_offline.eval_freq=0'), ['train_eval_offline.eval_freq', '0']),
  (gin("train_eval_offline.out_of_box_actions='ignore'"), ["'count', 'clip', 'refuse'", 'ignore']),
  (gin("train_eval_offline.summary_freq='often'"), ['summary_freq', "'often'"]),
  (gin('train_eval_offline.save_freq=-1'), ['save_freq', '-1']),
  (gin('train_eval_offline.save_minutes=-1'), ['save_minutes', '-1']),
  (gin('train_eval_offline.shuffle_steps=-1'), ['shuffle_steps', '-1']),
  (gin('train_eval_offline.shuffle_steps=0.5'), ['shuffle_steps', '0.5']),
  (gin('train_eval_offline.weight_decays=0.1'), ['weight_decays', '0.1']),
  (gin("train_eval_offline.weight_decays=('x',)"), ['weight_decays', "'x'"]),
  (gin('train_eval_offline.model_params=((8, 8), 2)'), ['model_params of sac reads']),
  (gin('train_eval_offline.model_params=(((8, 0),), 2)'), ['model_params of sac reads']),
  (gin('train_eval_offline.model_params=(((8, 8),), 0)'), ['model_params of sac reads']),
  (gin('train_eval_offline.model_params=None'), ['train_eval_offline.model_params of sac reads']),
  (gin('train_eval_offline.model_params=(((1000000,),), 2)'), ['1 to 10000 units', '1000000']),
  (gin('batch_size=3'), ["'batch_size'", 'did you mean train_eval_offline.batch_size?']),
  (gin('mmd.n=8'), ['mmd.n', 'the program sets it']),
  (gin("train_eval_offline.optimizers=(('sgd', 1e-3),)"), ["unknown optimizer 'sgd'", "'adam'"]),
  (gin("train_eval_offline.optimizers=('adam', 1e-3)"), ['optimizers']),
  (gin("train_eval_offline.optimizers=(('adam', -1),)"), ['optimizers', 'learning rate', '-1']),
  (gin("train_eval_offline.optimizers=(('adam', 'x'),)"), ['optimizers', "'x'"]),
  (gin("sac_agent.Agent.target_entropy='low'"), ['target_entropy', "'low'"]),
  (gin('sac_agent.Agent.target_entropy=1e400'), ['target_entropy is a finite number', 'inf']),
  (
    ['--agent_name=brac_dual', *gin("gradient_penalty.gamma='x'")],
    ['gradient_penalty.gamma', "'x'"],
  ),
  (gin("physics.backend='bullet'"), ['physics.backend', "'bullet'"]),
  # Agents.
  (
    ['--agent_name=brac_primal', '--seed=2'],
    [
      'behavior_ckpt_file',
      'n1000/bc/0/2/agent_behavior or ',
      'python -m brac.train_offline --gin_file=bc.gin --env_name=Pendulum-v1 --data_name=randwalk '
      '--n_train=1000 --root_dir=',
      '--data_root_dir={world}/data --seed=2 --total_train_steps=300000',
    ],
  ),
  # Presets.
  (['--gin_file=kl_vq.gin'], ['--gin_file kl_vq.gin: there is no such file', "'kl_vp.gin'?"]),
  (['--gin_file=kl_vp.gin'], ['--agent_name sac', "'brac_primal'", 'leave the flag out']),
  (gin("train_eval_offline.agent_name='brac_primol'"), ["'brac_primol'", "'brac_primal'?"]),
  (gin('train_eval_offline.agent_name=None'), ['None', "'sac', 'bc', 'bcq'"]),
  (primal('policies/pendulom'), ['no behavior policy at {world}/policies/pendulom', 'pendulum']),
  (primal('policies/cheetah'), ['does not fit', '17-8-12', '3-8-2']),
  (primal('data/Pendulum-v1/randwalk/0/data'), ['holds no policy']),
  (primal('policies/nan'), ['{world}/policies/nan holds NaN', 'policy/_layers/0/']),
  (
    ['--agent_name=brac_primal', *gin('brac_primal_agent.Agent.behavior_ckpt_file=5')],
    ['path of a checkpoint, not 5'],
  ),
  (
    primal('policies/pendulum', *gin("brac_primal_agent.Agent.divergence_name='mmd'"))
    + gin('laplacian_kernel.sigma=0'),
    ['laplacian_kernel.sigma', '0'],
  ),
  (
    primal(*['policies/pendulum', *gin("brac_primal_agent.Agent.divergence_name='kll'")]),
    ["unknown divergence 'kll'", "'kl'?"],
  ),
  (
    primal(*['policies/pendulum', *gin('brac_primal_agent.Agent.n_div_samples=0')]),
    ['n_div_samples', '0'],
  ),
  (
    primal(*['policies/pendulum', *gin("brac_primal_agent.Agent.alpha='high'")]),
    ['alpha', "'high'"],
  ),
  (
    ['--agent_name=brac_dual', *gin("brac_dual_agent.Agent.divergence_name='mmd'")],
    ["unknown divergence 'mmd'", "'kl', 'w'"],
  ),
  (['--agent_name=brac_dual', *gin('brac_dual_agent.Agent.c_iter=0')], ['c_iter', '0']),
  (['--agent_name=bcq', *gin('bcq_agent.Agent.n_action_samples=0')], ['n_action_samples', '0']),
  # Folders.
  (['--root_dir={world}/file'], ['cannot write to {world}/file/Pendulum-v1/', 'Not a directory']),
  (['--sub_dir=.'], ["--sub_dir is the name of a folder within another, not '.'"]),
  (['--data_name=../randwalk'], ["--data_name is the name of a folder within another"]),
  (['--data_name={world}/data'], ["--data_name is the name of a folder within another"]),
  ([f'--sub_dir={"x" * 300}'], ['--sub_dir', 'longer than 255']),
  (['--sub_dir=l\udcff'], ['--sub_dir', "'l\\udcff'", 'UTF-8']),
  (['--data_root_dir='], ['--data_root_dir is empty']),
  (['--n_eval_episodes=100000000000'], ['--n_eval_episodes=100000000000']),
  (['--root_dir={world}/lr=[1e-3]'], ['{world}/lr=[1e-3]', '* ? [ ]']),
]  # fmt: skip


@pytest.mark.parametrize('path', ['$NO_SUCH/x', 'a/${NO_SUCH}', '$HOME/x', '~no_such_user/x'])
def test_a_folder_that_cannot_be_expanded_is_an_error(monkeypatch, path):
  monkeypatch.delenv('HOME')
  with pytest.raises(UserError, match=f'^folder {re.escape(path)}: .* stands for nothing'):
    programs.folder(path)


def test_a_folder_may_have_signs_that_stand_for_nothing(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  assert programs.folder('$HOME/a$') == programs.folder('~/a$') == '/home/me/a$'
  assert programs.folder('./~x') == './~x' and programs.folder(None) is None


# What is given to train_online.
ONLINE = [
  (['--eval_target=high'], ['eval_target', 'high']),
  (['--eval_target=nan'], ['eval_target', 'nan']),
  (gin('train_eval_online.batch_size=601'), ['batch_size is 601', 'replay_buffer_size']),
  (gin('train_eval_online.replay_buffer_size=1e18'), ['replay_buffer_size', 'to 1e+09']),
  (['--agent_name=sax'], ['--agent_name is one of', "did you mean 'sac'?"]),
  (['--env_name=HalfCheetah-v9'], ["unknown environment 'HalfCheetah-v9'", "'HalfCheetah-v"]),
  (['--env_name=MountainCar-v0'], ['MountainCar-v0', 'Discrete(3)']),
  (['--n_train=5'], ['n_train']),
  (gin('train_eval_online.initial_explore_steps=0'), ['initial_explore_steps', '0']),
  (gin('train_eval_online.replay_buffer_size=0'), ['replay_buffer_size', '0']),
  (gin('train_eval_online.eval_target_n=0'), ['eval_target_n', '0']),
  (gin('train_eval_online.eval_target=0'), ['the flag --eval_target']),
  (gin('train_eval_online.discount=1.5'), ['train_eval_online.discount', '1.5']),
  (['--gin_file=bc.gin'], ['bc.gin', 'presets are for train_offline']),
  (gin('train_eval_online.shuffle_steps=5'), ["no parameter 'shuffle_steps'"]),
]  # fmt: skip

# What is given to collect_data with a good config.
COLLECT = [
  (['--config_file=dcfg_randwlak'], ['dcfg_randwlak.py', "'dcfg_randwalk'?"]),
  (['--config_dir={world}/none'], ['--config_dir {world}/none', 'no such folder']),
  (['--config_dir=no.such.module'], ['--config_dir no.such.module', 'nor a package']),
  (['--config_file=dcfg_proportions'], ['dcfg_proportions.py', 'add up to 0.9, not to 1']),
  (
    ['--config_file=dcfg_wrapper'],
    ["{world}/configs/dcfg_wrapper.py: part 'randwalk': unknown wrapper 'gausian'", "'gaussian'?"],
  ),
  (['--config_file=dcfg_ptype'], ["unknown ptype 'randwlak'", "'randwalk'?"]),
  (['--config_file=dcfg_syntax'], ['{world}/configs/dcfg_syntax.py:']),
  (['--config_file=dcfg_exits'], ['{world}/configs/dcfg_exits.py:3: ', 'SystemExit']),
  (['--config_file=dcfg_list'], ["unknown wrapper ['none']"]),
  (['--n_samples=99999999999999'], ['--n_samples 99999999999999: out of memory']),
  (['--data_name='], ['--data_name is empty']),
  (['--config_dir='], ['--config_dir is empty']),
  (['--policy_root_dir='], ['--policy_root_dir is empty']),
  (['--config_file=dcfg_raises'], ['{world}/configs/dcfg_raises.py:3: ', 'AssertionError']),
  (
    ['--config_file=dcfg_units', '--policy_root_dir={world}/policies'],
    ['{world}/policies/pendulum does not fit', '3-8-2', '3-200-200-2'],
  ),
  (
    [
      *(f'--config_dir={_ROOT}/configs', '--config_file=dcfg_pure'),
      '--policy_root_dir={world}/policies',
    ],
    [
      f"{_ROOT}/configs/dcfg_pure.py: part 'pure': no policy at "
      '{world}/policies/Pendulum-v1/agent_partial_target; brac.train_online',
    ],
  ),
  (['--env_name=Pendulum-v9'], ["unknown environment 'Pendulum-v9'", "'Pendulum-v1'"]),
  (['--config_file=dcfg_mixture', '--n_samples=2'], ['--n_samples 2', '3 policies']),
  (['--n_samples=0'], ['n_samples']),
  (['--agent_name=sac'], ['agent_name']),
  (gin('collect.n_envs=0'), ['n_envs', '0']),
  (gin('collect.n_samples=10'), ['n_samples', 'flag']),
  (['--gin_file=bc.gin'], ['bc.gin', 'presets are for train_offline']),
  (gin('collect.n_env=10'), ["no parameter 'n_env'", "'n_envs'?"]),
]  # fmt: skip


MISTAKES = [
  (program, args, texts)
  for program, table in (
    ('train_offline', OFFLINE),
    ('train_online', ONLINE),
    ('collect_data', COLLECT),
  )
  for args, texts in table
]


def check_mistake(run, world, name, texts):
  assert run.wait() == 1, run.stderr
  assert run.stdout == ''
  assert len(run.said) == 1, run.stderr
  assert run.said[0].startswith(name + ': ')
  for text in texts:
    assert text.replace('{world}', str(world)) in run.said[0]


@pytest.fixture(scope='module')
def mistaken(start, world, tmp_path_factory):
  """`mistaken(k)`: the run of the k-th of MISTAKES and its root folder; the next starts too."""
  roots = tmp_path_factory.mktemp('mistakes')
  started = {}

  def begin(k):
    program, args, _ = MISTAKES[k]
    root = roots / str(k)
    args = [arg.replace('{world}', str(world)) for arg in args]
    if program == 'train_offline':
      args = [*offline_args(world, root), *args]
    elif program == 'train_online':
      args = [*online_args(root), *args]
    else:
      args = [*collect_args(world, 'randwalk', root=root), *args]
    started[k] = start(program, *args), root

  def mistaken(k):
    for i in (k, k + 1):
      if i not in started and i < len(MISTAKES):
        begin(i)
    return started[k]

  return mistaken


@pytest.mark.parametrize(
  'k', range(len(MISTAKES)), ids=[' '.join([name, *args]) for name, args, _ in MISTAKES]
)
def test_a_mistake_is_one_line_and_writes_nothing(mistaken, world, k):
  program, _, texts = MISTAKES[k]
  run, root = mistaken(k)
  check_mistake(run, world, program, texts)
  assert not os.path.exists(root)


def test_the_mistakes_wrote_nothing_elsewhere(mistaken, world):
  for k in range(len(MISTAKES)):
    mistaken(k)[0].wait()
  assert set(os.listdir(world)) == {
    *('configs', 'data', 'policies', 'broken.gin', 'good.gin', 'file')
  }
  assert sorted(os.listdir(world / 'data')) == ['HalfCheetah-v2', 'Pendulum-v1']


def test_a_run_warns_of_what_it_does_not_use(finish, world, tmp_path):
  unused = gin('brac_primal_agent.Agent.alpha=0.1')
  (run,) = finish(['train_offline', *offline_args(world, tmp_path, *BRIEF, *unused)])
  assert 'brac_primal_agent.Agent.alpha is bound, but nothing in this run uses it' in run.stderr


def test_what_tensorflow_cannot_allocate_is_one_line():
  code = """
from brac import programs
def main():
  import tensorflow as tf
  raise tf.errors.ResourceExhaustedError(None, None, 'failed to allocate\\nmore')
programs.run(main)
"""
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=_ROOT)
  assert done.returncode == 1
  assert done.stderr == '-c: out of memory: failed to allocate\n'


# --- Mistakes in the folder of a run --------------------------------------------------------------


def test_data_that_is_there_is_not_written_over(start, world):
  before = files(world / 'data')
  run = start('collect_data', *collect_args(world, 'randwalk', '--seed=8'))
  texts = ['{world}/data/Pendulum-v1/randwalk/0/data', '--sub_dir']
  check_mistake(run, world, 'collect_data', [*texts, '--seed was 0, is 8'])
  assert unchanged(before, files(world / 'data'))
  # The same command finds what it would have made.
  run = start('collect_data', *collect_args(world, 'randwalk'))
  assert run.wait() == 0 and 'there is nothing to do' in run.stderr
  assert unchanged(before, files(world / 'data'))


@pytest.fixture(scope='module')
def finished(finish, world, tmp_path_factory):
  root = tmp_path_factory.mktemp('finished')
  finish(['train_offline', *offline_args(world, root)], ['train_online', *online_args(root)])
  return root


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


def test_a_run_goes_on_with_what_changed_where_that_is_allowed(start, world, finished, tmp_path):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  changed = ['--allow_changed_config', *gin('train_eval_offline.discount=0.5')]
  run = start('train_offline', *offline_args(world, tmp_path, '--total_train_steps=600'), *changed)
  assert run.wait() == 0
  assert re.search(r'^W.*train_eval_offline\.discount was 0\.99, is 0\.5', run.stderr, re.M)
  assert [row[0] for row in results(offline_dir(tmp_path))[1]] == [200, 400, 600]


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
  check_mistake(second, world, 'train_offline', [f'{folder} is in use by process {first.pid} '])
  assert first.poll() is None
  assert first.stop(signal.SIGTERM, lambda: True) == 143


def test_a_run_of_other_code_is_refused(start, world, finished, tmp_path):
  brac = shutil.copytree(_BRAC, tmp_path / 'brac', ignore=shutil.ignore_patterns('__pycache__'))
  with open(brac / 'divergences.py', 'a') as f:
    f.write('# another version\n')
  before = files(finished)
  run = subprocess.run(
    [sys.executable, '-m', 'brac.train_offline', *offline_args(world, finished)],
    env={**os.environ, 'PYTHONPATH': str(tmp_path)},
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert run.returncode == 1
  assert re.search(
    r'^train_offline: .* other settings: version was ([\d.]+ of source \w+), is (?!\1)',
    run.stderr,
    re.M,
  ), run.stderr
  assert unchanged(before, files(finished))


def test_another_clone_does_not_run_the_code_of_the_one_that_is_installed(tmp_path):
  brac = shutil.copytree(_BRAC, tmp_path / 'brac', ignore=shutil.ignore_patterns('__pycache__'))
  command = [sys.executable, '-m', 'train_offline', '--help']
  run = subprocess.run(command, cwd=brac, capture_output=True, text=True)
  assert (run.returncode, run.stdout) == (1, '')
  assert run.stderr.startswith(f'train_offline: {brac} is not the code that would run: {_BRAC} is ')
  assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize('value', [np.nan, -np.inf])
def test_a_weight_that_is_not_finite_stops_the_run_at_the_next_summary(make_agent, tmp_path, value):
  # A bias of -inf is nothing that a loss tells of: behind the ReLU its unit is 0.
  agent, saves = make_agent('bc', model_params=((8, 8),)), []
  schedule = training.Schedule(100, 10, 10, 1000, 5, 10.0)
  record, clock = runs.Record(str(tmp_path), ['main']), runs.Clock()

  def save(step):
    saves.append(step)
    if step == 25:
      agent.pi.variables[0].assign(tf.fill(agent.pi.variables[0].shape, np.float32(value)))

  with pytest.raises(UserError, match='at step 30; the last finite values were .*p_loss'):
    training.train('bc', agent, schedule, {}, record, clock, save)
  assert saves == [5, 10, 15, 20, 25]


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
