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
  notes, where = [], ' '.join(task)
  seeds = {run.seed for run in summary.runs if run.task == task and run.seed}
  lengths: dict[int, list[str]] = {}
  settings: dict[str, list[dict[str, str]]] = {}
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
          f'shorter: {where}: {name} of seed {run.seed} ended at step {run.step}, others at '
          f'{averaged[0].step}; it is left out'
        )
    if averaged:
      lengths.setdefault(averaged[0].step, []).append(name)
    for policy in summary.policies[name]:
      without = [run.seed for run in averaged if policy not in run.returns]
      if 0 < len(without) < len(averaged):
        notes.append(f'{where}: {name} of seed {", ".join(without)} has no {policy}')
      notes += [
        f'{where}: {note}' for run in averaged for note in _failed(run, policy, summary.last)
      ]
    if len({run.steps[-summary.last :] for run in averaged}) > 1:
      notes.append(f'{where}: {name}: the last {summary.last} evaluations are at different steps')
    settings[name] = [results.read_settings(run.folder) for run in averaged]
    differ = differing(settings[name])
    if differ:
      notes.append(f'{where}: {name}: runs of different settings: {", ".join(differ)}')
    for run, known in zip(averaged, settings[name]):
      changes = re.split(r'# (?:at step|since then)', known.get('changed', ''))[1:]
      if not all(re.match(r'[ \d]*: version was ', change) for change in changes):
        told = known['changed'].removeprefix('# ')
        notes.append(f'{where}: {name} of seed {run.seed} was changed on its way: {told}')
    untold = [run.seed for run, known in zip(averaged, settings[name]) if '--data' not in known]
    if 0 < len(untold) < len(averaged):
      notes.append(f'{where}: {name} of seed {", ".join(untold)} does not tell its data')
  notes += [f'{where}: {note}' for note in _compared(settings)]
  windows: dict[tuple[int, ...], list[str]] = {}
  for name in summary.algorithms:
    for run in summary.averaged(task, name)[:1]:
      windows.setdefault(run.steps[-summary.last :], []).append(name)
  if len(windows) > 1 and of_one_length:
    of = '; '.join(f'{s[0]} to {s[-1]} ({", ".join(x)})' for s, x in windows.items() if s)
    notes.append(f'{where}: the evaluations that are averaged are of steps {of}')
  tuned = [name for name in settings if any(map(_is_tuned, summary.averaged(task, name)))]
  if tuned:
    notes.append(f'{where}: with presets that are tuned for the environment: {", ".join(tuned)}')
  if lengths and not of_one_length:
    of = '; '.join(f'{n} ({", ".join(names)})' for n, names in sorted(lengths.items()))
    notes.append(f'{where}: steps of the runs: {of}')
  if task not in summary.behavior:
    notes.append(
      f"{where}: the data's return is not known: below --data_root_dir is no dataset of "
      f'{task[2][1:]} transitions that tells its episodes'
    )
  elif (whole := summary.behavior[task].whole) is not None and whole < 0.95:
    notes.append(
      f"{where}: the data's return is that of its whole episodes, {whole:.0%} of its rows; of the "
      'others it is not known, and long ones are cut off more often'
    )
  if task in summary.behavior and not summary.behavior[task].by_step:
    notes.append(f"{where}: the data's return is 0, no unit for an interquartile mean: left out")
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
