"""What the trials of a search are compared by: their returns, or what fitted Q evaluation tells."""

import abc
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from brac import results
from brac.errors import UserError
from brac.grids.jobs import Job
from brac.grids.space import Curve, read_curve
from brac.grids.statistics import final


class Metric(abc.ABC):
  """What a trial is worth as its folder tells it, and the programs that find that out.

  Attributes:
    name: of the column in tables.
    averaged: how many of the last evaluations, of a trial or of its estimate, are averaged.
    last: how many of the numbers of `curve` are.
  """

  name: str
  averaged: int
  last: int

  @abc.abstractmethod
  def curve(self, folder: str, policy: str) -> Curve:
    """What the run in a folder was worth at its steps; `policy`: see `read_curve`."""

  @abc.abstractmethod
  def goal(self, rungs: Sequence[int], level: int) -> int:
    """The step that a trial which has come to so many rungs is taken to in one go."""

  @abc.abstractmethod
  def jobs(self, folder: str, train: Callable[[int], Job], goal: int) -> Iterator[Job]:
    """The programs, one after the other, that take the run in a folder there; `train` trains it."""

  @abc.abstractmethod
  def describe(self, policy: str) -> str:
    """A sentence on what it is, for a policy."""


class Returns(Metric):
  """The mean return of the last evaluations; the pruner stops a trial while it runs."""

  name = 'return'

  def __init__(self, averaged: int):
    self.averaged = self.last = averaged

  def curve(self, folder: str, policy: str) -> Curve:
    return read_curve(folder, policy)

  def goal(self, rungs: Sequence[int], level: int) -> int:
    return rungs[-1]

  def jobs(self, folder: str, train: Callable[[int], Job], goal: int) -> Iterator[Job]:
    yield train(goal)

  def describe(self, policy: str) -> str:
    return f'A return is the mean of the last {self.averaged} evaluations of {policy}.'


class Values(Metric):
  """The value that fqe estimates of a trial's policy as it was saved last, for which nothing acts.

  The estimate is a run of its own in the trial's folder, for each step at which there is one:
  fqe/{KEY}/{ENV}/{DATA_NAME}/n{N_TRAIN}/fqe/{STEP}/{SEED}. So a trial is trained to its next rung
  alone. The key tells estimates apart that were made otherwise.
  """

  name = 'value'
  last = 1  # of estimates at several steps

  def __init__(
    self,
    averaged: int,
    fqe_steps: int,
    evaluate: Callable[[str, str, int], Job],
    settings: Mapping[str, object],
    possible: tuple[float, float] = (-math.inf, math.inf),
  ):
    """Takes how an estimate is made.

    Args:
      averaged: how many of its last evaluations an estimate is the mean of.
      fqe_steps: the training steps of one.
      evaluate: the program that makes it, given below which folder its run is to be, and the folder
        and the step of the run that it is of.
      settings: what is bound of an estimate, which the key is of.
      possible: between which a policy's value is. An estimate beyond is of a Q that has diverged:
        worth less than any.
    """
    self._possible = possible
    self.averaged, self._fqe_steps, self._evaluate = averaged, fqe_steps, evaluate
    self._key = f'{zlib.crc32(repr([fqe_steps, sorted(settings.items())]).encode()):08x}'

  def _root(self, folder: str) -> str:
    """Where the estimates of the run in a folder are."""
    return os.path.join(folder, 'fqe', self._key)

  def curve(self, folder: str, policy: str) -> Curve:
    try:
      at = _step(folder)
    except UserError:  # which the trial says when it is to go on
      return Curve()
    values = {}
    for run in results.read_runs(self._root(folder)):
      if run.status == 'finished' and run.step >= self._fqe_steps and run.sub_dir.isdecimal():
        value, (low, high) = final(run, self.name, self.averaged), self._possible
        slack = (high - low) / 20  # a policy that gets nothing has a value about 0, or just below
        is_possible = low - slack <= value <= high + slack
        values[int(run.sub_dir)] = value if is_possible else math.nan
    # What is beyond where the run stands is of one that was there before.
    steps = sorted(step for step in values if step <= at)
    return Curve(tuple(steps), tuple(values[step] for step in steps))

  def goal(self, rungs: Sequence[int], level: int) -> int:
    return rungs[min(level, len(rungs) - 1)]

  def jobs(self, folder: str, train: Callable[[int], Job], goal: int) -> Iterator[Job]:
    step, estimates = _step(folder), os.path.dirname(self._root(folder))  # those of all keys
    there = [run.sub_dir for run in results.read_runs(estimates)]
    if any(name.isdecimal() and int(name) > step for name in there):
      raise UserError(
        f'{estimates} tells of a run that is gone, beyond step {step} where this one is; remove it'
      )
    if step < goal:
      yield train(goal)
    yield self._evaluate(self._root(folder), folder, _step(folder))

  def describe(self, policy: str) -> str:
    return (
      f'A value is what fitted Q evaluation of {policy} tells of the data, trained for '
      f'{self._fqe_steps} steps: the mean of its last {self.averaged} evaluations.'
    )


def _step(folder: str) -> int:
  """The step at which the run in a folder is saved; raises UserError where that is damaged."""
  try:
    step, _ = results.read_progress(folder) or (0, 0)
  except ValueError as error:
    raise UserError(f'{folder}: {error}') from error
  return step
