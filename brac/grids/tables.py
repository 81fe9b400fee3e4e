"""Rows of cells as people and programs read them: text, Markdown, CSV."""

import csv
import io
import os
from typing import Callable, Iterable, Sequence, TypeVar

Rows = list[list[str]]
# What its CSV is called, its cells as people read them, and those of the CSV.
Table = tuple[str, Rows, list[list]]
ABSENT = '-'  # what stands in a cell without a number


def shown(x: float) -> str:
  return f'{x:.0f}' if abs(x) >= 100 else f'{x:.1f}'


def text(rows: Rows) -> str:
  """Rows of cells, the first column to the left and the others to the right."""
  widths = [max(map(len, column)) for column in zip(*rows)]
  lines = []
  for first, *others in rows:
    cells = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:]))]
    lines.append('  '.join(cells).rstrip())
  return '\n'.join(lines)


def markdown(rows: Rows) -> str:
  rows = [[cell.replace('|', r'\|') for cell in row] for row in rows]
  head, *body = (f'| {" | ".join(row)} |' for row in rows)
  return '\n'.join([head, '| --- |' + ' ---: |' * (len(rows[0]) - 1), *body])


_Key, _Value = TypeVar('_Key'), TypeVar('_Value')


def read_csv(
  path: str, parse: Callable[[dict[str, str]], tuple[_Key, _Value]]
) -> tuple[dict[_Key, _Value], list[str]]:
  """The rows of a CSV that `write_csv` left, as `parse` has them, and notes of what is wrong.

  One that cannot be read, or whose end is missing, tells nothing: a number may have been cut.
  """
  if not os.path.exists(path):
    return {}, []
  try:
    with open(path, encoding='utf-8', newline='') as f:
      written = f.read()
    if not written.endswith('\n'):
      raise ValueError('its end is missing')
    return dict(map(parse, csv.DictReader(io.StringIO(written, newline='')))), []
  except (OSError, ValueError, KeyError, TypeError, csv.Error):
    return {}, [f'{path} cannot be read; it is written anew']


def write_csv(path: str, rows: Iterable[Sequence]) -> None:
  with open(path, 'w', encoding='utf-8', newline='') as f:
    csv.writer(f).writerows(rows)
