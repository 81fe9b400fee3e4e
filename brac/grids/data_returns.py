"""The returns of the datasets themselves, which those of policies are compared with."""

import os
from typing import Iterable, NamedTuple, Optional

import numpy as np

from brac import programs
from brac.data_config import folder_name
from brac.errors import UserError
from brac.grids.tables import read_csv, write_csv
from brac.results import Task


class Behavior(NamedTuple):
  """The returns of a dataset's whole episodes.

  Attributes:
    by_step: the mean with each episode weighted by its steps: of what batches are drawn from.
    whole: the share of the rows that they have; None where it is not known. Of the others the
      returns are not known, and long episodes are cut off more often than short ones.
  """

  mean: float
  std: float
  by_step: float
  episodes: int
  whole: Optional[float] = None


def _parse(row: dict[str, str]) -> tuple[Task, Behavior]:
  """What `write_behavior` left of a task."""
  whole = row.get('rows in whole episodes')
  return (row['env'], row['data'], f'n{int(row["transitions"])}'), Behavior(
    *(float(row[k]) for k in ('mean', 'std', 'mean by step')),
    int(row['episodes']),
    float(whole) if whole else None,
  )


def write_behavior(path: str, behavior: dict[Task, Behavior]) -> None:
  header = ['env', 'data', 'transitions', 'mean', 'std', 'mean by step', 'episodes']
  header.append('rows in whole episodes')
  rows = ([*task[:2], task[2][1:], *values] for task, values in sorted(behavior.items()))
  write_csv(path, [header, *rows])


def measure_behavior(path: str) -> tuple[str, Behavior]:
  """Of the dataset at a path: how many transitions it has, as in a `Task`, and their returns.

  Raises:
    UserError: there is none, or it does not tell its episodes.
  """
  from brac.data import stored

  returns, steps = stored.episodes(path)
  if not len(returns):
    raise UserError(f'dataset {path} tells of no whole episode')
  by_step = np.average(returns, weights=steps)
  size = stored.size_of(path)
  whole = min(1.0, float(steps.sum() / size))  # an import has fewer rows than its source steps
  numbers = float(returns.mean()), float(returns.std()), float(by_step), len(returns), whole
  return f'n{size}', Behavior(*numbers)


def load_behavior(
  tasks: Iterable[Task], data_root_dir: str, sub_dir: str, file_name: str, kept_in: str
) -> tuple[dict[Task, Behavior], list[str]]:
  """The returns of the datasets that are there, of others as they were kept; and what went wrong.

  Args:
    tasks: those whose data is looked for.
    data_root_dir, sub_dir, file_name: it is at {data_root_dir}/{ENV}/{DATA}/{sub_dir}/{file_name}.
    kept_in: the file that `write_behavior` leaves, for a time when the data is gone.
  """
  kept, notes = read_csv(kept_in, _parse)
  tasks = set(tasks)
  for place in sorted({task[:2] for task in tasks}):
    path = os.path.join(data_root_dir, *map(folder_name, place), sub_dir, file_name)
    if os.path.isdir(os.path.dirname(path)):
      programs.quiet_imports()
      from brac import checkpoints
      from brac.data import stored

      of_place = {task for task in tasks if task[:2] == place}
      try:
        if not of_place <= kept.keys() or checkpoints.exists(path):
          n, behavior = measure_behavior(path)
          measured = {(*place, n)}
          if stored.is_import(path):  # of a size that nobody chose: runs take all of it, or a part
            measured |= of_place
          kept.update(dict.fromkeys(measured, behavior))
          notes += [
            f'{" ".join(task)}: dataset {path} is another one, of {n[1:]} transitions'
            for task in sorted(of_place - measured)
          ]
      except UserError as error:
        notes.append(str(error))
  return kept, notes
