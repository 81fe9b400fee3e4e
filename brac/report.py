"""Tables, learning curves and interquartile means of the runs that train_offline left.

A number is the mean ± standard deviation over seeds (divided by n) of a run's mean return in its
last evaluations, of the runs that are finished. There is a row for each policy that was evaluated:
`main` is the policy's mode; `max_q` takes of 10 samples the one with the largest Q, as BEAR's paper
tests it. Compare that one with the papers; of BRAC both are given, side by side.

Prints the tables, and leaves in --output_dir: report.md, {ENV}_n{N}.csv, runs.csv, iqm.csv,
behavior.csv, and a figure of learning curves for each environment and dataset,
{ENV}_{DATA}_n{N}.png.
"""

import collections
import csv
import math
import os
import textwrap
from typing import Dict, Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np
from absl import flags

from brac import files, programs, results
from brac.errors import UserError
from brac.results import Run

FLAGS = flags.FLAGS

flags.DEFINE_string('root_dir', os.path.join(programs.ROOT, 'learn'), 'Where runs are kept.')
flags.DEFINE_string(
  'data_root_dir',
  os.path.join(programs.ROOT, 'data'),
  'Where datasets are. What behavior.csv in --output_dir tells of one stands in where it is gone.',
)
flags.DEFINE_string('data_sub_dir', '0', 'The --sub_dir that the data was collected with.')
flags.DEFINE_string('data_file_name', 'data', "The dataset's file in its folder.")
flags.DEFINE_string('output_dir', None, 'Where the files go; {root_dir}/report by default.')
flags.DEFINE_integer('last', 10, 'How many of the last evaluations are averaged.', lower_bound=1)

Rows = List[List[str]]
Task = Tuple[str, str, str]  # environment, data, n{N}

ABSENT = '-'
# Okabe and Ito's colours, which people with any colour vision tell apart.
BLUE, VERMILION, GREEN, PURPLE = '#0072B2', '#D55E00', '#009E73', '#CC79A7'


# --- The data's own return ------------------------------------------------------------------------


class Behavior(NamedTuple):
  """The returns of a dataset's whole episodes."""

  mean: float
  std: float
  by_step: float  # the mean with each episode weighted by its steps: of what batches are drawn from
  episodes: int


def read_behavior(path: str) -> Dict[Task, Behavior]:
  """What `write_behavior` left; raises ValueError where it is damaged."""
  if not os.path.exists(path):
    return {}
  with open(path, newline='') as f:
    return {
      (row['env'], row['data'], f'n{int(row["transitions"])}'): Behavior(
        *(float(row[k]) for k in ('mean', 'std', 'mean by step')), int(row['episodes'])
      )
      for row in csv.DictReader(f)
      if not any(value is None for value in row.values())
    }


def write_behavior(path: str, behavior: Dict[Task, Behavior]) -> None:
  header = ['env', 'data', 'transitions', 'mean', 'std', 'mean by step', 'episodes']
  rows = ([*task[:2], task[2][1:], *values] for task, values in sorted(behavior.items()))
  write_csv(path, [header, *rows])


def measure_behavior(path: str) -> Tuple[str, Behavior]:
  """Of the dataset at a path: how many transitions it has, as in a `Task`, and their returns.

  Raises:
    UserError: there is none, or it does not tell its episodes.
  """
  from brac.data import stored

  returns, steps = stored.episodes(path)
  if not len(returns):
    raise UserError(f'dataset {path} tells of no whole episode')
  by_step = np.average(returns, weights=steps)
  behavior = Behavior(float(returns.mean()), float(returns.std()), float(by_step), len(returns))
  return f'n{stored.size_of(path)}', behavior


# --- Numbers --------------------------------------------------------------------------------------


def final(run: Run, policy: str, last: int) -> float:
  """The mean return in the last evaluations of a run."""
  return float(np.mean(run.returns[policy][-last:]))


def iqm(scores: np.ndarray) -> np.ndarray:
  """The interquartile mean over the last axis: a quarter of the scores goes at either end."""
  n = scores.shape[-1]
  return np.sort(scores, axis=-1)[..., n // 4 : n - n // 4].mean(axis=-1)


def iqm_interval(
  strata: Sequence[np.ndarray], repetitions: int = 10000
) -> Tuple[float, float, float]:
  """The interquartile mean of the scores of several tasks, and its 95 % stratified bootstrap.

  Agarwal et al., Deep RL at the Edge of the Statistical Precipice, arXiv 2108.13264: seeds are
  drawn with replacement within each task. This is what the library rliable 1.2.0 computes; not used
  here because on Python 3.11 with these pins it fails at its import (arch 7.2 and pandas 3), wants
  equally many seeds of each task, cannot be seeded, and brings 300 MB of packages.

  Args:
    strata: the scores of each task's seeds, `[n_seeds]`.
    repetitions: how often seeds are drawn.
  """
  random = np.random.default_rng(0)
  drawn = [random.choice(scores, (repetitions, len(scores))) for scores in strata]
  low, high = np.percentile(iqm(np.concatenate(drawn, axis=1)), [2.5, 97.5])
  return float(iqm(np.concatenate(strata))), float(low), float(high)


def score(value: float, data: float) -> float:
  """A return in units of the data's: 1 is as good as the data, also where returns are negative."""
  return 1 + (value - data) / abs(data)


# --- Tables ---------------------------------------------------------------------------------------


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


def write_csv(path: str, rows: Iterable[Sequence]) -> None:
  with open(path, 'w', newline='') as f:
    csv.writer(f).writerows(rows)


class Cell(NamedTuple):
  """The runs of an algorithm on a dataset, in numbers of one policy."""

  values: Tuple[float, ...]  # of the finished runs
  guessed: bool  # whether one of these does not say itself that it is finished
  unfinished: int
  shorter: int  # finished, but after fewer steps than others: not among the values
  broken: int

  def __str__(self) -> str:
    parts = []
    if self.values:
      spread = f' ± {shown(np.std(self.values))}' if len(self.values) > 1 else ''
      mark = '?' if self.guessed else ''
      parts.append(f'{shown(np.mean(self.values))}{spread} ({len(self.values)}){mark}')
    parts += [f'{n} {what}' for what in LEFT_OUT if (n := getattr(self, what))]
    return ', '.join(parts) or ABSENT

  def numbers(self) -> list:
    mean = np.mean(self.values) if self.values else ''
    std = np.std(self.values) if len(self.values) > 1 else ''
    left_out = (getattr(self, what) for what in LEFT_OUT)
    return [mean, std, len(self.values), '?' if self.guessed else '', *left_out]


LEFT_OUT = ('unfinished', 'shorter', 'broken')
NUMBERS = ('mean', 'std', 'seeds', 'guessed', *LEFT_OUT)


class Report:
  """All runs of a tree, grouped."""

  def __init__(self, runs: List[Run], behavior: Dict[Task, Behavior], last: int):
    self.runs, self.behavior, self.last = runs, behavior, last
    self.tasks = sorted({run.task for run in runs})
    self.algorithms = sorted({run.algorithm for run in runs})
    # Where no run of an algorithm can be read, it has a row without a policy's name.
    self._policies = {
      name: list(dict.fromkeys(p for run in runs if run.algorithm == name for p in run.returns))
      or ['']
      for name in self.algorithms
    }

  def of(self, task: Task, algorithm: str) -> List[Run]:
    return [run for run in self.runs if (run.task, run.algorithm) == (task, algorithm)]

  def averaged(self, task: Task, algorithm: str) -> List[Run]:
    """The finished runs, but for those of fewer steps than others of them."""
    done = [run for run in self.of(task, algorithm) if run.status == 'finished']
    return [run for run in done if run.steps[-1] == max(other.steps[-1] for other in done)]

  def cell(self, task: Task, algorithm: str, policy: str) -> Cell:
    runs, averaged = self.of(task, algorithm), self.averaged(task, algorithm)
    n = collections.Counter(run.status for run in runs)
    having = [run for run in averaged if policy in run.returns]
    return Cell(
      tuple(final(run, policy, self.last) for run in having),
      not all(run.told for run in having),
      n['unfinished'],
      n['finished'] - len(averaged),
      n['broken'],
    )

  def rows(self, algorithms: Sequence[str]) -> List[Tuple[str, str]]:
    """`(algorithm, policy)` of a table's rows."""
    return [(name, policy) for name in algorithms for policy in self._policies[name]]

  def tables(self) -> List[Tuple[str, Rows, List[list]]]:
    """For each environment and number of transitions its name, its table, and that as a CSV."""
    found = []
    for env_name, n_train in dict.fromkeys((task[0], task[2]) for task in self.tasks):
      tasks = [task for task in self.tasks if (task[0], task[2]) == (env_name, n_train)]
      data_names = [task[1] for task in tasks]
      table = [[f'{env_name} {n_train}', *data_names]]
      sheet = [['algorithm', 'policy', *(f'{d} {what}' for d in data_names for what in NUMBERS)]]
      own = [self.behavior.get(task) for task in tasks]
      table.append(
        ['behavior data']
        + [f'{shown(b.mean)} ± {shown(b.std)} ({b.episodes} ep.)' if b else ABSENT for b in own]
      )
      more = [''] * (len(NUMBERS) - 2)
      sheet.append(
        ['behavior data', 'episodes']
        + [x for b in own for x in ([b.mean, b.std, *more] if b else [''] * len(NUMBERS))]
      )
      if any(b and not math.isclose(b.mean, b.by_step) for b in own):
        table.append(['behavior data, by step', *(shown(b.by_step) if b else ABSENT for b in own)])
        sheet.append(
          ['behavior data', 'steps'] + [x for b in own for x in [b.by_step if b else '', '', *more]]
        )
      there = {run.algorithm for run in self.runs if run.task in tasks}
      for name, policy in self.rows([a for a in self.algorithms if a in there]):
        cells = [self.cell(task, name, policy) for task in tasks]
        table.append([f'{name} {policy}'.strip(), *map(str, cells)])
        sheet.append([name, policy, *(x for cell in cells for x in cell.numbers())])
      found.append((f'{env_name}_{n_train}', table, sheet))
    return found

  def aggregate(self) -> List[list]:
    """Rows `(name, IQM, low, high, tasks, runs)` over the tasks; none where there is one alone.

    Where no task has two seeds there is no interval.
    """
    data = {task: b.by_step for task in self.tasks if (b := self.behavior.get(task)) and b.by_step}
    rows = []
    for name, policy in self.rows(self.algorithms) if len(data) > 1 else []:
      cells = {task: self.cell(task, name, policy) for task in data}
      strata = [
        np.array([score(x, data[t]) for x in c.values]) for t, c in cells.items() if c.values
      ]
      if strata:
        mean, low, high = iqm_interval(strata)
        interval = [low, high] if max(map(len, strata)) > 1 else ['', '']
        n_runs = f'{sum(map(len, strata))}{"?" * any(cell.guessed for cell in cells.values())}'
        rows.append([f'{name} {policy}', mean, *interval, f'{len(strata)} of {len(data)}', n_runs])
    return rows

  def notes(self, root_dir: str) -> List[str]:
    """What a reader of the tables has to know about single runs."""
    notes = []
    for run in self.runs:
      place = os.path.relpath(run.folder, root_dir)
      if run.status == 'broken':
        notes.append(f'broken: {place}: {run.fault}')
      elif run.status == 'unfinished':
        far = ', '.join(f'{p} {shown(final(run, p, self.last))}' for p in run.returns if run.steps)
        at = max(run.step, *run.steps[-1:], 0)
        notes.append(
          f'unfinished: {place}: step {at} of {run.total}{"" if run.told else " (?)"}; '
          + (f'so far {far}' if far else 'no evaluation so far')
        )
    few = {(r.algorithm, len(r.steps)) for r in self.runs if r.status == 'finished'}
    few = [f'{name} ({n})' for name, n in sorted(few) if n < self.last]
    if few:
      notes.append(f'runs of fewer evaluations, which are all averaged: {", ".join(few)}')
    lengths = {run.steps[-1] for run in self.runs if run.status == 'finished'}
    if len(lengths) == 1:
      notes.append(f'all finished runs are of {lengths.pop()} steps')
    for task in self.tasks:
      notes += self._notes_on(task, of_one_length=len(lengths) < 2)
    if any(run.status == 'finished' and not run.told for run in self.runs):
      notes.append(
        f'?: no {results.PROGRESS} says whether these runs are finished; they are as long as the '
        'longest of all'
      )
    return notes

  def _notes_on(self, task: Task, of_one_length: bool) -> List[str]:
    """What a reader has to know to compare the numbers of a task with one another."""
    notes, where = [], ' '.join(task)
    seeds = {run.seed for run in self.runs if run.task == task and run.seed}
    lengths: Dict[int, List[str]] = {}
    missing = [name for name in self.algorithms if not self.of(task, name)]
    if missing:
      notes.append(f'missing: {where}: {", ".join(missing)}')
    for seed in sorted(seeds):
      having = {run.algorithm for run in self.runs if (run.task, run.seed) == (task, seed)}
      lacking = [name for name in self.algorithms if name not in having and self.of(task, name)]
      if lacking:
        notes.append(f'missing: {where}: of seed {seed}: {", ".join(lacking)}')
    for name in self.algorithms:
      runs, averaged = self.of(task, name), self.averaged(task, name)
      for run in runs:
        if run.status == 'finished' and run not in averaged:
          notes.append(
            f'shorter: {where}: {name} of seed {run.seed} ended at step {run.steps[-1]}, others at '
            f'{averaged[0].steps[-1]}; it is left out'
          )
      if averaged:
        lengths.setdefault(averaged[0].steps[-1], []).append(name)
      for policy in self._policies[name]:
        without = [run.seed for run in averaged if policy not in run.returns]
        if 0 < len(without) < len(averaged):
          notes.append(f'{where}: {name} of seed {", ".join(without)} has no {policy}')
      if len({run.steps[-self.last :] for run in averaged}) > 1:
        notes.append(f'{where}: {name}: the last {self.last} evaluations are at different steps')
      differ = differing([results.read_settings(run.folder) for run in averaged])
      if differ:
        notes.append(f'{where}: {name}: runs of different settings: {", ".join(differ)}')
    if lengths and not of_one_length:
      of = '; '.join(f'{n} ({", ".join(names)})' for n, names in sorted(lengths.items()))
      notes.append(f'{where}: steps of the runs: {of}')
    if task not in self.behavior:
      notes.append(f"{where}: the data's return is not known: it is not below --data_root_dir")
    elif not self.behavior[task].by_step:
      notes.append(f"{where}: the data's return is 0, no unit for an interquartile mean: left out")
    return notes


def differing(settings: Sequence[Dict[str, str]]) -> List[str]:
  """The parameters that are not the same in all of these that are known, but for the clone."""
  known = [x for x in settings if x]
  names = sorted({name for x in known for name in x if not name.endswith('behavior_ckpt_file')})
  return [name for name in names if len({x.get(name) for x in known}) > 1]


# --- Learning curves ------------------------------------------------------------------------------


def band(runs: List[Run], policy: str) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The steps of the evaluations, and the mean and standard deviation over runs at each."""
  values: Dict[int, List[float]] = {}
  for run in runs:
    for step, value in zip(run.steps, run.returns[policy]):
      values.setdefault(step, []).append(value)
  steps = sorted(values)
  return (
    np.array(steps),
    np.array([np.mean(values[step]) for step in steps]),
    np.array([np.std(values[step]) for step in steps]),
  )


def draw(report: Report, task: Task, path: str) -> None:
  """The learning curves of a task: a panel for each algorithm, all on the same axes."""
  from matplotlib.figure import Figure
  from matplotlib.ticker import EngFormatter

  names = [a for a in report.algorithms if any(run.returns for run in report.of(task, a))]
  n_columns = min(4, len(names))
  n_rows = math.ceil(len(names) / n_columns)
  size = 0.6 + 2.9 * n_columns, 1.3 + 2.2 * n_rows
  figure = Figure(figsize=size, dpi=120, layout='constrained')
  axes = list(figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).flat)
  own = report.behavior.get(task)
  handles = {}
  for k_panel, (name, ax) in enumerate(zip(names, axes)):
    averaged = report.averaged(task, name)
    for k, (_, policy) in enumerate(report.rows([name])):
      color, style = ((BLUE, '-'), (VERMILION, '--'), (GREEN, '-.'), (PURPLE, ':'))[k % 4]
      for run in report.of(task, name):
        if run.steps and policy in run.returns and run not in averaged:
          (line,) = ax.plot(
            run.steps, run.returns[policy], style, color='0.6', lw=0.9, marker='.', ms=3
          )
          handles.setdefault('unfinished or shorter run', line)
      having = [run for run in averaged if policy in run.returns]
      if having:
        steps, mean, std = band(having, policy)
        (line,) = ax.plot(
          steps, mean, style, color=color, lw=1.5, marker='.' if len(steps) == 1 else ''
        )
        handles.setdefault(policy, line)
        if len(having) > 1:
          ax.fill_between(steps, mean - std, mean + std, color=color, alpha=0.2, lw=0)
    if own:
      data = ax.axhline(own.by_step, color='black', ls=':', lw=1)
      handles.setdefault('behavior data, by step', data)
    seeds = f'{len(averaged)} seed{"" if len(averaged) == 1 else "s"}'
    cell = report.cell(task, name, report.rows([name])[0][1])
    more = [f'{n} {what}' for what in LEFT_OUT if (n := getattr(cell, what))]
    mark = '?' if cell.guessed else ''
    ax.set_title(plain(f'{name} ({", ".join([seeds + mark, *more])})'), fontsize=9)
    ax.grid(alpha=0.25)
    ax.tick_params(labelsize=8, labelbottom=True)
    ax.xaxis.set_major_formatter(EngFormatter(sep=''))
    if k_panel + n_columns >= len(names):
      ax.set_xlabel('training step', fontsize=9)
    if k_panel % n_columns == 0:
      ax.set_ylabel('return of an episode\n(sum of rewards)', fontsize=9)
  for ax in axes[len(names) :]:
    ax.remove()
  env_name, data_name, n_train = task
  title = f'{env_name}, data {data_name}, {n_train[1:]} transitions'
  figure.suptitle(plain(title), fontsize=11)
  names, place = map(plain, handles), 'outside lower center'
  figure.legend(handles.values(), names, loc=place, ncols=4, fontsize=8, frameon=False)
  figure.savefig(path)


def plain(text: str) -> str:
  """Text in which matplotlib sees no formula."""
  return text.replace('$', r'\$')


# --- The program ----------------------------------------------------------------------------------


def load_behavior(
  tasks: Iterable[Task], data_root_dir: str, kept_in: str
) -> Tuple[Dict[Task, Behavior], List[str]]:
  """The returns of the datasets that are there, of others as they were kept; and what went wrong.

  What is found is kept for a time when the data is gone.
  """
  notes: List[str] = []
  try:
    kept = read_behavior(kept_in)
  except (OSError, ValueError, KeyError, TypeError, csv.Error):
    kept = {}
    notes.append(f'{kept_in} cannot be read; it is written anew')
  tasks = set(tasks)
  for place in sorted({task[:2] for task in tasks}):
    path = os.path.join(data_root_dir, *place, FLAGS.data_sub_dir, FLAGS.data_file_name)
    if os.path.isdir(os.path.dirname(path)):
      programs.quiet_imports()
      from brac import checkpoints

      of_place = {task for task in tasks if task[:2] == place}
      try:
        if not of_place <= kept.keys() or checkpoints.exists(path):
          n, behavior = measure_behavior(path)
          kept[(*place, n)] = behavior
          notes += [
            f'{" ".join(task)}: dataset {path} is another one, of {n[1:]} transitions'
            for task in sorted(of_place - {(*place, n)})
          ]
      except UserError as error:
        notes.append(str(error))
  return kept, notes


def main() -> None:
  root_dir, data_root_dir = map(programs.folder, (FLAGS.root_dir, FLAGS.data_root_dir))
  output_dir = programs.folder(FLAGS.output_dir) or os.path.join(root_dir, 'report')
  runs = results.read_runs(root_dir)
  if not runs:
    raise UserError(f'--root_dir {root_dir}: no runs of train_offline are below it')
  kept_in = os.path.join(output_dir, 'behavior.csv')
  behavior, notes = load_behavior((run.task for run in runs), data_root_dir, kept_in)
  report = Report(runs, behavior, FLAGS.last)
  tables, aggregate = report.tables(), report.aggregate()
  notes += report.notes(root_dir)
  legend = (
    f'mean ± standard deviation over (seeds) of the mean return of the last {FLAGS.last} '
    "evaluations; main: the policy's mode; max_q: of 10 samples the one with the largest Q (BEAR's "
    'test); behavior data: over whole episodes; by step: weighted by their steps'
  )
  aggregate_title = (
    'interquartile mean over tasks (environments and data) and seeds of the return relative to the '
    "data's by step"
  )
  aggregate_legend = (
    '1 is as good as the data; the bootstrap draws seeds within each task, so that a task of one '
    'seed adds nothing to an interval'
  )
  aggregate_table = [['', 'IQM', '95 % bootstrap interval', 'tasks', 'runs']] + [
    [name, f'{mean:.2f}', ABSENT if low == '' else f'[{low:.2f}, {high:.2f}]', tasks, str(n)]
    for name, mean, low, high, tasks, n in aggregate
  ]

  with files.writing(output_dir):
    os.makedirs(output_dir, exist_ok=True)
    write_behavior(kept_in, behavior)
  page = ['# Returns', legend]
  for name, table, sheet in tables:
    write_csv(os.path.join(output_dir, f'{name}.csv'), sheet)
    page.append(markdown(table))
  header = ['', 'IQM', '2.5 %', '97.5 %', 'tasks', 'runs']
  write_csv(os.path.join(output_dir, 'iqm.csv'), [header, *aggregate])
  if aggregate:
    page += ['## Interquartile means', f'The {aggregate_title}: {aggregate_legend}.']
    page.append(markdown(aggregate_table))
  write_csv(os.path.join(output_dir, 'runs.csv'), run_rows(runs, root_dir))
  if notes:
    page += ['## Notes', '\n'.join(f'- {note}' for note in notes)]
  page.append('## Learning curves')
  for task in report.tasks:
    if any(run.returns for run in runs if run.task == task):
      name = '_'.join(task) + '.png'
      draw(report, task, os.path.join(output_dir, name))
      page.append(f'![Learning curves of {" ".join(task)}]({name})')
  with open(os.path.join(output_dir, 'report.md'), 'w', encoding='utf-8') as f:
    f.write('\n\n'.join(page) + '\n')

  for _, table, _ in tables:
    print(text(table), end='\n\n')
  print(textwrap.fill(legend, 100))
  if aggregate:
    print(f'\n{textwrap.fill(aggregate_title, 100)}\n{text(aggregate_table)}')
    print(textwrap.fill(aggregate_legend, 100))
  print(''.join(f'\n{note}' for note in notes))
  print(f'\nas CSV and Markdown, with learning curves: {output_dir}')


def run_rows(runs: List[Run], root_dir: str) -> List[list]:
  """A line for each run and policy, the broken ones too."""
  rows = [['folder', 'status', 'step', 'total', 'policy', 'evaluations', 'mean of last', 'fault']]
  for run in runs:
    place = os.path.relpath(run.folder, root_dir)
    for policy in run.returns or ['']:
      mean = final(run, policy, FLAGS.last) if run.steps and policy else ''
      numbers = [run.step, run.total, policy, len(run.steps), mean, run.fault]
      rows.append([place, run.status + '?' * (not run.told), *numbers])
  return rows


if __name__ == '__main__':
  programs.run(main, tensorflow=False)
