"""The one error that a person at a shell is meant to read, what helps to word it, and its checks.

A check names a parameter as `{where}.{name}`, the way it is bound by gin; where `where` is '', for
what the caller cannot know the place of, by its name alone.
"""

import contextlib
import difflib
import logging as python_logging
from collections.abc import Iterable, Iterator
from numbers import Real

from absl import logging

MOST = 3.4e38  # within float32; no parameter needs more, not even one that stands for never
_MOST_WHOLE = 10**18  # within int64


class UserError(Exception):
  """A mistake that the user can mend: one line on what is wrong, where, and what would be right.

  Attributes:
    exit_status: that of a program which ends by it.
  """

  exit_status = 1


class InUse(UserError):
  """Another process has the folder: to be tried again later (EX_TEMPFAIL of sysexits.h)."""

  exit_status = 75


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
  """What an error says where a name is likely to be meant for one of others; else nothing.

  Args:
    name: the name.
    names: those that there are.
    cutoff: how alike they must be, from 0, at all, to 1.
  """
  near = difflib.get_close_matches(name, list(names), 1, cutoff)
  return f'; did you mean {near[0]!r}?' if near else ''


@contextlib.contextmanager
def quiet(level: int) -> Iterator[None]:
  """Keeps what libraries log up to a level of Python's `logging` off."""
  before = python_logging.root.manager.disable
  python_logging.disable(level)
  try:
    yield
  finally:
    python_logging.disable(before)


def check_whole(where: str, least: int, most: int = _MOST_WHOLE, **numbers: float):
  """Returns parameters of `where` as ints: in their order, a single one by itself.

  Raises:
    UserError: one is not a whole number in [least, most]. 1e6 is one.
  """
  for name, x in numbers.items():
    if not is_number(x) or not least <= x <= most or x % 1:
      range_ = f'a whole number from {least} to {most:g}'
      raise UserError(f'{_full(where, name)} is {range_}, not {x!r}')
  return _values(map(int, numbers.values()))


def check_number(where: str, low: float = -MOST, high: float = MOST, **numbers: float):
  """Returns parameters of `where` as floats: in their order, a single one by itself.

  Raises:
    UserError: one is not a number in [low, high].
  """
  for name, x in numbers.items():
    if not is_number(x) or not low <= x <= high:
      unbounded = low == -high == -MOST
      range_ = f'a number from {low:g} to {high:g}'
      range_ = 'a finite number (float32)' if unbounded else range_
      raise UserError(f'{_full(where, name)} is {range_}, not {x!r}')
  return _values(map(float, numbers.values()))


def check_bool(where: str, **values: bool) -> None:
  """Raises UserError where a parameter of `where` is not True or False."""
  for name, x in values.items():
    if not isinstance(x, bool):
      raise UserError(f'{_full(where, name)} is True or False, not {x!r}')


def warn_of_clipping(where: str, low: float, high: float, **numbers: float) -> None:
  """Says which parameters of `where` are outside of the bounds that they will be clipped to."""
  for name, x in numbers.items():
    if not low <= x <= high:
      range_ = f'[{low:g}, {high:g}]'
      logging.warning('%s is %g, outside of %s, and clipped to it', _full(where, name), x, range_)


def is_number(x) -> bool:
  """Whether `x` is an int or a float, of Python or numpy; True and False are none."""
  return isinstance(x, Real) and not isinstance(x, bool)


def _full(where: str, name: str) -> str:
  return f'{where}.{name}' if where else name


def _values(numbers):
  numbers = tuple(numbers)
  return numbers if len(numbers) > 1 else numbers[0]


@contextlib.contextmanager
def blaming(what: str) -> Iterator[None]:
  """Makes one line that begins with `what` of anything that third-party code raises."""
  try:
    yield
  except (Exception, SystemExit) as error:
    raise UserError(': '.join(filter(None, (what, first_line(error))))) from error


def first_line(error: BaseException) -> str:
  """What a third-party error says, in one line, with its kind where that says anything."""
  first = str(error).strip().split('\n')[0]
  kind = '' if type(error) in (ValueError, UserError) else type(error).__name__
  return ': '.join(filter(None, (kind, first)))
