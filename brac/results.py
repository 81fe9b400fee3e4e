"""The runs that train_offline leaves, read back without TensorFlow.

A run is a folder with `results.csv` and `progress.json`, which tells what run it is, wherever the
folder has come to. Older ones do not: for them their place speaks,
{ENV}/{DATA}/n{N}/{AGENT}/{SUB_DIR}/{SEED}.
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


class About(NamedTuple):
  """What run a folder has.

  Attributes:
    agent: the name of the preset, or without one of the agent.
    n_train: of how many transitions it is trained.
    command: what it was started with last.
    judged_by: the evaluated policy whose returns are its results.
    estimates: the columns of results.csv that are no returns.
  """

  env_name: str
  data_name: str
  n_train: int
  agent: str
  sub_dir: str
  seed: int
  command: str = ''
  judged_by: str = 'main'
  estimates: tuple[str, ...] = ()


def write_progress(
  folder: str, step: int, total_train_steps: int, about: Optional[About] = None
) -> None:
  """Writes down what run it is, at which step it is saved, and at which it will be finished."""
  progress = {'step': step, 'total_train_steps': max(step, int(total_train_steps))}
  progress.update(about._asdict() if about else {})
  files.write_text(os.path.join(folder, PROGRESS), json.dumps(progress) + '\n')


def read_progress(folder: str) -> Optional[tuple[int, int]]:
  """`(step, total_train_steps)` of a run; None where nothing tells them.

  Raises:
    ValueError: the file is damaged.
  """
  try:
    progress = _load(folder)
    return progress and (int(progress['step']), int(progress['total_train_steps']))
  except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
    raise ValueError(f'{PROGRESS} cannot be read') from error


def read_about(folder: str) -> Optional[About]:
  """What run it is; None where it does not tell."""
  try:
    progress = {'estimates': [], **(_load(folder) or {})}  # which older versions did not have
    found = About(*(progress[name] for name in About._fields))
    n_train, seed, estimates = int(found.n_train), int(found.seed), tuple(found.estimates)
    return found._replace(n_train=n_train, seed=seed, estimates=estimates)
  except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
    return None


def _load(folder: str) -> Optional[dict]:
  try:
    with open(os.path.join(folder, PROGRESS), encoding='utf-8') as f:
      return json.load(f)
  except FileNotFoundError:
    return None


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


def has_evaluations(folder: str) -> bool:
  """Whether there are results of an evaluation in the folder of a run."""
  try:
    return bool(read_results(os.path.join(folder, RESULTS))[0])
  except ValueError:
    return False


# Gin parameters that a run may go on with other values of.
NO_NUMBER_DEPENDS_ON = ('print_freq', 'save_freq', 'save_minutes', 'n_threads', 'video_steps')
VERSION = '# version: '  # how the line of operative_config.gin begins that tells it


def read_settings(folder: str) -> dict[str, str]:
  """What a run's numbers depend on, as `Settings.write` wrote it down; {} where it is not.

  Gin's parameters, flags as `--name`, `version`, the packages by their names, and `changed`: what
  was another before.
  """
  try:
    with open(
      os.path.join(folder, 'operative_config.gin'), encoding='utf-8', errors='replace'
    ) as f:
      lines = [line for line in f.read().splitlines() if line]
  except OSError:
    return {}
  found, name = {}, ''
  for line in lines:
    if line.startswith(VERSION):
      found['version'] = line[len(VERSION) :]
    elif flag := re.match(r'# (--\w+): (.*)', line):
      found[flag[1]] = flag[2]
    elif line.startswith('# with '):
      found.update(re.findall(r'(\w+) ([^\s,]+)', line[len('# with ') :]))
    elif change := re.match(r'# (?:at step \d+|since then): (.*)', line):
      found['changed'] = found.get('changed', '') + change[0]
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
  n_train: str  # n1000000
  agent: str
  sub_dir: str
  seed: str
  steps: tuple[int, ...] = ()  # of the evaluations
  returns: dict[str, tuple[float, ...]] = {}  # the mean return of each evaluation, by policy
  step: int = 0
  total: int = 0  # the steps of the finished run
  told: bool = True  # whether the folder says so; `total` is guessed otherwise
  fault: str = ''  # why it cannot be read
  command: str = ''  # what it was started with, where it tells that
  estimates: tuple[str, ...] = ()  # what of `returns` is none

  @property
  def task(self) -> Task:
    return self.env_name, self.data_name, self.n_train

  @property
  def algorithm(self) -> str:
    """The agent, with the sub_dir after it where that is not 0."""
    return self.agent if self.sub_dir in ('0', '') else f'{self.agent} {self.sub_dir}'

  @property
  def status(self) -> str:
    if self.fault:
      return 'broken'
    return 'finished' if self.steps and self.step >= self.total else 'unfinished'


def without_estimates(run: Run) -> Run:
  """The run with returns alone, of the policies that were evaluated at all."""
  returns = {
    name: values
    for name, values in run.returns.items()
    if name not in run.estimates and not all(map(math.isnan, values))
  }
  return run._replace(returns=returns)


def read_runs(root_dir: str) -> list[Run]:
  """The runs below a folder, the broken ones too, in order of their names."""
  return read_tree(root_dir)[0]


def read_tree(root_dir: str) -> tuple[list[Run], list[str]]:
  """The runs below a folder as `read_runs`, and what looks like a run there and is none.

  A run whose folder has no `progress.json` (an older version's) counts as finished where it is as
  long as the longest of them all. Of two folders that say that they are the same run the one that
  stands where it was made counts, or the one that has come farther.
  """
  found: dict[tuple, list] = {}
  notes = []
  for place, folder in _places(root_dir, (), set()):
    run, where = _read_run(folder, place), os.path.relpath(_readable(folder), root_dir)
    if run.seed and not re.fullmatch('[0-9]+', run.seed):
      notes.append(f'no run: {where}: {run.seed!r} is no seed')
      continue
    key = (run.task, run.agent, run.sub_dir, run.seed)
    at_home = place[-1:] == (run.seed,) and '/'.join(place).endswith(f'{run.sub_dir}/{run.seed}')
    rank = (at_home, run.step)
    if key not in found or rank > found[key][0]:
      found[key], (rank, run) = (rank, run), found.get(key, (None, None))
    if run:
      taken = found[key][1]
      n = min(len(run.steps), len(taken.steps))
      copy = all(run.returns.get(p, ())[:n] == x[:n] for p, x in taken.returns.items())
      where, there = (os.path.relpath(x.folder, root_dir) for x in (run, taken))
      other = f'it says that it is the run in {there}, and is not: give --root_dir for one of the '
      notes.append(f'no run: {where}: {"a copy of another" if copy else other + "two trees"}')
  runs = sorted(
    (run for _, run in found.values()),
    key=lambda run: (*run.task, run.agent, run.sub_dir, run.seed),
  )
  longest = max((max(run.step, run.total) for run in runs), default=0)
  return [run if run.told else run._replace(total=longest) for run in runs], notes


def _places(
  folder: str, place: tuple[str, ...], seen: set[str]
) -> Iterator[tuple[tuple[str, ...], str]]:
  """The names that lead to each run and its folder; of an agent without a run, to its last one."""
  below = _below_task(place)
  if (len(below) >= 3 or read_about(folder)) and _tells_of_a_run(folder):
    yield place, folder
    return
  found = []
  if os.path.isdir(folder) and os.path.realpath(folder) not in seen:
    seen.add(os.path.realpath(folder))  # links may lead round and round
    names = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith('.'))
    found = [x for name in names for x in _places(os.path.join(folder, name), (*place, name), seen)]
  if len(below) >= 3:
    found = [(longer, deeper) for longer, deeper in found if _tells_of_a_run(deeper)]
  if found or not below:
    yield from found
  else:
    yield place, folder


def _below_task(place: tuple[str, ...]) -> tuple[str, ...]:
  """The names after {ENV}/{DATA}/n{N}: AGENT, SUB_DIR and SEED, as far as there are any."""
  return place[_task_ends(place) :] if _task_ends(place) else ()


def _task_ends(place: tuple[str, ...]) -> int:
  """How many names {ENV}/{DATA}/n{N} are, of which older versions had more; 0 where it is none."""
  return next((k + 1 for k in range(2, len(place)) if re.fullmatch(r'n\d+', place[k])), 0)


def _tells_of_a_run(folder: str) -> bool:
  return any(os.path.exists(os.path.join(folder, name)) for name in (PROGRESS, RESULTS))


def _readable(name: str) -> str:
  """A name as it can be printed and written, also where it is not UTF-8."""
  return os.fsencode(name).decode(errors='backslashreplace')


def _read_run(folder: str, place: tuple[str, ...]) -> Run:
  about = read_about(folder)
  if about:
    about = about._replace(n_train=f'n{about.n_train}', seed=str(about.seed))
    run = Run(_readable(folder), *about[:6], command=about.command, estimates=about.estimates)
  else:
    run = _run_at(folder, tuple(map(_readable, place)))
  if not run.seed:
    return run._replace(fault='there is no run in it')
  try:
    progress = read_progress(folder)
    steps, returns = read_results(os.path.join(folder, RESULTS))
  except ValueError as error:
    return run._replace(fault=str(error))
  last = steps[-1] if steps else 0
  # An evaluation that failed has a row without returns; without any, none was wanted.
  there = any(math.isfinite(x) for values in returns.values() for x in values)
  if not there:
    steps, returns = (), dict.fromkeys(returns, ())
  run = run._replace(steps=steps, returns=returns)
  if progress is None:
    return run._replace(step=last, told=False, fault='' if there else 'it has no evaluation')
  run = run._replace(step=progress[0], total=progress[1])
  if run.step >= run.total > last:
    # The last step is always evaluated.
    return run._replace(fault=f'results.csv ends at step {last}, the run at {run.step}')
  if run.step >= run.total and not there:
    return run._replace(fault='it has no evaluation')
  return run


def _run_at(folder: str, place: tuple[str, ...]) -> Run:
  """The run that a place speaks of."""
  *names, n_train = place[: _task_ends(place)]
  # An environment's name may be a path, and so may that of data: gym's ends with a version.
  end = next((k for k, name in enumerate(names, 1) if re.search(r'-v\d+$', name)), 1)
  end = min(end, len(names) - 1)
  env_name, data_name = '/'.join(names[:end]), '/'.join(names[end:])
  below = _below_task(place)
  agent, *between, seed = (*below, '', '')[: max(3, len(below))]
  return Run(_readable(folder), env_name, data_name, n_train, agent, '/'.join(between), seed)


def read_results(path: str) -> tuple[tuple[int, ...], dict[str, tuple[float, ...]]]:
  """The steps of a `results.csv`, and the returns by policy, NaN for an empty cell.

  Raises:
    ValueError: it is none; the message says why.
  """
  try:
    with open(path, encoding='utf-8-sig', newline='') as f:  # a table's program may mark it so
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
      row = [int(step), *(float(value) if value else math.nan for value in values)]
      readable = len(row) == len(header) and all(
        math.isfinite(x) for x, value in zip(row, line.split(',')) if value
      )
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
