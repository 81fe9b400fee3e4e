"""A run and its folder: what is written down, what is warned of, how it is stopped.

The side effects of an experiment live here: TensorBoard, `results.csv`, the terminal, signals.
"""

import atexit
import collections
import contextlib
import fcntl
import functools
import glob
import json
import math
import os
import signal
import socket
import sys
import time
import zlib
from typing import IO, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import gin
import numpy as np
import tensorflow as tf
import tqdm
from absl import logging
from tensorflow.core.util import event_pb2

import brac
from brac import checkpoints, files, results
from brac.errors import InUse, UserError


class Stopped(Exception):
  """Somebody asked the program to stop, and what there was to save is saved."""

  def __init__(self, signal_number: int):
    super().__init__(signal.Signals(signal_number).name)
    self.exit_status = 128 + signal_number


_stop_signals: List[int] = []


def catch_stops() -> None:
  """From now on Ctrl-C and SIGTERM wait until the program asks for them; a second one does not."""

  def note(signal_number, _):
    if _stop_signals:
      raise KeyboardInterrupt(signal_number)
    _stop_signals.append(signal_number)

  signal.signal(signal.SIGINT, note)
  signal.signal(signal.SIGTERM, note)


def stop_requested() -> bool:
  return bool(_stop_signals)


def stop(what: str) -> None:
  """Ends the program after a signal, saying what was saved."""
  print(f'stopped by {signal.Signals(_stop_signals[0]).name}; {what}', file=sys.stderr, flush=True)
  raise Stopped(_stop_signals[0])


class Progress:
  """A bar on a terminal, and plain lines in a log."""

  def __init__(self, what: str, total: int, initial: int = 0, unit: str = 'step'):
    self._bar = tqdm.tqdm(
      desc=what,
      total=total,
      initial=initial,
      unit=unit,
      unit_scale=True,
      disable=not sys.stderr.isatty(),
      dynamic_ncols=True,
    )
    self._what, self._total, self._unit = what, total, unit
    self._n, self._started, self._first = initial, time.monotonic(), initial

  def update(self, n: int) -> None:
    """Sets how much is done."""
    self._bar.update(n - self._n)
    self._n = n

  def say(self, line: str) -> None:
    """A line above the bar, or in the log."""
    if self._bar.disable:
      logging.info('%s', line)
    else:
      self._bar.write(line, file=sys.stderr)

  def tell(self, line: str = '') -> None:
    """What the bar shows anyway, for a log."""
    if self._bar.disable:
      rate = (self._n - self._first) / max(time.monotonic() - self._started, 1e-9)
      logging.info(
        '%s: %d of %d, %.0f %ss/s%s', self._what, self._n, self._total, rate, self._unit, line
      )

  def close(self) -> None:
    self._bar.close()


class Clock:
  """How the time of a run divides."""

  def __init__(self):
    self._seconds = collections.Counter()

  @contextlib.contextmanager
  def __call__(self, what: str) -> Iterator[None]:
    start = time.monotonic()
    try:
      yield
    finally:
      self._seconds[what] += time.monotonic() - start

  def __str__(self) -> str:
    total = max(sum(self._seconds.values()), 1e-9)
    parts = (f'{what} {s:.0f} s ({100 * s / total:.0f} %)' for what, s in self._seconds.items())
    return 'time: ' + ', '.join(parts)


def _writes(method: Callable) -> Callable:
  """A method of `Record` that raises UserError where its folder cannot be written."""

  @functools.wraps(method)
  def wrapped(self, *args):
    with files.writing(self.folder, (OSError, tf.errors.OpError)):
      return method(self, *args)

  return wrapped


class Record:
  """TensorBoard's event files and `results.csv` in a run's folder.

  Each method raises UserError where the folder cannot be written.
  """

  def __init__(self, folder: str, policy_names: Sequence[str], step: int = 0):
    """Opens the record of a run that stands at `step`: what was written after it goes.

    Raises UserError where the `results.csv` that is there is damaged.
    """
    self.folder = folder
    self._csv = os.path.join(folder, 'results.csv')
    self._header = ['step', *policy_names]
    self.results: List[List[float]] = []
    self._open(step)

  @_writes
  def _open(self, step: int) -> None:
    os.makedirs(self.folder, exist_ok=True)
    if os.path.exists(self._csv):
      try:
        steps, returns = results.read_results(self._csv)
      except ValueError as error:
        raise UserError(
          f'{self.folder}: {error}; put a good copy in its place, or remove it and lose its rows'
        ) from error
      if list(returns) == self._header[1:]:
        self.results = [list(row) for row in zip(steps, *returns.values()) if row[0] <= step]
    self._write_results()
    evals = {name: os.path.join('eval', name) for name in self._header[1:]}
    self._writers = {}
    for name, part in {'train': 'train', **evals}.items():
      part = os.path.join(self.folder, part)
      _cut_events(part, step)
      self._writers[name] = tf.summary.create_file_writer(part)

  def _write_results(self) -> None:
    rows = [self._header, *self.results]
    files.write_text(self._csv, ''.join(','.join(map(str, row)) + '\n' for row in rows))

  @_writes
  def summary(self, step: int, info: Dict[str, float]) -> None:
    """Writes the numbers of a training step under their tags."""
    with self._writers['train'].as_default(step):
      for tag, value in info.items():
        tf.summary.scalar(tag, value)

  @_writes
  def evaluation(self, step: int, returns: Dict[str, np.ndarray]) -> None:
    """Writes the mean returns of an evaluation."""
    for name, values in returns.items():
      with self._writers[name].as_default(step):
        tf.summary.scalar('episode_mean', np.mean(values))
    self.results.append([step, *(float(np.mean(values)) for values in returns.values())])
    self._write_results()
    self.flush()

  @_writes
  def flush(self) -> None:
    for writer in self._writers.values():
      writer.flush()


def _cut_events(folder: str, step: int) -> None:
  """Takes the events after a step out of a folder's event files, and what a crash left half."""
  for path in sorted(glob.glob(os.path.join(glob.escape(folder), 'events.out.tfevents.*'))):
    kept, dropped = [], False
    try:
      for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        if event_pb2.Event.FromString(record).step <= step:
          kept.append(record)
        else:
          dropped = True
    except tf.errors.DataLossError:
      dropped = True
    if dropped:
      with tf.io.TFRecordWriter(path + '.unfinished') as writer:
        for record in kept:
          writer.write(record)
      os.replace(path + '.unfinished', path)


def write_config(folder: str) -> None:
  """Writes `operative_config.gin`: the version, each parameter that the run used and its value."""
  text = f'{results.VERSION}{version()}\n{gin.operative_config_str()}'
  with files.writing(folder):
    files.write_text(os.path.join(folder, 'operative_config.gin'), text)


def lock(folder: str) -> IO:
  """Takes a folder for this process until the process ends, however it ends.

  Raises:
    InUse: another process has it.
    UserError: it cannot be written.
  """
  checkpoints.check_path(folder)
  with files.writing(folder):
    os.makedirs(folder, exist_ok=True)
    handle = open(os.path.join(folder, 'lock'), 'ab+', buffering=0)
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      handle.seek(0)
      holder = handle.read().decode().strip()
      raise InUse(f'{folder} is in use by {holder}') from None
    atexit.register(handle.truncate, 0)
    handle.truncate(0)
    handle.write(f'process {os.getpid()} on {socket.gethostname()}'.encode())
  return handle


def kept_settings(path: str) -> Dict[str, str]:
  """The settings that are kept in the checkpoint at a path; none in one that has no such."""
  reader = checkpoints.Reader(path)
  if 'settings' not in reader.shapes:
    return {}
  try:
    return dict(json.loads(reader.read('settings')))
  except (ValueError, TypeError) as error:
    raise UserError(f'checkpoint {path}: its settings are not those of a run') from error


def version() -> str:
  """The package's version, and a checksum of its source, which changes between releases too."""
  folder, checksum = os.path.dirname(os.path.abspath(brac.__file__)), 0
  for part in ('*.py', 'agents/*.py'):
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), part))):
      with open(path, 'rb') as f:
        checksum = zlib.crc32(f.read(), checksum)
  return f'{brac.__version__} of source {checksum:08x}'


class Settings:
  """What the numbers of a run depend on, the version of its code too: kept with its state.

  Attributes:
    variable: to be saved under the key `settings`.
  """

  def __init__(self, **flags):
    """Takes the flags that matter; the gin parameters are those used so far."""
    self._now = {'version': version(), **{f'--{k}': repr(v) for k, v in flags.items()}}
    for line in gin.operative_config_str(max_line_length=10**5).splitlines():  # a line each
      name, is_binding, value = map(str.strip, line.partition('='))  # or an import
      if is_binding and not line.startswith('#'):
        if name.rpartition('.')[2] not in results.NO_NUMBER_DEPENDS_ON:
          self._now[name] = value
    self.variable = tf.Variable(json.dumps(self._now, sort_keys=True))

  def changes(self, path: str) -> Optional[List[str]]:
    """How they differ from those kept in the checkpoint at a path; None where none are kept."""
    then = kept_settings(path)
    if not then:
      return None
    return [
      f'{name} was {then.get(name, "not there")}, is {self._now.get(name, "not there")}'
      for name in sorted(then.keys() | self._now.keys())
      if then.get(name) != self._now.get(name)
    ]

  def check(self, path: str, allow_changes: bool) -> None:
    """Compares with the settings that are kept in the checkpoint at a path.

    Raises:
      UserError: they are others, and that is not allowed; the message lists the differences.
    """
    changes = self.changes(path) or []
    if changes and not allow_changes:
      raise UserError(
        f'{path} was saved with other settings: {"; ".join(changes)}; choose another --sub_dir, or '
        'go on with the new ones by --allow_changed_config'
      )
    for change in changes:
      logging.warning('going on with another setting: %s', change)


def check_finite(
  step: int, info: Dict[str, float], before: Dict[str, float], variable: str = ''
) -> None:
  """Raises UserError where a number of a training went wrong.

  Args:
    step: the one that was done last.
    info: its numbers.
    before: those of the step that was looked at before.
    variable: the key of a variable that is not finite, if there is one.
  """
  bad = [tag for tag, value in info.items() if not math.isfinite(value)]
  if not bad and not variable:
    return
  # A step may spoil the weights that its own, finite, losses are of.
  last = {tag: before[tag] for tag in bad if tag in before} if bad else info
  what = ', '.join(f'{tag} is {info[tag]}' for tag in bad) or f'{variable} is not finite'
  raise UserError(
    f'{what} at step {step}; '
    + (f'the last finite values were {short(last)}' if last else 'no step before was looked at')
    + '; what was saved before is kept'
  )


class Watch:
  """Warns, once each, of numbers that ought to move in training and stand still.

  A divergence that is the same number for long says no more what it should, and a multiplier that
  is trained does not stay the same unless it is at a bound. It counts from the start of the
  process: what is called long takes a minute or two, and each process has a log of its own.
  """

  LONG = 10_000  # training steps

  def __init__(self, tags: Iterable[str]):
    self._tags = set(tags)
    self._since: Dict[str, Tuple[int, float]] = {}

  def look(self, step: int, info: Dict[str, float]) -> List[str]:
    """Takes the numbers of a summary; returns what there is to warn of."""
    warnings = []
    for tag in sorted(self._tags & info.keys()):
      first, value = self._since.get(tag, (step, info[tag]))
      self._since[tag] = (first, value) if value == info[tag] else (step, info[tag])
      if step - self._since[tag][0] >= self.LONG:
        self._tags.remove(tag)
        warnings.append(
          f'{tag} has been {value:g} in every summary from step {first} to step {step}: it is at a '
          'bound, or nothing moves it'
        )
    return warnings


def short(info: Dict[str, float]) -> str:
  """The numbers of a step in a line."""
  return ', '.join(f'{tag} {value:.4g}' for tag, value in info.items())
