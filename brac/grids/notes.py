"""What a reader of the tables has to know about single runs, and to compare them."""

import os
from typing import Sequence

from brac import gin_config, results
from brac.grids.statistics import final
from brac.grids.summary import Summary
from brac.grids.tables import shown
from brac.hyperparameters import plain_text
from brac.results import Task


def notes_on_runs(summary: Summary, root_dir: str) -> list[str]:
  """What a reader of the tables has to know about single runs."""
  notes = []
  for run in summary.runs:
    place = os.path.relpath(run.folder, root_dir)
    if run.status == 'broken':
      notes.append(f'broken: {place}: {run.fault}')
    elif run.status == 'unfinished':
      far = ', '.join(f'{p} {shown(final(run, p, summary.last))}' for p in run.returns if run.steps)
      at = max(run.step, *run.steps[-1:], 0)
      notes.append(
        f'unfinished: {place}: step {at} of {run.total}{"" if run.told else " (?)"}; '
        + (f'so far {far}' if far else 'no evaluation so far')
      )
  few = {(r.algorithm, len(r.steps)) for r in summary.runs if r.status == 'finished'}
  few = [f'{name} ({n})' for name, n in sorted(few) if n < summary.last]
  if few:
    notes.append(f'runs of fewer evaluations, which are all averaged: {", ".join(few)}')
  lengths = {run.steps[-1] for run in summary.runs if run.status == 'finished'}
  if len(lengths) == 1:
    notes.append(f'all finished runs are of {lengths.pop()} steps')
  for task in summary.tasks:
    notes += _notes_on_task(summary, task, of_one_length=len(lengths) < 2)
  if any(run.status == 'finished' and not run.told for run in summary.runs):
    notes.append(
      f'?: no {results.PROGRESS} says whether these runs are finished; they are as long as the '
      'longest of all'
    )
  return notes


def _notes_on_task(summary: Summary, task: Task, of_one_length: bool) -> list[str]:
  """What a reader has to know to compare the numbers of a task with one another."""
  notes, where = [], ' '.join(task)
  seeds = {run.seed for run in summary.runs if run.task == task and run.seed}
  lengths: dict[int, list[str]] = {}
  missing = [name for name in summary.algorithms if not summary.of(task, name)]
  if missing:
    notes.append(f'missing: {where}: {", ".join(missing)}')
  for seed in sorted(seeds):
    having = {run.algorithm for run in summary.runs if (run.task, run.seed) == (task, seed)}
    lacking = [name for name in summary.algorithms if name not in having and summary.of(task, name)]
    if lacking:
      notes.append(f'missing: {where}: of seed {seed}: {", ".join(lacking)}')
  for name in summary.algorithms:
    runs, averaged = summary.of(task, name), summary.averaged(task, name)
    for run in runs:
      if run.status == 'finished' and run not in averaged:
        notes.append(
          f'shorter: {where}: {name} of seed {run.seed} ended at step {run.steps[-1]}, others at '
          f'{averaged[0].steps[-1]}; it is left out'
        )
    if averaged:
      lengths.setdefault(averaged[0].steps[-1], []).append(name)
    for policy in summary.policies[name]:
      without = [run.seed for run in averaged if policy not in run.returns]
      if 0 < len(without) < len(averaged):
        notes.append(f'{where}: {name} of seed {", ".join(without)} has no {policy}')
    if len({run.steps[-summary.last :] for run in averaged}) > 1:
      notes.append(f'{where}: {name}: the last {summary.last} evaluations are at different steps')
    differ = differing([results.read_settings(run.folder) for run in averaged])
    if differ:
      notes.append(f'{where}: {name}: runs of different settings: {", ".join(differ)}')
  if lengths and not of_one_length:
    of = '; '.join(f'{n} ({", ".join(names)})' for n, names in sorted(lengths.items()))
    notes.append(f'{where}: steps of the runs: {of}')
  if task not in summary.behavior:
    notes.append(f"{where}: the data's return is not known: it is not below --data_root_dir")
  elif not summary.behavior[task].by_step:
    notes.append(f"{where}: the data's return is 0, no unit for an interquartile mean: left out")
  return notes


def differing(settings: Sequence[dict[str, str]]) -> list[str]:
  """The parameters that are not the same in all of these that are known, but for the clone.

  One that a version did not have yet is at its default in the runs of that version.
  """
  known = [x for x in settings if x]
  names = sorted({name for x in known for name in x if not name.endswith('behavior_ckpt_file')})
  found = []
  for name in names:
    texts = {x.get(name) for x in known}
    if None in texts and len({x.get('version') for x in known}) > 1:
      texts = (texts - {None}) | {gin_config.default(name)}
    if len({text and (plain_text(text) or text) for text in texts}) > 1:
      found.append(name)
  return found
