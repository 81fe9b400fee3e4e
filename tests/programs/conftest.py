"""How tests start the programs, and the world that they share.

Most programs run in a process that is forked off one that has TensorFlow imported, and that ends
without the interpreter's clean-up; that is all that tells them from `python -m`.
"""

import json
import os
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
from small_world import CONFIGS, collect_args, offline_args, online_args

from brac import checkpoints, rng
from brac.data.replay import Dataset
from brac.data.stored import load
from brac.networks import Actor, Box

_LAUNCHER = """
import json, os, runpy, sys, traceback
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

program, _, disk = program.partition('@')
if disk:
  sys.path.append(sys.argv[1])
  import poor_disk
  poor_disk.mount()
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
  def stdout(self):
    with open(self._out, encoding='utf-8') as f:
      return f.read()

  @property
  def stderr(self):
    with open(self._err, encoding='utf-8') as f:
      return f.read()

  @property
  def said(self):
    """The lines on stderr, but for the log's."""
    return [line for line in self.stderr.splitlines() if not re.match(r'[IW]\d{4} [\d:.]+ ', line)]


@pytest.fixture(scope='session')
def start(tmp_path_factory):
  """`start(program, *args)` starts a program in a process of its own and returns its `Run`.

  `program@poor` starts it on a file system that cannot link, lock and sync folders.
  """
  folder = tmp_path_factory.mktemp('runs')
  environment = {**os.environ, 'HOME': str(folder), 'TF_CPP_MIN_LOG_LEVEL': '3'}
  process = subprocess.Popen(
    [sys.executable, '-c', _LAUNCHER, os.path.dirname(os.path.dirname(__file__))],
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
      open(path, 'w', encoding='utf-8').close()
    pid = ask('start', program, args, out, err, str(folder))
    started.append(Run(ask, pid, out, err))
    return started[-1]

  start.home = folder  # of all of them, and where they are started
  with process:
    yield start
    for run in started:
      if run.poll() is None:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    process.stdin.close()


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


@pytest.fixture(scope='session')
def finished(finish, world, tmp_path_factory):
  root = tmp_path_factory.mktemp('finished')
  finish(['train_offline', *offline_args(world, root)], ['train_online', *online_args(root)])
  return root
