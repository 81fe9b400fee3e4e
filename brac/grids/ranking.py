"""How well estimates rank policies, from a table with a line for each."""

import csv
import math

from brac.errors import UserError
from brac.grids.statistics import regret_at_1, spearman


def read_columns(path: str, *names: str) -> list[tuple[float, ...]]:
  """The lines of a table that have a number in each of the columns.

  Raises:
    UserError: there is no such table, or it lacks a column.
  """
  try:
    with open(path, encoding='utf-8-sig', newline='') as f:
      reader = csv.DictReader(f)
      lines, there = list(reader), reader.fieldnames or ()
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    reason = getattr(error, 'strerror', None) or error
    raise UserError(f'--table {path} cannot be read: {reason}') from error
  lacking = [name for name in names if name not in there]
  if lacking:
    columns = ', '.join(map(repr, there)) or 'none'
    raise UserError(f'--table {path} has no column {lacking[0]!r}; there is {columns}')
  rows = []
  for line in lines:
    try:
      row = tuple(float(line[name]) for name in names)
    except (TypeError, ValueError):
      continue
    if all(map(math.isfinite, row)):
      rows.append(row)
  return rows


def summary(rows: list[tuple[float, float]]) -> str:
  """A line on pairs of an estimate and what it is of.

  Raises:
    UserError: there are fewer than two.
  """
  if len(rows) < 2:
    raise UserError(f'ranking needs at least two policies with both numbers, not {len(rows)}')
  estimates, truths = zip(*rows)
  regret = regret_at_1(estimates, truths)
  spread = max(truths) - min(truths)
  part = f', {100 * regret / spread:.0f} % of their spread' if spread else ''
  return (
    f"{len(rows)} policies: Spearman's rank correlation {spearman(estimates, truths):.2f}; "
    f'regret at 1 {regret:.4g}{part}'
  )
