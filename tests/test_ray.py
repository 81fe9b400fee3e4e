"""Grids and searches on a cluster of two nodes, which lose nodes, programs and drivers.

    BRAC_KILLS=20 python -m pytest tests/test_ray.py -k random

disturbs so many grids at random moments; the number of a test is their seed.
"""

import contextlib
import functools
import glob
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from brac import checkpoints, results
from brac.grids.jobs import WaitingLock

pytest.importorskip('ray', reason='a cluster needs Ray: pip install "brac[ray]"')

SMALL = """
train_eval_offline.agent_name = 'sac'
train_eval_offline.model_params = (((8, 8),), 2)
train_eval_offline.batch_size = 16
train_eval_offline.eval_freq = 500
train_eval_offline.summary_freq = 100
train_eval_offline.save_freq = 500
"""
RANDWALK = """
def get_data_config(env_name, policy_root_dir=None):
  return [['randwalk', ['randwalk', '', ['none'], ()], 1.0]]
"""
# Two nodes with a core each, which ignore SIGINT as what a script starts in its background does. A
# line on stdin takes one of them away, as a node dies, or adds one.
CLUSTER = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=0, include_dashboard=False))
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
print('ADDRESS', cluster.address, flush=True)
for line in sys.stdin:
  if line == 'add\\n':
    nodes.append(cluster.add_node(num_cpus=1))
  else:
    cluster.remove_node(nodes.pop(int(line)), allow_graceful=False)
cluster.shutdown()
"""
STEPS = 12000  # so many that neither is over before both have begun
STOPS = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
PLACE = 'Pendulum-v1/randwalk/n1000/sac/0'


@pytest.fixture
def cluster():
  with subprocess.Popen(
    [sys.executable, '-c', CLUSTER],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
    bufsize=1,
  ) as process:
    for line in process.stdout:
      if line.startswith('ADDRESS'):
        process.address = line.split()[1]
        break
    yield process
    process.stdin.close()


def started(root, program, name, *flags):
  command = [
    *(sys.executable, '-m', f'brac.{program}', f'--root_dir={root}/{name}'),
    *(f'--data_root_dir={root}/data', f'--config_dir={root}/configs', '--env_names=Pendulum-v1'),
    *('--presets=sac', '--n_train=1000', '--n_eval_episodes=1', *flags),
  ]
  out = open(root / f'{name}.out', 'a', encoding='utf-8')
  return subprocess.Popen(command, stdout=out, stderr=out)


def grid(root, name, *flags):
  of = '--data_names=randwalk', '--seeds=0,1', f'--total_train_steps={STEPS}'
  return started(root, 'run_paper', name, *of, *flags)


def write_configs(root):
  (root / 'configs').mkdir()
  (root / 'configs' / 'sac.gin').write_text(SMALL)
  (root / 'configs' / 'dcfg_randwalk.py').write_text(RANDWALK)


def on_cluster(root, name, cluster):
  """A grid of two runs that do not end by themselves, once both have saved; and their folders."""
  write_configs(root)
  process = grid(root, name, f'--ray_address={cluster.address}', '--total_train_steps=1000000')
  folders = [root / name / PLACE / seed for seed in '01']
  wait_for(lambda: all(step_of(folder) for folder in folders), process)
  return process, folders


def step_of(folder):
  return (results.read_progress(str(folder)) or (0, 0))[0]


def wait_for(what, process, seconds=900):
  end = time.monotonic() + seconds
  while not what():
    assert process.poll() is None and time.monotonic() < end
    time.sleep(0.1)


def pids(pattern):
  found = subprocess.run(['pgrep', '-f', pattern], stdout=subprocess.PIPE, text=True)
  return [int(line) for line in found.stdout.split()]


def same(one, other):
  """Whether two saves have the same numbers, bit for bit, but for what names the version."""
  readers = [checkpoints.Reader(str(path)) for path in (one, other)]
  keys = [set(reader.shapes) - {'settings'} for reader in readers]
  return keys[0] == keys[1] and all(
    np.array_equal(*(reader.read(key) for reader in readers)) for key in keys[0]
  )


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  """The folders of the two runs of a grid that nobody disturbs."""
  root = tmp_path_factory.mktemp('undisturbed')
  write_configs(root)
  assert grid(root, 'quiet').wait() == 0, (root / 'quiet.out').read_text()
  return [root / 'quiet' / PLACE / seed for seed in '01']


def assert_same_runs(folders, undisturbed):
  for folder, quiet in zip(folders, undisturbed):
    assert step_of(folder) == STEPS
    assert (folder / 'results.csv').read_bytes() == (quiet / 'results.csv').read_bytes()
    assert same(folder / 'agent', quiet / 'agent')


def test_a_grid_whose_node_dies_is_the_one_that_nobody_disturbed(tmp_path, cluster, undisturbed):
  write_configs(tmp_path)
  folders = [tmp_path / 'lost' / PLACE / seed for seed in '01']
  process = grid(tmp_path, 'lost', f'--ray_address={cluster.address}')
  wait_for(lambda: all(step_of(folder) for folder in folders), process)
  assert all(step_of(folder) < STEPS for folder in folders), 'they were over before a node was lost'
  cluster.stdin.write('0\n')
  assert process.wait() == 0, (tmp_path / 'lost.out').read_text()
  logs = [
    open(path, encoding='utf-8').read() for path in glob.glob(str(tmp_path / 'lost/logs/*.log'))
  ]
  assert sum('going on from step' in log for log in logs) == 1
  assert_same_runs(folders, undisturbed)
  out = (tmp_path / 'lost.out').read_text()
  assert 'sac main' in out  # the report
  assert 'will be retried' in out and 'state-dump' not in out  # what Ray says of it


@pytest.mark.parametrize('number', range(int(os.environ.get('BRAC_KILLS', 1))))
def test_a_grid_disturbed_at_random_is_the_one_that_nobody_disturbed(
  tmp_path, cluster, undisturbed, number
):
  write_configs(tmp_path)
  draws, folders = random.Random(number), [tmp_path / 'random' / PLACE / seed for seed in '01']
  begin = functools.partial(grid, tmp_path, 'random', f'--ray_address={cluster.address}')
  process = begin()
  wait_for(lambda: all(step_of(folder) for folder in folders), process)
  whats = ['node', 'node', 'program', 'program', *draws.sample(STOPS, 2)]
  for what in draws.sample(whats, len(whats)):  # where it is over before the last, so much the less
    print(what)
    if what == 'node':
      cluster.stdin.write(f'{draws.choice([0, 1])}\nadd\n')
    elif what == 'program':
      for pid in pids(f'train_offline.*--root_dir={tmp_path}/random ')[:1]:
        with contextlib.suppress(ProcessLookupError):  # it is done
          os.kill(pid, signal.SIGKILL)
    else:
      process.send_signal(what)
      assert process.wait() in (0, 128 + what, -what), (tmp_path / 'random.out').read_text()
      process = begin()
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(draws.uniform(2, 20))
  assert process.wait() == 0, (tmp_path / 'random.out').read_text()
  assert_same_runs(folders, undisturbed)


def test_a_signal_lets_the_runs_of_a_cluster_save(tmp_path, cluster):
  process, _ = on_cluster(tmp_path, 'stopped', cluster)
  process.send_signal(signal.SIGINT)
  assert process.wait() == 128 + signal.SIGINT
  assert 'the runs are saved' in (tmp_path / 'stopped.out').read_text()
  logs = [
    open(path, encoding='utf-8').read()
    for path in glob.glob(str(tmp_path / 'stopped/logs/*sac*.log'))
  ]
  assert len(logs) == 2 and all('stopped by SIGTERM' in log for log in logs)


def test_where_the_driver_is_killed_the_runs_of_a_cluster_save(tmp_path, cluster):
  process, folders = on_cluster(tmp_path, 'killed', cluster)
  process.kill()
  process.wait()
  for folder in folders:
    with WaitingLock(str(folder / 'lock')):  # which the run has until it has saved
      pass
  logs, end = glob.glob(str(tmp_path / 'killed/logs/*sac*.log')), time.monotonic() + 60
  assert len(logs) == 2
  for path in logs:  # it gives up the lock before it says so
    while 'stopped by SIGUSR1' not in open(path, encoding='utf-8').read():
      assert time.monotonic() < end
      time.sleep(0.1)


def test_a_search_runs_on_a_cluster_and_waits_for_a_node_that_is_large_enough(tmp_path, cluster):
  pytest.importorskip('optuna', reason='a search needs optuna: pip install "brac[sweep]"')
  (tmp_path / 'configs' / 'grids').mkdir(parents=True)
  (tmp_path / 'configs' / 'sac.gin').write_text('BATCH = 16\n' + SMALL.replace('= 16', '= %BATCH'))
  (tmp_path / 'configs' / 'grids' / 'sac.json').write_text('{"values": {"BATCH": [8, 32]}}')
  (tmp_path / 'configs' / 'dcfg_randwalk.py').write_text(RANDWALK)
  flags = f'--ray_address={cluster.address}', '--data_name=randwalk', '--total_train_steps=1000'
  process = started(tmp_path, 'sweep', 'large', *flags, '--n_cores=2')
  said = 'waiting for a node with --n_cores 2; the largest has 1\n'
  wait_for(lambda: said in (tmp_path / 'large.out').read_text(), process)
  process.send_signal(signal.SIGINT)
  assert process.wait() == 128 + signal.SIGINT
  assert not (tmp_path / 'data').exists()
  process = started(tmp_path, 'sweep', 'small', *flags)
  assert process.wait() == 0, (tmp_path / 'small.out').read_text()
  trials = tmp_path / 'small' / PLACE.removesuffix('0') / 'sweep'
  assert [step_of(trials / f'BATCH_{n}' / '0') for n in (8, 32)] == [1000, 1000]
  assert (tmp_path / 'configs' / 'tuned' / 'Pendulum-v1' / 'sac.gin').exists()


def test_the_log_of_a_program_is_where_the_driver_says(tmp_path, monkeypatch):
  from brac.grids.ray_jobs import _run_on_node

  monkeypatch.chdir(tmp_path)  # where a worker may be
  driver = tmp_path / 'driver'
  driver.mkdir()
  status, log, said = _run_on_node(['sh', '-c', 'pwd'], 'logs/x.log', 1, str(driver), None)
  assert (status, said) == (0, str(driver)) and log == str(driver / 'logs' / 'x.log')


def test_a_cluster_that_is_not_there_is_one_line(tmp_path):
  write_configs(tmp_path)
  process = grid(tmp_path, 'nowhere', '--ray_address=127.0.0.1:1')
  assert process.wait() == 1
  last = (tmp_path / 'nowhere.out').read_text().splitlines()[-1]
  assert last.startswith('run_paper: --ray_address 127.0.0.1:1: no cluster can be joined there')
