"""What a search leaves: the table of its trials, a figure, and the preset with the best values."""

import math
import os
import textwrap
from collections.abc import Collection, Sequence

from brac import files
from brac.grids.curves import BLUE, GREEN, PURPLE, VERMILION, plain
from brac.grids.jobs import WaitingLock
from brac.grids.search import Search
from brac.grids.space import Standing, read_curve
from brac.grids.tables import markdown, shown, text, write_csv

SIGN = 'as brac.sweep found them'  # by which a file is known to be a search's


def header(search: Search) -> list[str]:
  values = [f'at {step}' for step in search.schedule.rungs()]
  also = [] if search.metric.name == 'return' else ['return']
  return [*search.space.values, 'steps', search.metric.name, *values, *also, 'status']


def rows(search: Search) -> list[list]:
  """A row for each trial, the best of those that have come farthest first."""
  found, faults = [], search.faults
  for standing in _tried(search):
    values, curve, total = standing.point.values, standing.curve, search.schedule.total_train_steps
    # What a whole trial was trained for beyond that, as the winner is, is not compared.
    steps = next((at for at in curve.steps if at >= total), curve.steps[-1] if curve.steps else 0)
    numbers = [curve.mean(search.metric.last, steps), *standing.values]
    if search.metric.name != 'return':  # where the trials were simulated as well
      curve = read_curve(search.run_folder(standing.point), search.space.policy)
      numbers.append(curve.mean(search.metric.averaged))
    numbers = [x if math.isfinite(x) else '' for x in numbers]
    found.append([*values.values(), steps, *numbers, _status(standing, faults)])
  return found


def _tried(search: Search) -> list[Standing]:
  faults, last = search.faults, search.metric.last
  standings = [s for s in search.standings() if s.curve.steps or s.point.name in faults]

  def order(standing: Standing):
    value = standing.curve.mean(last)
    value = standing.worth(standing.level - 1) if standing.level else value
    return -standing.level, -value if math.isfinite(value) else math.inf

  return sorted(standings, key=order)


def _status(standing: Standing, faults: Collection[str]) -> str:
  if standing.point.name in faults:
    return 'failed'
  if standing.level == len(standing.values):
    return 'whole'
  return 'stopped' if standing.level else 'begun'


def readable(search: Search) -> list[list[str]]:
  """The table's cells as people read them."""
  n = len(search.space.values)
  lines = [header(search)]
  for row in rows(search):
    numbers = ['-' if x == '' else shown(x) for x in row[n + 1 : -1]]
    lines.append([*(f'{x:g}' for x in row[:n]), str(row[n]), *numbers, row[-1]])
  return lines


def protocol(search: Search) -> str:
  """How the trials were compared, in a sentence or two."""
  schedule, policy = search.schedule, search.judged_by()
  *rungs, total = schedule.rungs()
  at = f' Compared at step {", ".join(map(str, rungs))}, where one in {schedule.reduction} goes on;'
  return (
    f'Seed {search.seed}. {search.metric.describe(policy)}'
    f'{at + " a" if rungs else " A"} whole trial has {total} steps.'
  )


def alone(search: Search) -> WaitingLock:
  """While it is entered no other process writes what a search has found."""
  return WaitingLock(os.path.join(search.folder, 'outcome.lock'))


def write_tables(search: Search) -> str:
  """Writes the trials as CSV and Markdown; returns the path without its ending."""
  path = os.path.join(search.folder, f'trials_{search.seed}')
  with files.writing(search.folder):
    write_csv(path + '.csv', [header(search), *rows(search)])
    page = [f'# {search.name}', protocol(search), markdown(readable(search))]
    page += [f'- failed: {name}: {fault}' for name, fault in search.faults.items()]
    page.append(f'![Returns]({os.path.basename(path)}.png)')
    files.write_text(path + '.md', '\n\n'.join(page) + '\n')
  return path


def draw(search: Search, path: str) -> None:
  """What trials are worth over the first macro, a line for each value of the others.

  There is a panel for each rung.

  Filled points went on from there or are whole trials; open ones were stopped.
  """
  from matplotlib.figure import Figure

  standings = search.standings()
  steps = search.schedule.rungs()
  x_name, *others = search.space.values
  lines: dict[tuple, list[Standing]] = {}
  for standing in standings:
    lines.setdefault(tuple(standing.point.values[o] for o in others), []).append(standing)
  labels = [
    plain(', '.join(f'{o} {value:g}' for o, value in zip(others, values)) or x_name)
    for values in sorted(lines)
  ]
  longest = 0.6 + 0.075 * max(map(len, labels), default=0)  # inches, with the line before it
  width = max(1.0 + 3.6 * len(steps), longest)
  n_columns = min(3, int(width / longest))
  height = 3.8 + 0.19 * math.ceil(len(labels) / n_columns)
  figure = Figure(figsize=(width, height), dpi=120, layout='constrained')
  axes = figure.subplots(1, len(steps), sharex=True, sharey=True, squeeze=False)[0]
  colors, styles = (BLUE, VERMILION, GREEN, PURPLE, 'black'), ('-', '--', '-.', ':')
  handles = {}
  for k, (step, ax) in enumerate(zip(steps, axes)):
    for n, (label, (_, line)) in enumerate(zip(labels, sorted(lines.items()))):
      there = sorted((s for s in line if s.level > k), key=lambda s: s.point.values[x_name])
      if not there:
        continue
      color, style = colors[n % len(colors)], styles[n // len(colors) % len(styles)]
      xs = [s.point.values[x_name] for s in there]
      ys = [s.values[k] for s in there]
      (drawn,) = ax.plot(xs, ys, style, color=color, lw=1.2, marker='o', ms=5)
      handles.setdefault(label, drawn)
      stopped = [(x, y) for x, y, s in zip(xs, ys, there) if s.level == k + 1 < len(steps)]
      if stopped:
        ax.plot(*zip(*stopped), 'o', ms=5, mfc='white', mec=color, zorder=3)
    if min(search.space.tried(x_name)) > 0:
      ax.set_xscale('log')
      ticks = sorted({s.point.values[x_name] for s in standings if s.level})
      ax.set_xticks(ticks, [f'{x:g}' for x in ticks])
      ax.set_xticks([], minor=True)  # whose labels overlap
    n_there = sum(s.level > k for s in standings)
    ax.set_title(f'step {step} ({n_there} trial{"" if n_there == 1 else "s"})', fontsize=9)
    ax.set_xlabel(x_name, fontsize=9)
    ax.grid(alpha=0.25)
    ax.tick_params(labelsize=8)
  low, high = axes[0].get_ylim()
  if low > 0:
    axes[0].set_ylim(0, 1.05 * high)  # so that what is nearly equal looks so
  axes[0].set_ylabel(f'{search.metric.name} of {search.judged_by()}', fontsize=9)
  note = '; open points were stopped there' if len(steps) > 1 else ''
  figure.suptitle(plain(search.name + note), fontsize=10)
  figure.legend(
    handles.values(),
    handles.keys(),
    loc='outside lower center',
    ncols=n_columns,
    fontsize=8,
    frameon=False,
  )
  figure.savefig(path)


def surpassing(search: Search) -> list[str]:
  """The trials that were stopped and were worth more there than the best is: it may have fallen."""
  best, found = search.best(), []
  if search.metric.name != 'return':  # estimates of so many steps are not those of others
    return found
  for s in search.standings():
    if best and 0 < s.level < best.level and s.worth(s.level - 1) > best.worth(best.level - 1):
      step = search.schedule.rungs()[s.level - 1]
      found.append(f'{s.point.name} with {shown(s.worth(s.level - 1))} at {step}')
  return found


def tuned_text(
  search: Search, include: str, about: list[str], gin_bindings: Sequence[str] = ()
) -> str:
  """A gin file that includes the preset and binds the best values, with how they were found.

  Args:
    search: one of which a trial has come to a rung.
    include: the preset, as gin finds it.
    about: sentences on the environment and the data.
    gin_bindings: what was bound of all trials.
  """
  winner, begun = search.best(), [s for s in search.standings() if s.curve.steps]
  comment = [f'{search.name}: {" and ".join(search.space.values)} {SIGN}.', '']
  comment += textwrap.wrap(' '.join([*about, protocol(search)]), 96)
  comment += ['', *text(readable(search)).splitlines()]
  comment += [f'failed: {name}' for name in search.faults]
  comment += [f'stopped, and worth more when it was: {trial}' for trial in surpassing(search)]
  lines = [f'# {line}'.rstrip() for line in comment] + ['', f'include {include!r}', '']
  if gin_bindings:
    lines += ['# As --gin_bindings had it for all trials:', *gin_bindings, '']
  for macro in search.space.values:
    tried = ', '.join(f'{x:g}' for x in sorted({s.point.values[macro] for s in begun}))
    lines.append(f'{macro} = {winner.point.values[macro]!r}  # of {tried}')
  return '\n'.join(lines) + '\n'
