"""Normalised scores: returns on a scale from a random policy's, 0, to an expert's, 100.

Whose the two references are stands beside the scores, and an average is over scores by one table of
references alone.
"""

import os
from collections.abc import Iterable, Mapping

import numpy as np

from brac.data import provenance
from brac.data.references import Reference, find
from brac.data_config import folder_name
from brac.errors import UserError
from brac.grids.summary import Summary
from brac.grids.tables import ABSENT, Table, read_csv, write_csv
from brac.results import Task

References = Mapping[Task, Reference]
NUMBERS = ('score', 'score std', 'seeds', 'min', 'max', 'references')
_HEADER = ('env', 'data', 'transitions', 'min', 'max', 'whose')


def load_references(
  tasks: Iterable[Task], data_root_dir: str, sub_dir: str, file_name: str, kept_in: str
) -> tuple[dict[Task, Reference], list[str]]:
  """The references of the tasks that have some, and what went wrong.

  Args:
    tasks: those of the runs.
    data_root_dir, sub_dir, file_name: the data is at
      {data_root_dir}/{ENV}/{DATA}/{sub_dir}/{file_name}.
    kept_in: the file that `write_references` leaves, for a time when the data is gone.
  """
  found, notes = read_csv(kept_in, _parse)
  for task in sorted(set(tasks)):
    path = os.path.join(data_root_dir, *map(folder_name, task[:2]), sub_dir, file_name)
    try:
      facts = provenance.read(path)
    except UserError as error:
      notes.append(str(error))
      continue
    reference = find(task[0], facts)
    if facts or task not in found or os.path.exists(path + '.index'):
      found.pop(task, None)
      found.update({task: reference} if reference else {})
  return found, notes


def _parse(row: dict[str, str]) -> tuple[Task, Reference]:
  """What `write_references` left of a task."""
  task = row['env'], row['data'], f'n{int(row["transitions"])}'
  return task, Reference(float(row['min']), float(row['max']), row['whose'])


def write_references(path: str, references: References) -> None:
  """Keeps the references in a file."""
  rows = ([*task[:2], task[2][1:], *values] for task, values in sorted(references.items()))
  write_csv(path, [_HEADER, *rows])


def tables(summary: Summary, references: References) -> list[Table]:
  """For each environment and number of transitions its name, its scores, and these as a CSV.

  Those without a reference have no table, and tasks without one no number in it.
  """
  found = []
  for env_name, n_train in dict.fromkeys((task[0], task[2]) for task in references):
    tasks = [task for task in summary.tasks if (task[0], task[2]) == (env_name, n_train)]
    if not any(task in references for task in tasks):
      continue
    table = [[f'{env_name} {n_train}: scores', *(task[1] for task in tasks)]]
    names = [f'{task[1]} {what}' for task in tasks for what in NUMBERS]
    sheet: list[list] = [['algorithm', 'policy', *names]]
    rows = {('behavior data', 'episodes'): [_of_data(summary, task) for task in tasks]}
    there = {run.algorithm for run in summary.runs if run.task in tasks}
    for name, policy in summary.rows([a for a in summary.algorithms if a in there]):
      cells = [summary.cell(task, name, policy).values for task in tasks]
      rows[name, policy] = [
        (np.mean(x), np.std(x) if len(x) > 1 else None, len(x)) if x else None for x in cells
      ]
    for (name, policy), numbers in rows.items():
      scored = [_score(x, references.get(task)) for x, task in zip(numbers, tasks)]
      label = name if name == 'behavior data' else f'{name} {policy}'.strip()
      table.append([label, *(_shown(x) for x in scored)])
      if name == 'behavior data':  # which has episodes and no seeds
        scored = [x and [*x[:2], '', *x[3:]] for x in scored]
      sheet.append([name, policy, *(y for x in scored for y in x or [''] * len(NUMBERS))])
    found.append((f'{env_name}_{n_train}_scores', table, sheet))
  return found


def _of_data(summary: Summary, task: Task):
  own = summary.behavior.get(task)
  return (own.mean, own.std, f'{own.episodes} ep.') if own else None


def _score(numbers, reference):
  """The entries of `NUMBERS`, of a mean, a standard deviation (or None) and how many there are."""
  if numbers is None or reference is None:
    return None
  mean, std, n = numbers
  spread = '' if std is None else reference.spread(std)
  return [reference.score(mean), spread, n, *reference]


def _shown(scored) -> str:
  if scored is None:
    return ABSENT
  score, spread, n, *_ = scored
  return f'{score:.1f}{"" if spread == "" else f" ± {spread:.1f}"} ({n})'


def aggregate(summary: Summary, references: References) -> list[list]:
  """Rows as `Summary.aggregate`'s, of scores, each after whose references it is by."""
  found = []
  for whose in sorted({reference.whose for reference in references.values()}):
    tasks = [t for t in summary.tasks if t in references and references[t].whose == whose]
    rows = summary.interquartile_means(
      tasks, lambda task, values: references[task].score(np.array(values))
    )
    found += [[whose, *row] for row in rows]
  return found


def legend(references: References) -> str:
  """What the scores are, and whose references they are by."""
  by_table: dict[str, list[str]] = {}
  for (env_name, data_name, _), (low, high, whose) in sorted(references.items()):
    what = env_name if whose == 'D4RL' else f'{env_name} {data_name}'
    by_table.setdefault(whose, []).append(f'{what} {low:g} and {high:g}')
  told = '; '.join(
    f'by {whose}: {", ".join(dict.fromkeys(values))}' for whose, values in by_table.items()
  )
  return (
    'score: 100 (R - min) / (max - min) of returns; standard deviations are divided by max - min '
    f'alone; the references {told}'
  )
