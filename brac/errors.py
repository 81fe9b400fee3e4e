"""The one error that a person at a shell is meant to read, and the checks that raise it most."""


class UserError(Exception):
  """A mistake that the user can mend: one line on what is wrong, where, and what would be right."""


def check_whole(where: str, least: int, **numbers: float) -> None:
  """Raises UserError where a parameter of `where` is not a whole number of at least `least`."""
  for name, x in numbers.items():
    if not _is_number(x) or x < least or x % 1:
      raise UserError(f'{where}.{name} is a whole number of at least {least}, not {x!r}')


def check_number(
  where: str, low: float = float('-inf'), high: float = float('inf'), **numbers: float
) -> None:
  """Raises UserError where a parameter of `where` is not a number in [low, high].

  Where there is no bound the number is finite; from a bound on, infinity may stand for never.
  """
  unbounded = low == -high == float('-inf')
  for name, x in numbers.items():
    if not _is_number(x) or not low <= x <= high or (unbounded and abs(x) == high):
      range_ = 'a finite number' if unbounded else f'a number from {low:g} to {high:g}'
      raise UserError(f'{where}.{name} is {range_}, not {x!r}')


def check_bool(where: str, **values: bool) -> None:
  """Raises UserError where a parameter of `where` is not True or False."""
  for name, x in values.items():
    if not isinstance(x, bool):
      raise UserError(f'{where}.{name} is True or False, not {x!r}')


def _is_number(x) -> bool:
  return isinstance(x, (int, float)) and not isinstance(x, bool)
