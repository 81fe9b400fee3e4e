"""Programs that are run, several at a time, each after those that it needs.

A backend starts them: `Local` on cores of this machine, `ray_jobs.Ray` on those of a cluster. Who
has jobs to run knows of a backend only whether it has room, and how it starts a job; of a started
job whether it is over, and how it is asked to stop.
"""

import abc
import contextlib
import dataclasses
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, Callable, Optional, Sequence

from brac import results
from brac.errors import InUse, UserError

MAX_KILLED = 3  # times that a program is killed by others where it stands before it has failed
STOPPED = 128 + signal.SIGTERM  # the exit status of a program that has saved and ended at it
_LEASH = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'leash.py')
_POLL_SECONDS = 0.2
_RETRY_SECONDS = 5.0  # after which it is looked whether what another process had is free


@dataclasses.dataclass(frozen=True)
class Job:
  """A program to be run.

  Attributes:
    name: what a person reads of it, and what other jobs need it by.
    command: the program and its flags.
    log: the file that its output is added to.
    needs: the names of jobs that have to be over before.
    folder: what it writes, and locks while it does.
    is_done: tells whether somebody has done it by now.
  """

  name: str
  command: list[str]
  log: str
  needs: tuple[str, ...] = ()
  folder: Optional[str] = None
  is_done: Callable[[], bool] = lambda: False


class Started(abc.ABC):
  """A job that was started.

  Attributes:
    job: what was started.
    log: where its output is.
  """

  def __init__(self, job: Job):
    self.job, self.log, self._since = job, job.log, time.monotonic()

  @abc.abstractmethod
  def poll(self) -> Optional[int]:
    """Its exit status; None where it is not over."""

  @abc.abstractmethod
  def stop(self) -> None:
    """Sends it SIGTERM: it saves and ends, or at a second one ends."""

  @abc.abstractmethod
  def last_line(self) -> str:
    """What it said last: where it failed, why."""

  def was_killed(self) -> bool:
    """Whether a signal ended it, as for want of memory, or where a machine is to be given back."""
    status = self.poll()
    return status is not None and (status < 0 or status == STOPPED)

  def seconds(self) -> float:
    return time.monotonic() - self._since

  def fault(self) -> str:
    """Why it failed; '' where it did not."""
    status = self.poll()
    if not status:
      return ''
    how = f'killed by signal {-status}' if status < 0 else f'exit status {status}'
    return ': '.join(filter(None, [how, self.last_line(), self.log]))


class Kills:
  """How often programs were killed by others since they came any farther."""

  def __init__(self):
    self._seen: dict[str, tuple[int, Optional[tuple[int, int]]]] = {}

  def is_tried_again(self, started: Started) -> bool:
    """Whether a program that is over was killed, and not time and again where it stands."""
    if not started.was_killed():
      return False
    n, before = self._seen.get(started.job.name, (0, None))
    progress = None
    with contextlib.suppress(ValueError):  # which the program says when it starts
      progress = results.read_progress(started.job.folder or '')
    n = n + 1 if progress == before else 1
    self._seen[started.job.name] = n, progress
    return n < MAX_KILLED


class Backend(abc.ABC):
  """Where jobs are run."""

  @abc.abstractmethod
  def has_room(self) -> bool:
    """Whether a further job may be started now."""

  @abc.abstractmethod
  def start(self, job: Job) -> Started:
    """Starts a job."""


class Local(Backend):
  """Cores of this machine, of which each job has its own.

  Two trainings on a core each do a third more than two that share both.
  """

  def __init__(self, n_jobs: int, n_cores: Optional[int] = None):
    """Takes how many jobs run at a time, on so many cores each, or with the cores shared out."""
    self._free = shares(sorted(os.sched_getaffinity(0)), n_jobs, n_cores)
    self._running: dict[_Process, list[int]] = {}

  def has_room(self) -> bool:
    for process in [p for p in self._running if p.poll() is not None]:
      self._free.append(self._running.pop(process))
    return bool(self._free)

  def start(self, job: Job) -> Started:
    share = self._free.pop(0)
    process = _Process(job, *take_cores(share))
    self._running[process] = share
    return process


class _Process(Started):
  """A process of this machine, on certain cores, which it has locked."""

  def __init__(self, job: Job, locks: list[IO], cores: list[int]):
    super().__init__(job)
    self._locks = locks
    log = open_log(job.log)
    self.log, self._begin = log.name, log.tell()
    with log:
      self._process = start_process(job.command, cores, log)

  def poll(self) -> Optional[int]:
    status = self._process.poll()
    while status is not None and self._locks:
      self._locks.pop().close()
    return status

  def stop(self) -> None:
    self._process.send_signal(signal.SIGTERM)

  def last_line(self) -> str:
    return last_line(self.log, self._begin)


def start_process(
  command: Sequence[str], cores: Sequence[int], log: IO, **more
) -> subprocess.Popen:
  """Starts a program on certain cores, which ends when this one is gone; `more` is for Popen."""
  all_cores = os.sched_getaffinity(0)
  os.sched_setaffinity(0, cores)  # which the new process takes over from this thread
  try:
    return subprocess.Popen(
      [sys.executable, '-I', '-S', _LEASH, str(os.getpid()), *command],
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      # In a session of its own: a Ctrl-C at the terminal would reach it as well as our signal, and
      # the second of two makes a program end without its save.
      start_new_session=True,
      **more,
    )
  finally:
    os.sched_setaffinity(0, all_cores)


def shares(cores: Sequence[int], n: int, n_each: Optional[int] = None) -> list[list[int]]:
  """The cores of each of n jobs: `n_each` of them, or as many as there are for each.

  Where there are not enough for all, some are given twice.
  """
  if n_each is None:
    return [list(cores[k::n]) or [cores[k % len(cores)]] for k in range(n)]
  n_each = min(n_each, len(cores))
  return [[cores[(k * n_each + i) % len(cores)] for i in range(n_each)] for k in range(n)]


def take_cores(wanted: Sequence[int]) -> tuple[list[IO], list[int]]:
  """Cores that no other job on this machine has, and the locks that say so until they are closed.

  Args:
    wanted: are taken if they are free, others in place of those that are not; where too few of all
      are free, some that are not.
  """
  folder = os.path.join(tempfile.gettempdir(), f'brac_cores_{os.getuid()}')
  locks, cores = [], []
  with contextlib.suppress(OSError):  # where nothing can be noted, no core is known to be taken
    for core in dict.fromkeys([*wanted, *sorted(os.sched_getaffinity(0))]):
      lock = try_lock(os.path.join(folder, str(core))) if len(cores) < len(wanted) else None
      if lock:
        locks.append(lock)
        cores.append(core)
  others = [core for core in wanted if core not in cores]
  return locks, cores + others[: len(wanted) - len(cores)]


def open_log(path: str) -> IO:
  """Opens a log to add to; one of another name where a program is writing to that one.

  The lock on it is the opened file's: it lasts as long as a program that has it for its output.
  """
  stem, ending = os.path.splitext(path)
  for k in range(1, 100):
    log = try_lock(path if k == 1 else f'{stem}.{k}{ending}')
    if log:
      log.seek(0, os.SEEK_END)
      return log
  raise OSError(f'{path}: 99 programs are writing to logs of this name')


def last_line(log: str, begin: int) -> str:
  """The last line of a log that is not empty and stands after the byte `begin`."""
  with open(log, 'rb') as f:
    f.seek(begin)
    lines = f.read().decode(errors='replace').splitlines()
  return next((line.strip() for line in reversed(lines) if line.strip()), '')


def try_lock(path: str) -> Optional[IO]:
  """A file, opened to add to it, that is locked until it is closed; None where another has it."""
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  handle = open(path, 'ab')
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    handle.close()
    return None
  except OSError:  # a file system without locks
    pass
  return handle


class WaitingLock:
  """A lock, of a kind that optuna takes; a process that is killed gives it up at once."""

  def __init__(self, path: str):
    self._path = path

  def acquire(self) -> bool:
    self._handle, self._is_held = open(self._path, 'ab'), False
    with contextlib.suppress(OSError):  # a file system without locks
      fcntl.flock(self._handle, fcntl.LOCK_EX)
      self._is_held = True
    return True

  def release(self) -> None:
    self._handle.close()

  def __enter__(self) -> None:
    self.acquire()

  def __exit__(self, *_) -> None:
    self.release()


class JournalLock(WaitingLock):
  """Of who writes a line of a journal of optuna's."""

  def __init__(self, path: str):
    super().__init__(path + '.lock')
    self._journal = path

  def acquire(self) -> bool:
    """Takes off what a machine that died left of its line, too: the next would be added to it."""
    super().acquire()
    if self._is_held and os.path.exists(self._journal):  # or else somebody may be writing it
      with open(self._journal, 'rb+') as f:
        content = f.read()
        f.truncate(content.rfind(b'\n') + 1)
    return True


def is_in_use(folder: Optional[str]) -> bool:
  """Whether a process has locked the folder of a run, or of a collection."""
  from brac.runs.lock import Lock

  if not folder or not os.path.exists(os.path.join(folder, 'lock')):
    return False
  try:
    Lock(folder).release()
  except InUse:
    return True
  except UserError:  # which the program says when it starts
    pass
  return False


def run_jobs(jobs: Sequence[Job], backend: Backend) -> dict[str, str]:
  """Runs jobs until all are over or a signal asks to stop.

  What another process is at work on is waited for; what is killed is tried again, until it was
  killed `MAX_KILLED` times without coming any farther.

  Returns:
    The names of those that failed, and why.
  """
  from brac import runs

  waiting, running, failed = list(jobs), [], {}
  over: set[str] = set()
  retry_at: dict[str, float] = {}
  kills = Kills()
  try:
    while (waiting or running) and not runs.stop_requested():
      for started in [x for x in running if x.poll() is not None]:
        running.remove(started)
        name = started.job.name
        if started.poll() == InUse.exit_status:
          if name not in retry_at:
            print(f'{name}: {started.last_line()}: waiting for it', flush=True)
          retry_at[name] = time.monotonic() + _RETRY_SECONDS
          waiting.append(started.job)
          continue
        if kills.is_tried_again(started):
          print(f'{name}: {started.fault()}: it is tried again', flush=True)
          waiting.append(started.job)
          continue
        over.add(name)
        if fault := started.fault():
          failed[name] = fault
        state = fault or f'done in {started.seconds():.0f} s'
        print(f'[{len(over)} of {len(jobs)}] {name}: {state}', flush=True)
      for job in list(waiting):
        lacking = next((name for name in job.needs if name in failed), None)
        if lacking:
          failed[job.name] = f'not started, as it needs {lacking}'
          over.add(job.name)
          waiting.remove(job)
        elif (
          over.issuperset(job.needs)
          and time.monotonic() >= retry_at.get(job.name, 0)
          and backend.has_room()
        ):
          if job.is_done():
            over.add(job.name)
            waiting.remove(job)
            print(f'[{len(over)} of {len(jobs)}] {job.name}: done by another program', flush=True)
            continue
          if is_in_use(job.folder):
            if job.name not in retry_at:
              print(f'{job.name}: {job.folder} is in use: waiting for it', flush=True)
            retry_at[job.name] = time.monotonic() + _RETRY_SECONDS
            continue
          running.append(backend.start(job))
          waiting.remove(job)
          print(f'{job.name}: started, {running[-1].log}', flush=True)
      time.sleep(_POLL_SECONDS)
  finally:
    stop_all(running)
  return failed


def stop_all(running: Sequence[Started]) -> None:
  """Lets programs save and end; at a further signal, end."""

  def stop_and_wait() -> None:
    for started in running:
      started.stop()
    while any(started.poll() is None for started in running):
      time.sleep(_POLL_SECONDS)

  try:
    stop_and_wait()
  except KeyboardInterrupt:
    stop_and_wait()
    raise
