"""How the gin parameters that are lists are read: `model_params`, `optimizers`, `weight_decays`."""

import ast
from typing import Optional, Sequence

from brac.errors import MOST, UserError, is_number

_MOST_UNITS = 10**4  # two such layers are 400 MB, a network with its target and Adam's numbers 2 GB


def read_model_params(
  agent: str, model_params, networks: Sequence[str], numbers: dict[str, Optional[float]]
) -> tuple[dict[str, tuple[int, ...]], dict[str, float]]:
  """Units by network and the other numbers by name; one tuple of units serves for all networks.

  Args:
    agent: its name, for errors.
    model_params: `((units, ...), number, ...)`.
    networks: what the units are for.
    numbers: what follows them, with the default of those that may be left out. Where nothing does,
      `model_params` may be the units alone.

  Raises:
    UserError: it does not read like that.
  """

  def check(reads_well: bool) -> None:
    if not reads_well:
      reads = f'{model_params_reads(networks, numbers)}, with 1 to {_MOST_UNITS} units in a layer'
      rules = [
        'n_q whole and at least 1' if name == 'n_q' else f'{name} at least 0' for name in numbers
      ]
      reads += ''.join(f', {rule}' for rule in rules)
      raise UserError(f'model_params of {agent} reads {reads}; got {model_params!r}')

  check(_is_list(model_params))
  units, *given = model_params
  if not numbers and not (len(given) == 1 and type(given[0]) is int):
    units, given = model_params, []
  check(_is_list(units) and len(units) in (1, len(networks)) and all(map(_is_list, units)))
  check(all(type(n) is int and 0 < n <= _MOST_UNITS for hidden in units for n in hidden))
  check(len(given) <= len(numbers) or not numbers)
  read = dict(numbers, **dict(zip(numbers, given)))
  check(all(is_number(x) and 0 <= x <= MOST for x in read.values()))
  n_q = read.get('n_q', 1)
  check(type(n_q) is int and n_q >= 1)
  return one_for_each('model_params', list(map(tuple, units)), networks), read


def model_params_reads(networks: Sequence[str], numbers: dict[str, Optional[float]]) -> str:
  """What `read_model_params` takes, as a person reads it."""
  units = '(' + ', '.join(f'({network} units)' for network in networks) + ',)'
  names = [k if x is None else f'{k} (default {x})' for k, x in numbers.items()]
  return f'({", ".join([units, *names])})' if numbers else units


def one_for_each(parameter: str, entries, names: Sequence[str]) -> dict[str, object]:
  """The entries of a parameter by what they are for; a single one serves for all.

  Raises:
    UserError: there are more or fewer.
  """
  if not _is_list(entries) or len(entries) not in (1, len(names)):
    raise UserError(
      f'{parameter} reads ({", ".join(names)}{"," if len(names) == 1 else ""}) or one entry for '
      f'all; got {entries!r}'
    )
  return dict(zip(names, list(entries) * (len(names) if len(entries) == 1 else 1)))


def same(one, other) -> bool:
  """Whether two values are one to the agents, as NaN is, and what has the same `plain` form."""
  return repr(plain(one)) == repr(plain(other))


def plain(value):
  """A value in the form that all its spellings share: 64.0 is 64, a list is a tuple."""
  if isinstance(value, (tuple, list)):
    return tuple(map(plain, value))
  return int(value) if isinstance(value, float) and value.is_integer() else value


def plain_text(text: str) -> Optional[str]:
  """As `plain`, of what gin writes of a value; None of what is no literal, as a reference."""
  try:
    return repr(plain(ast.literal_eval(text)))
  except (ValueError, SyntaxError, TypeError):
    return None


def _is_list(x) -> bool:
  return isinstance(x, (tuple, list)) and len(x) > 0
