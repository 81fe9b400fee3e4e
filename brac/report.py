"""Prints a table of returns for the runs that train_offline left below a folder.

A number is the mean ± standard deviation over seeds of a run's mean return in its last evaluations;
for the data, over its whole episodes.
"""

import collections
import csv
import os
from typing import Dict, Iterator, List, Tuple

from absl import flags

from brac import programs

FLAGS = flags.FLAGS

flags.DEFINE_string('root_dir', os.path.join(programs.ROOT, 'learn'), 'Where runs are kept.')
flags.DEFINE_string('data_root_dir', os.path.join(programs.ROOT, 'data'), 'Where datasets are.')
flags.DEFINE_string('data_sub_dir', '0', 'The --sub_dir that the data was collected with.')
flags.DEFINE_string('data_file_name', 'data', "The dataset's file in its folder.")
flags.DEFINE_integer('last', 5, 'How many of the last evaluations are averaged.', lower_bound=1)


def find_runs(root_dir: str) -> Iterator[Tuple[Tuple[str, ...], str]]:
  """`((env, data, n_train, agent, sub_dir, seed), results.csv)` of the runs below a folder."""
  for folder, _, files in sorted(os.walk(root_dir)):
    place = tuple(os.path.relpath(folder, root_dir).split(os.sep))
    if 'results.csv' in files and len(place) == 6:
      yield place, os.path.join(folder, 'results.csv')


def last_returns(path: str, last: int) -> Dict[str, float]:
  """The mean of the last evaluations of each policy in a `results.csv`; none in an empty one."""
  with open(path, newline='') as f:
    rows = list(csv.DictReader(f))[-last:]
  names = [name for name in (rows[0] if rows else {}) if name != 'step']
  return {name: sum(float(row[name]) for row in rows) / len(rows) for name in names}


def table(rows: List[List[str]]) -> str:
  """Rows of cells, the first column to the left and the others to the right."""
  widths = [max(map(len, column)) for column in zip(*rows)]
  lines = []
  for row in rows:
    first, *others = [
      cell.rjust(width) if k else cell.ljust(width)
      for k, (cell, width) in enumerate(zip(row, widths))
    ]
    lines.append('  '.join([first, *others]).rstrip())
  return '\n'.join(lines)


def main() -> None:
  import numpy as np

  from brac import checkpoints, dataset
  from brac.errors import UserError

  root_dir, data_root_dir = map(programs.folder, (FLAGS.root_dir, FLAGS.data_root_dir))
  groups = collections.defaultdict(lambda: collections.defaultdict(list))
  for (env_name, data_name, n_train, agent, sub_dir, _), path in find_runs(root_dir):
    for policy, value in last_returns(path, FLAGS.last).items():
      name = f'{agent} {policy}' if sub_dir == '0' else f'{agent} {sub_dir} {policy}'
      groups[env_name, data_name, n_train][name].append(value)
  if not groups:
    raise UserError(f'--root_dir {root_dir}: no results of train_offline are below it')

  for (env_name, data_name, n_train), values in groups.items():
    parts = env_name, data_name, FLAGS.data_sub_dir, FLAGS.data_file_name
    path = os.path.join(data_root_dir, *parts)
    values = dict(values)
    if checkpoints.exists(path):
      values = {'behavior data': dataset.returns(path), **values}
    rows = [[f'{env_name} {data_name} {n_train}', 'return', '', 'of']]
    for name, xs in values.items():
      unit = 'episode' if name == 'behavior data' else 'seed'
      of = f'{len(xs)} {unit}{"s" if len(xs) != 1 else ""}'
      rows.append([name, f'{np.mean(xs):.0f}', f'± {np.std(xs):.0f}', of])
    print(table(rows), end='\n\n')


if __name__ == '__main__':
  programs.run(main)
