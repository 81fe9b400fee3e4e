"""What a reader of the tables has to know about single runs, and to compare them."""

import math
import os
import re
import shlex
from typing import Sequence

from brac import results
from brac.grids.statistics import final
from brac.grids.summary import Summary
from brac.grids.tables import shown
from brac.hyperparameters import plain_text
from brac.results import Run, Task


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
  lengths = {run.step for run in summary.runs if run.status == 'finished'}
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
  settings = {
    name: [results.read_settings(run.folder) for run in summary.averaged(task, name)]
    for name in summary.algorithms
  }
  notes = _compared(settings) + _on_evaluated_steps(summary, task, of_one_length)
  tuned = [name for name in settings if any(map(_is_tuned, summary.averaged(task, name)))]
  if tuned:
    notes.append(f'with presets that are tuned for the environment: {", ".join(tuned)}')
  notes += _on_steps(summary, task, of_one_length) + _on_data(summary, task)
  of_cells = [x for name, known in settings.items() for x in _on_cell(summary, task, name, known)]
  return [*_missing(summary, task), *of_cells, *(f'{" ".join(task)}: {note}' for note in notes)]


def _missing(summary: Summary, task: Task) -> list[str]:
  """The algorithms, and the seeds of some, that others of the tree or of the task have."""
  notes, where = [], ' '.join(task)
  missing = [name for name in summary.algorithms if not summary.of(task, name)]
  if missing:
    notes.append(f'missing: {where}: {", ".join(missing)}')
  for seed in sorted({run.seed for run in summary.runs if run.task == task and run.seed}):
    having = {run.algorithm for run in summary.runs if (run.task, run.seed) == (task, seed)}
    lacking = [name for name in summary.algorithms if name not in having | set(missing)]
    if lacking:
      notes.append(f'missing: {where}: of seed {seed}: {", ".join(lacking)}')
  return notes


def _on_cell(
  summary: Summary, task: Task, name: str, settings: Sequence[dict[str, str]]
) -> list[str]:
  """In what the runs of an algorithm differ; `settings` are those of the averaged ones."""
  notes, where, averaged = [], ' '.join(task), summary.averaged(task, name)
  for run in summary.of(task, name):
    if run.status == 'finished' and run not in averaged:
      notes.append(
        f'shorter: {where}: {name} of seed {run.seed} ended at step {run.step}, others at '
        f'{averaged[0].step}; it is left out'
      )
  for policy in summary.policies[name]:
    without = [run.seed for run in averaged if policy not in run.returns]
    if 0 < len(without) < len(averaged):
      notes.append(f'{where}: {name} of seed {", ".join(without)} has no {policy}')
    notes += [f'{where}: {x}' for run in averaged for x in _failed(run, policy, summary.last)]
  if len({run.steps[-summary.last :] for run in averaged}) > 1:
    notes.append(f'{where}: {name}: the last {summary.last} evaluations are at different steps')
  differ = differing(settings)
  if differ:
    notes.append(f'{where}: {name}: runs of different settings: {", ".join(differ)}')
  for run, known in zip(averaged, settings):
    changes = re.split(r'# (?:at step|since then)', known.get('changed', ''))[1:]
    if not all(re.match(r'[ \d]*: version was ', change) for change in changes):
      told = known['changed'].removeprefix('# ')
      notes.append(f'{where}: {name} of seed {run.seed} was changed on its way: {told}')
  untold = [run.seed for run, known in zip(averaged, settings) if '--data' not in known]
  if 0 < len(untold) < len(averaged):
    notes.append(f'{where}: {name} of seed {", ".join(untold)} does not tell its data')
  return notes


def _on_evaluated_steps(summary: Summary, task: Task, of_one_length: bool) -> list[str]:
  """Whether the evaluations that are averaged are of other steps for some algorithms."""
  windows: dict[tuple[int, ...], list[str]] = {}
  for name in summary.algorithms:
    for run in summary.averaged(task, name)[:1]:
      windows.setdefault(run.steps[-summary.last :], []).append(name)
  if len(windows) < 2 or not of_one_length:
    return []
  of = '; '.join(f'{s[0]} to {s[-1]} ({", ".join(x)})' for s, x in windows.items() if s)
  return [f'the evaluations that are averaged are of steps {of}']


def _on_steps(summary: Summary, task: Task, of_one_length: bool) -> list[str]:
  """How long the runs are, where that is not the same in the whole tree."""
  lengths: dict[int, list[str]] = {}
  for name in summary.algorithms:
    for run in summary.averaged(task, name)[:1]:
      lengths.setdefault(run.step, []).append(name)
  if not lengths or of_one_length:
    return []
  of = '; '.join(f'{n} ({", ".join(names)})' for n, names in sorted(lengths.items()))
  return [f'steps of the runs: {of}']


def _on_data(summary: Summary, task: Task) -> list[str]:
  """What the return of the data is not."""
  if task not in summary.behavior:
    return [
      "the data's return is not known: below --data_root_dir is no dataset of "
      f'{task[2][1:]} transitions that tells its episodes'
    ]
  notes, data = [], summary.behavior[task]
  if data.whole is not None and data.whole < 0.95:
    notes.append(
      f"the data's return is that of its whole episodes, {data.whole:.0%} of its rows; of the "
      'others it is not known, and long ones are cut off more often'
    )
  if not data.by_step:
    notes.append("the data's return is 0, no unit for an interquartile mean: left out")
  return notes


def _failed(run: Run, policy: str, last: int) -> list[str]:
  """What evaluations of a policy failed among the last, of which a run's result is the mean."""
  tail = run.returns.get(policy, ())[-last:]
  n_failed = sum(map(math.isnan, tail))
  if not n_failed:
    return []
  left = 'it has no result' if n_failed == len(tail) else 'the mean is that of the others'
  of = f'{run.algorithm} of seed {run.seed}: {policy}'
  return [f'{of}: {n_failed} of the last {len(tail)} evaluations failed; {left}']


def _is_tuned(run: Run) -> bool:
  try:
    words = shlex.split(run.command)
  except ValueError:  # a quote that is not closed
    words = run.command.split()
  files = re.findall(r'--gin_file=(.*)', '\n'.join(words))
  return any(path.split('/')[-3:-2] == ['tuned'] for path in files)


def _compared(settings: dict[str, list[dict[str, str]]]) -> list[str]:
  """In what the algorithms of a task differ that is to be the same for all."""
  notes = []
  for flag in ('--data', '--n_eval_episodes'):
    found: dict[str, list[str]] = {}
    for name, known in settings.items():
      for text in {x[flag] for x in known if flag in x and not (flag == '--data' and _draws(x))}:
        found.setdefault(text, []).append(name)
    if len(found) > 1:
      each = '; '.join(f'{text} ({", ".join(names)})' for text, names in sorted(found.items()))
      notes.append(f'algorithms of different {flag}: {each}')
  return notes


def _draws(settings: dict[str, str]) -> bool:
  """Whether a run draws from its seed which of the data it is trained on."""
  fraction = settings.get('train_eval_offline.validation_fraction', '0.0')
  drawn = settings.get('train_eval_offline.use_seed_for_data', 'False')
  return plain_text(fraction) != '0' or drawn != 'False'


def differing(settings: Sequence[dict[str, str]]) -> list[str]:
  """The parameters that are not the same in all of these that are known, but for the clone.

  One that a version did not have yet is at its default in the runs of that version.
  """
  known = [x for x in settings if x]
  names = sorted({name for x in known for name in x if not name.endswith('behavior_ckpt_file')})
  found = []
  for name in names:
    if name == '--seed' or name == '--data' and any(map(_draws, known)):
      continue
    texts = {x.get(name) for x in known}
    if '.' not in name and name != 'changed':  # what older versions did not write down
      texts -= {None}
    if None in texts and len({x.get('version') for x in known}) > 1:
      from brac import gin_config  # which waits for TensorFlow

      texts = (texts - {None}) | {gin_config.default(name)}
    if len({text and (plain_text(text) or text) for text in texts}) > 1:
      found.append(name)
  return found
