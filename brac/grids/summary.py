"""All runs of a tree, grouped into the cells of tables."""

import collections
import math
from typing import Callable, NamedTuple, Sequence

import numpy as np

from brac.grids.data_returns import Behavior
from brac.grids.statistics import final, iqm_interval, score
from brac.grids.tables import ABSENT, Table, shown
from brac.results import Run, Task

LEFT_OUT = ('unfinished', 'shorter', 'broken')
NUMBERS = ('mean', 'std', 'seeds', 'guessed', *LEFT_OUT)


class Cell(NamedTuple):
  """The runs of an algorithm on a dataset, in numbers of one policy."""

  values: tuple[float, ...]  # of the finished runs
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


class Summary:
  """All runs of a tree, grouped.

  Attributes:
    tasks, algorithms: that there are, in order.
    policies: those that were evaluated, by the algorithm.
  """

  def __init__(self, runs: list[Run], behavior: dict[Task, Behavior], last: int):
    self.runs, self.behavior, self.last = runs, behavior, last
    self.tasks = sorted({run.task for run in runs})
    self.algorithms = sorted({run.algorithm for run in runs})
    # Where no run of an algorithm can be read, it has a row without a policy's name.
    self.policies = {
      name: list(dict.fromkeys(p for run in runs if run.algorithm == name for p in run.returns))
      or ['']
      for name in self.algorithms
    }

  def of(self, task: Task, algorithm: str) -> list[Run]:
    return [run for run in self.runs if (run.task, run.algorithm) == (task, algorithm)]

  def averaged(self, task: Task, algorithm: str) -> list[Run]:
    """The finished runs, but for those of fewer steps than others of them."""
    done = [run for run in self.of(task, algorithm) if run.status == 'finished']
    return [run for run in done if run.step == max(other.step for other in done)]

  def cell(self, task: Task, algorithm: str, policy: str) -> Cell:
    runs, averaged = self.of(task, algorithm), self.averaged(task, algorithm)
    n = collections.Counter(run.status for run in runs)
    having = [run for run in averaged if policy in run.returns]
    finals = [final(run, policy, self.last) for run in having]
    return Cell(
      tuple(x for x in finals if math.isfinite(x)),
      not all(run.told for run in having),
      n['unfinished'],
      n['finished'] - len(averaged),
      n['broken'],
    )

  def rows(self, algorithms: Sequence[str]) -> list[tuple[str, str]]:
    """`(algorithm, policy)` of a table's rows."""
    return [(name, policy) for name in algorithms for policy in self.policies[name]]

  def tables(self) -> list[Table]:
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

  def aggregate(self) -> list[list]:
    """Rows `(name, IQM, low, high, tasks, runs)` over the tasks; none where there is one alone.

    Where no task has two seeds there is no interval.
    """
    data = {task: b.by_step for task in self.tasks if (b := self.behavior.get(task)) and b.by_step}
    return self.interquartile_means(
      list(data), lambda task, values: np.array([score(x, data[task]) for x in values])
    )

  def interquartile_means(
    self, tasks: Sequence[Task], scores_of: Callable[[Task, Sequence[float]], np.ndarray]
  ) -> list[list]:
    """Rows as `aggregate`'s, of what `scores_of` makes of a task's returns."""
    rows = []
    for name, policy in self.rows(self.algorithms) if len(tasks) > 1 else []:
      cells = {task: self.cell(task, name, policy) for task in tasks}
      strata = [scores_of(task, cell.values) for task, cell in cells.items() if cell.values]
      if strata:
        mean, low, high = iqm_interval(strata)
        interval = [low, high] if max(map(len, strata)) > 1 else ['', '']
        n_runs = f'{sum(map(len, strata))}{"?" * any(cell.guessed for cell in cells.values())}'
        rows.append([f'{name} {policy}', mean, *interval, f'{len(strata)} of {len(tasks)}', n_runs])
    return rows
