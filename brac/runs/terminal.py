"""What a program and the person, or the scheduler, in front of it say to each other."""

import collections
import contextlib
import signal
import sys
import time
from typing import Iterator, NoReturn

import tqdm
from absl import logging

# What a person, a terminal that closes and a scheduler ask a program to stop by.
_SIGNALS = ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU')
_IMPATIENT = signal.SIGINT, signal.SIGTERM  # those that a person or a scheduler sends again


class Stopped(Exception):
  """Somebody asked the program to stop, and what there was to save is saved."""

  def __init__(self, signal_number: int):
    super().__init__(signal.Signals(signal_number).name)
    self.exit_status = 128 + signal_number


_stop_signals: list[int] = []


def catch_stops(at_once: bool = False) -> None:
  """From now on signals wait until the program asks for them, or raise KeyboardInterrupt at once.

  A second Ctrl-C or SIGTERM after a first one does not. The others come in twos by themselves (a
  terminal that closes, a limit of processor time) or as a warning of a SIGTERM to come. Where nohup
  has the closing of the terminal ignored, it stays so.
  """

  def note(signal_number, _):
    again = signal_number in _IMPATIENT and set(_stop_signals) & set(_IMPATIENT)
    _stop_signals.append(signal_number)  # also what a callback of C, in which it came, swallows
    if at_once or again:
      raise KeyboardInterrupt(signal_number)

  for name in _SIGNALS:
    number = getattr(signal, name)
    if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
      signal.signal(number, note)


def end_at_stops() -> None:
  """From now on a further Ctrl-C or SIGTERM ends a program that is ending because of one.

  What is still to be closed then, as Ray's driver is for seconds, has no one to catch it.
  """
  if _stop_signals:
    for number in _IMPATIENT:
      signal.signal(number, signal.SIG_DFL)


def stop_requested() -> bool:
  return bool(_stop_signals)


def stop(what: str) -> NoReturn:
  """Ends the program after a signal, saying what was saved."""
  name = signal.Signals(_stop_signals[0]).name
  with contextlib.suppress(OSError):
    print(f'stopped by {name}; {what}', file=sys.stderr, flush=True)
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
      with contextlib.suppress(OSError):  # of a terminal that was closed; the run is to be saved
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
