"""Makes the report of the runs kept here, and the tables of the comparison in the pages from it.

    python results/tuned/tables.py

README.md has the mean over seeds, docs/results.md each seed. `commands.sh` and the figures of the
pages are made anew, too.
"""

import csv
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict

from brac import files
from brac.grids.grid_flags import PRESETS
from brac.grids.tables import Rows, markdown

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(os.path.dirname(_HERE))
_REPORT = os.path.join(_HERE, 'report')
_ENVS = ('HalfCheetah-v2', 'Walker2d-v2', 'Hopper-v2', 'Ant-v2')
_HEAD = '`eps1`: `main` / `max_q`'

# By preset, environment and seed: the return of `main` and, of agents with a Q, of `max_q`.
Returns = dict[tuple[str, str, str], list[float]]


def main() -> None:
  subprocess.run(
    [sys.executable, '-m', 'brac.report', f'--root_dir={_HERE}', '--data_root_dir=nowhere',
     f'--output_dir={_REPORT}'],
    check=True,
  )  # fmt: skip
  os.replace(os.path.join(_REPORT, 'commands.sh'), os.path.join(_HERE, 'commands.sh'))
  for env in _ENVS:
    shown = os.path.join(_ROOT, 'docs', 'img', f'{env}_eps1_tuned.png')
    shutil.copy(os.path.join(_REPORT, f'{env}_eps1_n1000000.png'), shown)
  returns = read()
  put(os.path.join(_ROOT, 'README.md'), [*first_rows(), *means(returns)])
  put(os.path.join(_ROOT, 'docs', 'results.md'), [*first_rows(), *seeds(returns)])


def read() -> Returns:
  returns = defaultdict(list)
  with open(os.path.join(_REPORT, 'runs.csv'), encoding='utf-8') as f:
    for run in csv.DictReader(f):  # `main` stands before `max_q`
      env, _, _, preset, _, seed = run['folder'].split('/')
      returns[preset, env, seed].append(float(run['mean of last']))
  return returns


def first_rows() -> Rows:
  with open(os.path.join(_REPORT, 'behavior.csv'), encoding='utf-8') as f:
    by_step = {data['env']: float(data['mean by step']) for data in csv.DictReader(f)}
  return [[_HEAD, *_ENVS], ['data, by step', *(f'{by_step[env]:.0f}' for env in _ENVS)]]


def means(returns: Returns) -> Rows:
  """A row for each preset: means over seeds, with the number of seeds where it is not one."""
  rows = []
  for preset in PRESETS:
    row = [preset]
    for env in _ENVS:
      runs = [r for (p, e, _), r in returns.items() if (p, e) == (preset, env)]
      n = f' ({len(runs)})' if len(runs) > 1 else ''
      row.append(_cell([statistics.mean(policy) for policy in zip(*runs)]) + n)
    rows.append(row)
  return rows


def seeds(returns: Returns) -> Rows:
  """A row for each preset and seed that was run somewhere."""
  tried = sorted({(PRESETS.index(p), seed) for p, _, seed in returns})
  return [
    [f'{PRESETS[i]}, seed {seed}', *(_cell(returns.get((PRESETS[i], e, seed), [])) for e in _ENVS)]
    for i, seed in tried
  ]


def _cell(policies: list[float]) -> str:
  return ' / '.join(f'{x:.0f}' for x in policies)


def put(path: str, rows: Rows) -> None:
  """Puts the table in the place of the one that the page has under the same head."""
  with open(path, encoding='utf-8') as f:
    page = f.read()
  table = rf'^\| {re.escape(_HEAD)} \|.*\n(?:\|.*\n)+'
  page, found = re.subn(table, lambda _: markdown(rows) + '\n', page, flags=re.MULTILINE)
  if found != 1:
    raise RuntimeError(f'{path}: has {found} tables that begin with {_HEAD!r}, not one')
  files.write_text(path, page)


if __name__ == '__main__':
  main()
