"""Jobs: who waits for whom, whose log is whose, which cores are whose, and what outlives what."""

import fcntl
import os
import shlex
import signal
import sys
import tempfile
import threading
import time

import pytest

from brac.errors import InUse
from brac.grids.jobs import Job, Local, open_log, run_jobs, shares, take_cores


def job(root, script, name='job', **more):
  command = ['sh', '-c', f'cd {root}; {script}']
  return Job(name, command, str(root / 'logs' / f'{name}.log'), **more)


def forked(work):
  """A process of this one's that does some work; its id."""
  child = os.fork()
  if not child:
    try:
      work()
      os._exit(0)
    finally:
      os._exit(1)
  return child


def hold_lock(folder, end):
  with open(folder / 'lock', 'a', encoding='utf-8') as handle:
    fcntl.flock(handle, fcntl.LOCK_EX)
    (folder / 'taken').touch()
    wait_for(end.exists)
    (folder / 'done').touch()


def wait_for(what, seconds=60):
  end = time.monotonic() + seconds
  while not what():
    assert time.monotonic() < end
    time.sleep(0.02)


@pytest.fixture(autouse=True)
def cores_of_its_own(tmp_path, monkeypatch):
  """It is noted in the temp folder which cores are taken."""
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))


@pytest.mark.parametrize('others_do_it', [True, False])
def test_what_another_program_is_at_work_on_is_waited_for(tmp_path, capsys, others_do_it):
  child = forked(lambda: hold_lock(tmp_path, tmp_path / 'other'))
  wait_for((tmp_path / 'taken').exists)
  is_done = (tmp_path / 'done').exists if others_do_it else lambda: False
  jobs = [
    job(tmp_path, 'ls done > run', folder=str(tmp_path), is_done=is_done),
    job(tmp_path, 'echo > other', 'other'),
  ]
  assert run_jobs(jobs, Local(1)) == {}
  os.waitpid(child, 0)
  out = capsys.readouterr().out
  assert out.count(f'job: {tmp_path} is in use: waiting for it\n') == 1
  assert ('[2 of 2] job: done by another program\n' in out) == others_do_it
  assert (tmp_path / 'run').exists() != others_do_it and (tmp_path / 'other').exists()


def test_a_program_that_found_its_folder_in_use_is_started_again(tmp_path):
  script = f'if [ -e first ]; then echo > second; else echo > first; exit {InUse.exit_status}; fi'
  assert run_jobs([job(tmp_path, script)], Local(1)) == {}
  assert (tmp_path / 'second').exists()


@pytest.mark.parametrize('how', ['kill -KILL $$', 'exit 143'])
def test_a_program_that_others_kill_is_started_again_but_not_for_ever(tmp_path, capsys, how):
  assert run_jobs([job(tmp_path, f'[ -e once ] || {{ echo > once; {how}; }}')], Local(1)) == {}
  assert capsys.readouterr().out.count('it is tried again') == 1
  failed = run_jobs([job(tmp_path, f'echo x >> always; {how}', 'always')], Local(1))
  assert list(failed) == ['always'] and (tmp_path / 'always').read_text() == 'x\n' * 3


def test_what_comes_farther_each_time_is_started_as_often_as_it_is_killed(tmp_path):
  write = 'echo "{\\"step\\": $n, \\"total_train_steps\\": 9}" > progress.json'
  script = f'n=$(cat n || echo 0); n=$((n + 1)); echo $n > n; {write}; [ $n -gt 6 ] || exit 143'
  assert run_jobs([job(tmp_path, script, folder=str(tmp_path))], Local(1)) == {}
  assert (tmp_path / 'n').read_text() == '7\n'


def test_a_log_is_of_one_program_at_a_time_and_a_reason_its_own(tmp_path):
  log = tmp_path / 'logs' / 'job.log'
  with open_log(str(log)) as first:
    first.write(b'the other says this\n')
    first.flush()
    failed = run_jobs([job(tmp_path, 'echo mine; exit 3')], Local(1))
  own = tmp_path / 'logs' / 'job.2.log'
  assert failed == {'job': f'exit status 3: mine: {own}'}
  assert log.read_text() == 'the other says this\n' and own.read_text() == 'mine\n'
  # Who says nothing has not said what stood there before.
  assert run_jobs([job(tmp_path, 'exit 3')], Local(1)) == {'job': f'exit status 3: {log}'}


SAVES_WHEN_STOPPED = """
import pathlib, time
from brac import runs
runs.catch_stops()
pathlib.Path('begun').touch()
while not runs.stop_requested():
  time.sleep(0.05)
time.sleep(1)
runs.stop('it is saved')
"""


@pytest.mark.parametrize('n_threads', [0, 30])
def test_a_program_saves_when_who_started_it_is_killed(tmp_path, n_threads):
  def start():
    for _ in range(n_threads):  # as a worker of a cluster has, whose deaths are told one by one
      threading.Thread(target=time.sleep, args=[600], daemon=True).start()
    script = f'exec {shlex.join([sys.executable, "-c", SAVES_WHEN_STOPPED])}'
    run_jobs([job(tmp_path, script)], Local(1))

  child = forked(start)
  wait_for((tmp_path / 'begun').exists)
  os.kill(child, signal.SIGKILL)
  os.waitpid(child, 0)
  # Not by SIGTERM: it may come twice, and the second does not wait for a save.
  log = tmp_path / 'logs' / 'job.log'
  wait_for(lambda: 'stopped by SIGUSR1; it is saved' in log.read_text())


def test_cores_are_shared_out_or_given_in_numbers(tmp_path):
  assert shares([0, 1, 2, 3, 4], 2) == [[0, 2, 4], [1, 3]]
  assert shares([0, 1], 3) == [[0], [1], [0]]
  assert shares([0, 1, 2, 3, 4], 2, 2) == [[0, 1], [2, 3]]
  assert shares([4, 5, 6], 2, 2) == [[4, 5], [6, 4]]
  assert shares([4, 5], 1, 8) == [[4, 5]]
  first = min(os.sched_getaffinity(0))
  script = 'grep Cpus_allowed_list /proc/self/status > cores'
  assert run_jobs([job(tmp_path, script)], Local(1, 1)) == {}
  assert (tmp_path / 'cores').read_text().split() == ['Cpus_allowed_list:', str(first)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='one core cannot be shared out')
def test_programs_side_by_side_take_cores_that_are_free(tmp_path):
  here, there = Local(1, 1), Local(1, 1)
  script = (
    'grep Cpus_allowed_list /proc/self/status > cores_{}; while [ ! -e end ]; do sleep 0.1; done'
  )
  started = [
    local.start(job(tmp_path, script.format(k), str(k))) for k, local in enumerate((here, there))
  ]
  paths = [tmp_path / f'cores_{k}' for k in range(2)]
  wait_for(lambda: all(path.exists() and path.read_text() for path in paths))
  assert paths[0].read_text() != paths[1].read_text()
  (tmp_path / 'end').touch()
  wait_for(lambda: all(one.poll() == 0 for one in started))
  # What is over has given its core back, also to others than its own.
  cores = sorted(os.sched_getaffinity(0))[:2]
  locks, taken = take_cores(cores)
  assert taken == cores and len(locks) == 2
  # Of cores that are taken some are shared, and what is free is taken before.
  assert take_cores(cores[:1]) == ([], cores[:1])
  locks.pop().close()
  (lock,), taken = take_cores(cores)
  assert taken == [cores[1], cores[0]]
