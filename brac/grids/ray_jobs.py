"""Jobs on a cluster of Ray's: the same commands on the same folders, on whatever node has cores.

All nodes see the folders under the same paths, and the environment with this package as well. What
loses its node is started again on another, and goes on from its last save.
"""

import os
import signal
import socket
import sys
import time
from typing import Optional

from brac.errors import UserError
from brac.grids.jobs import (
  STOPPED,
  Backend,
  Job,
  Started,
  last_line,
  open_log,
  start_process,
  take_cores,
)

_POLL_SECONDS = 0.2
# Of a node that is lost Ray prints what its raylet logged, too: twenty lines beside the one that
# says which task is tried again.
_DO_NOT_PRINT = 'Raylet is terminated|marked dead because'


class Ray(Backend):
  """The cores of a cluster."""

  def __init__(self, address: str, n_jobs: Optional[int] = None, n_cores: Optional[int] = None):
    """Joins a cluster.

    Args:
      address: of its head, or `auto` for the one that this machine belongs to.
      n_jobs: how many jobs run at a time; None: as many as there are cores for.
      n_cores: how many cores each has; None: 1.

    Raises:
      UserError: Ray is not installed, or there is no such cluster.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    os.environ.setdefault('RAY_DEDUP_LOGS_SKIP_REGEX', _DO_NOT_PRINT)  # which the import reads
    try:
      import ray
    except ImportError:
      raise UserError(
        '--ray_address needs Ray, which is not here: pip install "brac[ray]"'
      ) from None
    _knock(address)
    signal.pthread_sigmask(signal.SIG_BLOCK, handlers)
    try:
      ray.init(address=address, log_to_driver=False, logging_level='ERROR')
    except (ConnectionError, ValueError, RuntimeError) as error:
      raise _no_cluster(address, str(error).strip().splitlines()[0]) from error
    finally:
      for number, handler in handlers.items():  # Ray's own do not wait for saves
        signal.signal(number, handler)
      signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)
    self._ray, self._n_jobs, self._n_cores = ray, n_jobs, n_cores or 1
    self._running: list[_Task] = []
    self._has_waited = False

  def has_room(self) -> bool:
    self._running = [task for task in self._running if task.poll() is None]
    nodes = [n['Resources'].get('CPU', 0) for n in self._ray.nodes() if n['Alive']]
    room = sum(cores // self._n_cores for cores in nodes)
    if not room and not self._has_waited:
      self._has_waited = True
      most = f'; the largest has {max(nodes, default=0):g}'
      print(f'waiting for a node with --n_cores {self._n_cores}{most}', file=sys.stderr, flush=True)
    return len(self._running) < (room if self._n_jobs is None else min(room, self._n_jobs))

  def start(self, job: Job) -> Started:
    # -1: as often as nodes are lost. What the program itself fails at is no reason to try again.
    # A worker whose driver is gone would kill its program, which the leash has save itself.
    environment = {'env_vars': {'RAY_kill_child_processes_on_worker_exit': 'false'}}
    options = dict(num_cpus=self._n_cores, max_retries=-1, runtime_env=environment)
    run = self._ray.remote(**options)(_run_on_node)
    python_path = os.environ.get('PYTHONPATH')
    reference = run.remote(job.command, job.log, self._n_cores, os.getcwd(), python_path)
    self._running.append(_Task(job, self._ray, reference))
    return self._running[-1]


def _knock(address: str) -> None:
  """Raises UserError where nobody answers at HOST:PORT, which Ray would try for minutes."""
  host, _, port = address.rpartition('://')[2].rpartition(':')
  if host and port.isdecimal():
    try:
      socket.create_connection((host.strip('[]'), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
      raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str, why: str) -> UserError:
  return UserError(f'--ray_address {address}: no cluster can be joined there: {why}')


class _Task(Started):
  """A job that is a task of a cluster."""

  def __init__(self, job: Job, ray, reference):
    super().__init__(job)
    self._ray, self._reference = ray, reference
    self._status: Optional[int] = None
    self._said = ''

  def poll(self) -> Optional[int]:
    if self._status is None and self._ray.wait([self._reference], timeout=0)[0]:
      try:
        self._status, self.log, self._said = self._ray.get(self._reference)
      except self._ray.exceptions.TaskCancelledError:  # before it began
        self._status = STOPPED
      except self._ray.exceptions.RayError as error:
        self._status, self._said = 1, str(error).strip().splitlines()[-1]
    return self._status

  def stop(self) -> None:
    if self.poll() is None:
      self._ray.cancel(self._reference)  # a KeyboardInterrupt where it runs

  def last_line(self) -> str:
    return self._said


def _run_on_node(
  command: list[str], log_path: str, n_cores: int, folder: str, python_path: Optional[str]
) -> tuple[int, str, str]:
  """Runs a program on a node, on cores that no other task there has.

  Returns:
    Its exit status, its log, and what it said last.
  """
  # What a script starts in its background, as `ray start`, ignores SIGINT, and its workers with it:
  # by it Ray cancels a task.
  signal.signal(signal.SIGINT, signal.default_int_handler)
  environment = {**os.environ, **({'PYTHONPATH': python_path} if python_path else {})}
  all_cores = sorted(os.sched_getaffinity(0))  # Ray counts cores and says of none whose it is
  locks, cores = take_cores(all_cores[:n_cores])
  if len(locks) < n_cores:
    cores = all_cores
  cwd = folder if os.path.isdir(folder) else None
  with open_log(os.path.join(cwd or '', log_path)) as log:
    begin = log.tell()
    process = start_process(command, cores, log, cwd=cwd, env=environment)
  # Polled, for Ray cancels a task by a KeyboardInterrupt, which does not end a wait.
  while True:
    try:
      while process.poll() is None:
        time.sleep(_POLL_SECONDS)
      break
    except KeyboardInterrupt:
      process.send_signal(signal.SIGTERM)
  for lock in locks:
    lock.close()
  return process.returncode, log.name, last_line(log.name, begin)
