"""Makes the table and the figure of each search from `evaluations.csv`, over all of its grids.

    python results/search/tables.py [FOLDER, this one by default]

`overview.png` and `best.md`, too: what all of them say of α, and the best of each.

The trials' own folders are not kept, so each trial gets one for a moment, with its evaluations.
"""

import csv
import os
import shutil
import sys
import tempfile
from collections import defaultdict

from brac import files
from brac.data_config import project_folder
from brac.grids import grid_flags, outcome, space
from brac.grids.curves import BLUE, GREEN, PURPLE, VERMILION
from brac.grids.metrics import Returns
from brac.grids.search import Halving, Search
from brac.grids.space import Standing
from brac.grids.tables import markdown

_HERE = os.path.dirname(os.path.abspath(__file__))
_ENVS = ('HalfCheetah-v2', 'Walker2d-v2', 'Hopper-v2', 'Ant-v2')
_TUNED = os.path.join(os.path.dirname(_HERE), 'tuned', 'report')
_MACROS = ('ALPHA', 'TARGET_DIVERGENCE', 'PHI', 'POLICY_LR')
_STEPS = 30_000  # of a whole trial; what some have beyond is in evaluations.csv alone


def main(made: str = _HERE) -> None:
  searches, standings, best = defaultdict(list), {}, {}
  with open(os.path.join(_HERE, 'evaluations.csv'), encoding='utf-8', newline='') as f:
    for row in csv.DictReader(f):
      if int(row['step']) <= _STEPS:
        tried = row['preset'], row['variant']
        searches[row['env'], row['data'], tried, row['seed']].append(row)
  for (env, data, tried, seed), rows in searches.items():
    with tempfile.TemporaryDirectory() as folder:
      search = _search(f'{env} {data} {_named(*tried)}', rows, folder)
      path = outcome.write_tables(search)
      place = os.path.join(made, '_'.join([env, data, *filter(None, tried), f'seed{seed}']))
      shutil.copy(path + '.csv', place + '.csv')
      if search.best():
        outcome.draw(search, place + '.png')
        whole = standings[env, tried] = [s for s in search.standings() if s.level]
        best[tried, env] = f'{_in_words(search.best())} ({len(whole)})'
  draw_overview(standings, os.path.join(made, 'overview.png'))
  cells = [
    [_named(f'`{preset}`', variant), *(best.get(((preset, variant), env), '') for env in _ENVS)]
    for preset, variant in _rows(best)
  ]
  files.write_text(os.path.join(made, 'best.md'), markdown([['preset', *_ENVS], *cells]) + '\n')


def _rows(best: dict[tuple[tuple[str, str], str], str]) -> list[tuple[str, str]]:
  """Presets as the paper has them, each before its variants."""
  tried = sorted({tried for tried, _ in best})
  return sorted(tried, key=lambda x: grid_flags.PRESETS.index(x[0]))


def _named(preset: str, variant: str) -> str:
  return f'{preset}, {variant}' if variant else preset


def _in_words(best: Standing) -> str:
  values = dict(best.point.values)
  rate = f'{values.pop("POLICY_LR"):.0e}'.replace('e-0', 'e-')
  return f'{", ".join(f"{x:g}" for x in values.values())}; {rate}: {best.worth(0):.0f}'


def draw_overview(standings: dict[tuple[str, tuple[str, str]], list[Standing]], path: str) -> None:
  """The return over α: a panel for each environment, a line for each preset at its best rates."""
  from matplotlib.figure import Figure

  colors = {'kl': BLUE, 'mmd': VERMILION, 'kl_dual': GREEN, 'w': PURPLE}
  with open(os.path.join(_TUNED, 'behavior.csv'), encoding='utf-8') as f:
    by_step = {row['env']: float(row['mean by step']) for row in csv.DictReader(f)}
  figure = Figure(figsize=(11, 3.7), dpi=120, layout='constrained')
  axes = dict(zip(sorted(by_step), figure.subplots(1, len(by_step), sharex=True)))
  handles = {}
  for (env, (preset, variant)), whole in sorted(standings.items()):
    divergence, _, penalty = preset.rpartition('_')
    if divergence not in colors:
      continue
    best = {}  # of each α
    for s in whole:
      alpha, value = s.point.values['ALPHA'], s.worth(0)
      best[alpha] = max(value, best.get(alpha, value))
    style = '-o' if penalty == 'vp' else '--o'
    style = {'': style, 'n16': ':^', 'unbiased': ':s'}[variant]
    mark = colors[divergence] if penalty == 'vp' else 'white'
    line, *_ = axes[env].plot(
      *zip(*sorted(best.items())), style, color=colors[divergence], mfc=mark, lw=1.2, ms=5
    )
    handles.setdefault(_named(preset, variant), line)
  for env, ax in axes.items():
    line = ax.axhline(by_step[env], color='black', ls=':', lw=1)
    handles['behavior data, by step'] = line
    ax.set_xscale('log')
    ax.set_title(env, fontsize=9)
    ax.set_xlabel('α', fontsize=9)
    ax.grid(alpha=0.25)
    ax.tick_params(labelsize=8)
  next(iter(axes.values())).set_ylabel(f'return, steps 25k and {_STEPS // 1000}k', fontsize=9)
  figure.legend(
    handles.values(), handles, loc='outside lower center', ncols=6, fontsize=8, frameon=False
  )
  figure.savefig(path)


def _search(name: str, rows: list[dict[str, str]], folder: str) -> Search:
  """The search as it would be found in a folder, which gets the evaluations of its trials."""
  preset = rows[0]['preset']
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
  schedule = Halving(_STEPS, _STEPS, 3, len(points))
  return Search(name, tried, schedule, folder, 0, _no_job, Returns(2))


def _no_job(point: space.Point, total: int):
  raise NotImplementedError('nothing is trained here')


if __name__ == '__main__':
  main(*sys.argv[1:])
