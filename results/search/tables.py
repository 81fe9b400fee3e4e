"""Makes the table and the figure of each search from `evaluations.csv`, over all of its grids.

    python results/search/tables.py [FOLDER, this one by default]

The trials' own folders are not kept, so each trial gets one for a moment, with its evaluations.
"""

import csv
import os
import shutil
import sys
import tempfile
from collections import defaultdict

from brac.data_config import project_folder
from brac.grids import outcome, space
from brac.grids.metrics import Returns
from brac.grids.search import Schedule, Search

_HERE = os.path.dirname(os.path.abspath(__file__))
_MACROS = ('ALPHA', 'TARGET_DIVERGENCE', 'PHI', 'POLICY_LR')
_STEPS = 30_000  # of a whole trial; what some have beyond is in evaluations.csv alone


def main(made: str = _HERE) -> None:
  searches = defaultdict(list)
  with open(os.path.join(_HERE, 'evaluations.csv'), encoding='utf-8', newline='') as f:
    for row in csv.DictReader(f):
      if int(row['step']) <= _STEPS:
        searches[row['env'], row['data'], row['preset'], row['seed']].append(row)
  for (*names, preset, seed), rows in searches.items():
    with tempfile.TemporaryDirectory() as folder:
      search = _search(' '.join([*names, preset]), preset, rows, folder)
      path = outcome.write_tables(search)
      place = os.path.join(made, '_'.join([*names, preset, f'seed{seed}']))
      shutil.copy(path + '.csv', place + '.csv')
      if search.best():
        outcome.draw(search, place + '.png')


def _search(name: str, preset: str, rows: list[dict[str, str]], folder: str) -> Search:
  """The search as it would be found in a folder, which gets the evaluations of its trials."""
  macros = [macro for macro in _MACROS if any(row[macro] for row in rows)]
  trials = defaultdict(list)
  for row in rows:
    trials[tuple(float(row[macro]) for macro in macros)].append(row)
  points = [space.Point((), dict(zip(macros, values))) for values in trials]
  for point, trial in zip(points, trials.values()):
    run = os.path.join(folder, point.name, '0')
    os.makedirs(run)
    with open(os.path.join(run, 'results.csv'), 'w', encoding='utf-8') as f:
      f.write('step,main,max_q\n')
      f.writelines(f'{row["step"]},{row["main"]},{row["max_q"]}\n' for row in trial)
  policy = space.read(os.path.join(project_folder('configs'), 'grids', preset + '.json')).policy
  first = {macro: [value] for macro, value in points[0].values.items()}
  tried = space.Space('evaluations.csv', policy, first, tuple(points[1:]))
  schedule = Schedule(_STEPS, _STEPS, 3, len(points))
  return Search(name, tried, schedule, folder, 0, _no_job, Returns(2))


def _no_job(point: space.Point, total: int):
  raise NotImplementedError('nothing is trained here')


if __name__ == '__main__':
  main(*sys.argv[1:])
