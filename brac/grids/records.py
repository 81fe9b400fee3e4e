"""All runs as files for other programs: a line for each run and each evaluation, a command each."""

import math
import os
from typing import Iterator, Sequence

from brac.grids.statistics import final
from brac.results import Run


def run_rows(runs: Sequence[Run], root_dir: str, last: int) -> list[list]:
  """A line for each run and policy, the broken ones too."""
  rows = [['folder', 'status', 'step', 'total', 'policy', 'evaluations', 'mean of last', 'fault']]
  for run in runs:
    place = os.path.relpath(run.folder, root_dir)
    for policy in run.returns or ['']:
      mean = final(run, policy, last) if run.steps and policy else math.nan
      mean = '' if math.isnan(mean) else mean
      numbers = [run.step, run.total, policy, len(run.steps), mean, run.fault]
      rows.append([place, run.status + '?' * (not run.told), *numbers])
  return rows


def evaluation_rows(runs: Sequence[Run]) -> Iterator[list]:
  """A line for each evaluation of each policy of each run: the tidy table of all.

  What is no return, as the value that fqe estimates, has a column of its own.
  """
  place = ['env', 'data', 'transitions', 'agent', 'sub_dir', 'seed']
  yield [*place, 'step', 'policy', 'return', 'estimate', 'status']
  for run in runs:
    what = [run.env_name, run.data_name, run.n_train[1:], run.agent, run.sub_dir, run.seed]
    for policy, returns in run.returns.items():
      for step, value in zip(run.steps, returns):
        numbers = ['' if math.isnan(value) else value, '']
        if policy in run.estimates:
          numbers.reverse()
        yield [*what, step, policy, *numbers, run.status]


def commands(runs: Sequence[Run]) -> str:
  """A script with the command of each run, as its folder tells it."""
  lines = ['#!/usr/bin/env bash', '# The command of each run, as its folder tells it.', 'set -e']
  task = None
  for run in runs:
    if run.task != task:
      task = run.task
      lines += ['', f'# {task[0]}, data {task[1]}, {task[2][1:]} transitions']
    if run.command:
      lines.append(run.command)
    elif run.seed:
      lines.append(f'# {run.algorithm} of seed {run.seed} does not tell its command')
  return '\n'.join(lines) + '\n'
