"""The tree of runs that train_offline leaves, read back without TensorFlow.

{root_dir}/{ENV}/{DATA}/n{N}/{AGENT}/{SUB_DIR}/{SEED}/ with `results.csv` and `progress.json`.
"""

import json
import math
import os
import re
from typing import Iterator, NamedTuple, Optional

from brac import files
from brac.errors import UserError

Task = tuple[str, str, str]  # environment, data, n{N}

PROGRESS, RESULTS = 'progress.json', 'results.csv'


def write_progress(folder: str, step: int, total_train_steps: int) -> None:
  """Writes down the step at which a run is saved, and the one at which it will be finished."""
  path = os.path.join(folder, PROGRESS)
  progress = {'step': step, 'total_train_steps': max(step, int(total_train_steps))}
  files.write_text(path, json.dumps(progress) + '\n')


def read_progress(folder: str) -> Optional[tuple[int, int]]:
  """`(step, total_train_steps)` of a run; None where nothing tells them.

  Raises:
    ValueError: the file is damaged.
  """
  try:
    with open(os.path.join(folder, PROGRESS)) as f:
      progress = json.load(f)
    return int(progress['step']), int(progress['total_train_steps'])
  except FileNotFoundError:
    return None
  except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
    raise ValueError(f'{PROGRESS} cannot be read') from error


def is_finished(folder: str, total_train_steps: int = 0) -> bool:
  """Whether a run has come to its end, and as far as a number of steps."""
  try:
    step, total = read_progress(folder) or (0, 1)
  except ValueError:
    return False
  return step >= max(total, total_train_steps)


def is_half_trained(folder: str) -> bool:
  """Whether a run says of itself that it has not come to its end."""
  return os.path.exists(os.path.join(folder, PROGRESS)) and not is_finished(folder)


def check_not_lost(folder: str, checkpoint: str) -> None:
  """To be called where a run has no checkpoint, before a new one writes over its results.

  Raises:
    UserError: the folder tells of a run that was saved.
  """
  try:
    step, _ = read_progress(folder) or (0, 0)
  except ValueError:
    return
  if step:
    raise UserError(
      f'{folder} has the results of a run that was saved at step {step}, but its checkpoint '
      f'{checkpoint} is gone; remove that folder, or choose another --sub_dir or --root_dir'
    )


# Gin parameters that a run may go on with other values of.
NO_NUMBER_DEPENDS_ON = ('print_freq', 'save_freq', 'save_minutes', 'n_threads')
VERSION = '# version: '  # how the line of operative_config.gin begins that tells it


def read_settings(folder: str) -> dict[str, str]:
  """What a run's numbers depend on, as written down, {} where it is not: gin's, and `version`."""
  try:
    with open(os.path.join(folder, 'operative_config.gin'), errors='replace') as f:
      lines = [line for line in f.read().splitlines() if line]
  except OSError:
    return {}
  found, name = {}, ''
  for line in lines:
    if line.startswith(VERSION):
      found['version'] = line[len(VERSION) :]
    elif not line.startswith('#'):
      if not line.startswith(' '):  # as the other lines of a long value do
        name, _, line = line.partition(' = ')
      found[name] = found.get(name, '') + line.strip(' \\')
  return {k: v for k, v in found.items() if k.rpartition('.')[2] not in NO_NUMBER_DEPENDS_ON}


class Run(NamedTuple):
  """A run as its folder tells it."""

  folder: str
  env_name: str
  data_name: str
  n_train: str  # as in the folder's name: n1000000
  algorithm: str  # the agent's folder, with the sub_dir after it where that is not 0
  seed: str
  steps: tuple[int, ...] = ()  # of the evaluations
  returns: dict[str, tuple[float, ...]] = {}  # the mean return of each evaluation, by policy
  step: int = 0
  total: int = 0  # the steps of the finished run
  told: bool = True  # whether the folder says so; `total` is guessed otherwise
  fault: str = ''  # why it cannot be read

  @property
  def task(self) -> Task:
    return self.env_name, self.data_name, self.n_train

  @property
  def status(self) -> str:
    if self.fault:
      return 'broken'
    return 'finished' if self.steps and self.step >= self.total else 'unfinished'


def read_runs(root_dir: str) -> list[Run]:
  """The runs below a folder, the broken ones too, in order of their names.

  A run whose folder has no `progress.json` (an older version's) counts as finished where it is as
  long as the longest of them all.
  """
  runs = [_read_run(folder, place) for place, folder in _places(root_dir, ())]
  longest = max((max(run.step, run.total) for run in runs), default=0)
  return [run if run.told else run._replace(total=longest) for run in runs]


def _places(folder: str, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
  """`(ENV, DATA, n{N}, AGENT, SUB_DIR, SEED)` and folder of each run; shorter where that is all.

  A SUB_DIR may be a path, so that there is more than one name between AGENT and SEED.
  """
  if len(place) == 3 and not re.fullmatch(r'n\d+', place[2]):
    return
  if len(place) >= 6 and _tells_of_a_run(folder):
    yield place, folder
    return
  names = []
  if os.path.isdir(folder):
    # Below a run's own place no link is followed, for it could lead round and round.
    entries = [e for e in os.scandir(folder) if e.is_dir(follow_symlinks=len(place) < 6)]
    names = sorted(e.name for e in entries if not e.name.startswith('.'))
  found = [x for name in names for x in _places(os.path.join(folder, name), (*place, name))]
  if len(place) >= 6:
    found = [(longer, below) for longer, below in found if _tells_of_a_run(below)]
  if found or len(place) <= 3:
    yield from found
  else:
    yield place, folder


def _tells_of_a_run(folder: str) -> bool:
  return any(os.path.exists(os.path.join(folder, name)) for name in (PROGRESS, RESULTS))


def _read_run(folder: str, place: tuple[str, ...]) -> Run:
  # A name that is not UTF-8 could not be printed or written.
  readable, *place = (os.fsencode(x).decode(errors='backslashreplace') for x in (folder, *place))
  agent, *between, seed = (*place[3:], '', '')[: max(3, len(place) - 3)]
  sub_dir = '/'.join(between)
  run = Run(readable, *place[:3], agent if sub_dir in ('0', '') else f'{agent} {sub_dir}', seed)
  if not seed:
    return run._replace(fault='there is no run in it')
  try:
    progress = read_progress(folder)
    steps, returns = read_results(os.path.join(folder, RESULTS))
  except ValueError as error:
    return run._replace(fault=str(error))
  run = run._replace(steps=steps, returns=returns)
  last = steps[-1] if steps else 0
  if progress is None:
    return run._replace(step=last, told=False, fault='' if steps else 'it has no evaluation')
  run = run._replace(step=progress[0], total=progress[1])
  if run.step >= run.total > last:
    # The last step is always evaluated.
    return run._replace(fault=f'results.csv ends at step {last}, the run at {run.step}')
  return run


def read_results(path: str) -> tuple[tuple[int, ...], dict[str, tuple[float, ...]]]:
  """The steps of a `results.csv`, and the returns by policy.

  Raises:
    ValueError: it is none; the message says why.
  """
  try:
    with open(path, newline='') as f:
      text = f.read()
  except FileNotFoundError:
    raise ValueError('there is no results.csv') from None
  except (OSError, UnicodeDecodeError):
    raise ValueError('results.csv cannot be read') from None
  if not text:
    raise ValueError('results.csv is empty')
  if not text.endswith('\n'):
    raise ValueError('results.csv is cut off within a line')
  lines = text.splitlines()
  header = lines[0].split(',')
  if header[0] != 'step' or len(set(header)) != len(header) or len(header) < 2 or '' in header:
    raise ValueError(f'the first line of results.csv is {_shown(lines[0])}, not step,main,...')
  rows: list[list[float]] = []
  for k, line in enumerate(lines[1:], 2):
    try:
      step, *values = line.split(',')
      row = [int(step), *map(float, values)]
      readable = len(row) == len(header) and all(map(math.isfinite, row))
    except (ValueError, OverflowError):
      readable = False
    if not readable:
      raise ValueError(f'line {k} of results.csv is {_shown(line)}')
    if rows and row[0] <= rows[-1][0]:
      raise ValueError(f'line {k} of results.csv is of step {row[0]}, after step {rows[-1][0]}')
    rows.append(row)
  steps, *columns = zip(*rows) if rows else [()] * len(header)
  return steps, dict(zip(header[1:], columns))


def _shown(line: str) -> str:
  return repr(line if len(line) <= 40 else line[:40] + '...')
