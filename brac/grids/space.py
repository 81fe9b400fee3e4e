"""What a search tries: a grid's file, its points, and how far the run of each has come."""

import contextlib
import itertools
import json
import math
import os
import re
import sys
from typing import Callable, NamedTuple, Optional

import numpy as np

from brac import results
from brac.errors import UserError, is_number


class Space(NamedTuple):
  """A grid of values.

  Attributes:
    path: its file.
    policy: the evaluated policy that trials are compared by; '': the one that the runs say they are
      judged by, `main` for those that say nothing.
    values: those of each gin macro, in their order.
    others: points of trials of other grids. They count as far as they have come, and go on where
      they are among the best.
  """

  path: str
  policy: str
  values: dict[str, list[float]]
  others: tuple['Point', ...] = ()

  def tried(self, macro: str) -> list[float]:
    """All values of a macro, from the least to the largest."""
    return sorted({point.values[macro] for point in self.points()})

  def distance_from(self, one: 'Point') -> Callable[['Point'], int]:
    """Tells how many of the values that are tried a point is apart from one, over all macros."""
    tried = {macro: self.tried(macro) for macro in self.values}
    at = {macro: values.index(one.values[macro]) for macro, values in tried.items()}
    return lambda other: sum(abs(at[m] - x.index(other.values[m])) for m, x in tried.items())

  def points(self) -> list['Point']:
    """All of them: the grid's coarse ones first, the others last.

    Coarse is every other value of each macro, from the first on: of a half-decade grid the decades.
    """
    grids = [list(enumerate(values)) for values in self.values.values()]
    points = [
      Point(
        tuple(k for k, _ in at),
        {name: value for name, (_, value) in zip(self.values, at)},
      )
      for at in itertools.product(*grids)
    ]
    return [*sorted(points, key=lambda point: not point.is_coarse), *self.others]


class Point(NamedTuple):
  """A value of each macro.

  Attributes:
    at: where the values stand in their lists; () of a point that the grid does not have.
    values: by the macros' names.
  """

  at: tuple[int, ...]
  values: dict[str, float]

  @property
  def is_coarse(self) -> bool:
    return bool(self.at) and not any(k % 2 for k in self.at)

  @property
  def name(self) -> str:
    """What its folder is called: ALPHA_30,POLICY_LR_3e-05."""
    return ','.join(f'{macro}_{value:g}' for macro, value in sorted(self.values.items()))

  @property
  def bindings(self) -> list[str]:
    return [f'{macro}={value!r}' for macro, value in sorted(self.values.items())]


def points_beside(tried: Space, folder: str) -> list[Point]:
  """The points of the trials in a folder that a grid does not have, of the same macros."""
  macros, known = sorted(tried.values), {point.name for point in tried.points()}
  form = re.compile(','.join(rf'{macro}_([^,]+)' for macro in macros))
  found = []
  for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
    match = form.fullmatch(name)
    if not match or name in known:
      continue
    with contextlib.suppress(ValueError):  # what is no number is no trial's
      values = dict(zip(macros, map(float, match.groups())))
      for macro in macros:  # a number of units stays a whole one
        if all(isinstance(x, int) for x in tried.values[macro]) and values[macro].is_integer():
          values[macro] = int(values[macro])
      point = Point((), values)
      if point.name == name:
        found.append(point)
  return found


def read(path: str) -> Space:
  """Reads a grid: {"values": {"ALPHA": [0.1, ...], ...}}, and "policy" where that is to be said.

  Raises:
    UserError: it is none.
  """
  try:
    with open(path, encoding='utf-8') as f:
      content = json.load(f, object_pairs_hook=_no_key_twice)
  except OSError as error:
    raise UserError(f'grid {path}: {error.strerror}') from None
  except (ValueError, RecursionError) as error:
    raise UserError(f'grid {path} is no JSON that can be read: {error}') from None
  reads = 'reads {"values": {"ALPHA": [0.1, 1.0], ...}}, and may have "policy": "max_q"'
  if not isinstance(content, dict) or not content.keys() <= {'about', 'policy', 'values'}:
    raise UserError(f'grid {path} {reads}')
  policy, values = content.get('policy', ''), content.get('values')
  if not isinstance(policy, str) or not isinstance(values, dict) or not values:
    raise UserError(f'grid {path} {reads}')
  for macro, numbers in values.items():
    if not re.fullmatch(r'[A-Za-z_]\w*', macro):
      raise UserError(f'grid {path}: {macro!r} is no name of a gin macro')
    if not isinstance(numbers, list) or not numbers or not all(map(_is_finite, numbers)):
      raise UserError(f'grid {path}: {macro} has a list of numbers, not {numbers!r}')
    if len({f'{x:g}' for x in numbers}) < len(numbers):
      raise UserError(f'grid {path}: of {macro} two values are the same in six digits')
  return Space(path, policy, values)


def _no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
  names = [name for name, _ in pairs]
  if twice := [name for name in names if names.count(name) > 1]:
    raise ValueError(f'{twice[0]!r} is there twice')
  return dict(pairs)


def _is_finite(x) -> bool:
  return is_number(x) and abs(x) <= sys.float_info.max


class Curve(NamedTuple):
  """The evaluations of a run, of the policy that it is judged by.

  Attributes:
    steps: at which it was evaluated.
    returns: the mean returns; NaN where an evaluation failed.
  """

  steps: tuple[int, ...] = ()
  returns: tuple[float, ...] = ()

  def mean(self, last: int, step: Optional[float] = None) -> float:
    """The mean of the last evaluations up to the first that is at a step, or after it.

    NaN where that has not come, -inf where they failed; without a step, at the end.
    """
    n = len(self.steps)
    if step is not None:
      n = next((k + 1 for k, at in enumerate(self.steps) if at >= step), 0)
    known = [x for x in self.returns[max(0, n - last) : n] if math.isfinite(x)]
    return float(np.mean(known)) if known else -math.inf if n else math.nan


class Halving(NamedTuple):
  """How trials are compared.

  Attributes:
    total_train_steps: of those that are never stopped.
    first_rung: the step at which trials are compared first; the next rung is `reduction` times as
      far, and so on.
    reduction: η: at a rung one of so many goes on.
    max_trials: how many points are tried at most.
  """

  total_train_steps: int
  first_rung: int
  reduction: int
  max_trials: int

  def rungs(self) -> list[int]:
    """The steps of the rungs, and at the end that of whole trials."""
    rungs, step = [], self.first_rung
    while step < self.total_train_steps:
      rungs.append(step)
      step *= self.reduction
    return [*rungs, self.total_train_steps]


class Standing(NamedTuple):
  """How far the run of a point has come.

  Attributes:
    curve: its evaluations.
    values: what it was worth at each rung and as a whole trial; NaN where it has not come so far,
      -inf where its evaluations there failed.
  """

  point: Point
  curve: Curve
  values: list[float]

  @property
  def level(self) -> int:
    """How many of the rungs it has come to."""
    return max((k + 1 for k, value in enumerate(self.values) if not math.isnan(value)), default=0)

  def worth(self, rung: int) -> float:
    """What it was worth at a rung; least of all where it has not come there."""
    return -math.inf if math.isnan(self.values[rung]) else self.values[rung]


def read_curve(folder: str, policy: str) -> Curve:
  """The evaluations that a run's folder tells; none where it tells none.

  Args:
    folder: the run's.
    policy: of which; '': of the one that the run is judged by.

  Raises:
    UserError: the run evaluates no such policy.
  """
  try:
    steps, returns = results.read_results(os.path.join(folder, results.RESULTS))
  except ValueError:  # none yet, or damaged: the run says so when it goes on
    return Curve()
  about = results.read_about(folder)
  policy = policy or (about.judged_by if about else 'main')
  if policy not in returns:
    raise UserError(f'{folder}: its policies are {", ".join(returns)}; there is no {policy!r}')
  return Curve(steps, returns[policy])
