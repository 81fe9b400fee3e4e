"""D4RL's HDF5 files: one array of all steps for each field, episodes one after the other.

https://github.com/Farama-Foundation/D4RL. Which of the arrays a file has, and what can be trusted:

  observations, actions, rewards, terminals                  always
  timeouts, next_observations, infos/action_log_probs        in -v1 and -v2
  metadata/{algorithm,iteration,policy/...}                  there too, of a trained policy's data

observations[i + 1] follows observations[i] but at an episode's end, where it is the next episode's
first. Files are cut at a number of rows, so that the last episode may have no flag.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

import h5py
import numpy as np

from brac.data.export import Export
from brac.data.source import (
  DISCOUNTS,
  ENDS,
  NEXT_ACTIONS,
  OBSERVATION_KEYS,
  PIECE,
  Options,
  Source,
  Steps,
  StoredPolicy,
  check_array,
  flags,
  floats,
)
from brac.data.transitions import CUT_OFF, GOES_ON, TERMINAL, TIME_LIMIT, UNKNOWN
from brac.errors import UserError

ENDINGS = ('.hdf5', '.h5')
_NAME = re.compile(
  r'(halfcheetah|hopper|walker2d|ant)[-_](random|medium|expert|(?:medium|full)[-_](?:replay|expert))'
  r'(?:-v([0-2]))?'
)
_ENVIRONMENTS = {
  'halfcheetah': 'HalfCheetah-v2',
  'hopper': 'Hopper-v2',
  'walker2d': 'Walker2d-v2',
  'ant': 'Ant-v2',
}
_POLICY, _LOG_PROBS = 'metadata/policy/', 'infos/action_log_probs'


def understand(name: str) -> tuple[Optional[str], str]:
  """The environment and D4RL's own name of a dataset, such as `halfcheetah-medium-v2`.

  Args:
    name: D4RL's, or its file's (`halfcheetah_medium-v2`). The environment is None for others.
  """
  match = _NAME.fullmatch(name)
  if not match:
    return None, name
  task, what, version = match.groups()
  return _ENVIRONMENTS[task], f'{task}-{what.replace("_", "-")}-v{version or 0}'


def read(path: str, options: Options) -> Source:
  """The data in a file.

  Raises:
    UserError: it is none of this format, or does not tell where episodes end.
  """
  path = checked_path(path)
  with reading(path):
    file = h5py.File(path, 'r')
  if 'episode_0' in file:
    raise UserError(f'{path} is a file of Minari: --format=minari, with the id of the dataset')
  return read_arrays(file, path, 'd4rl', options)


def checked_path(path: str) -> str:
  """The path of a file, with what `~` and `$HOME` stand for; raises UserError where it is none."""
  path = os.path.expandvars(os.path.expanduser(path))
  if not os.path.isfile(path):
    raise UserError(f'--source {path}: {"a folder" if os.path.isdir(path) else "no file is there"}')
  return path


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
  """Makes one line of what h5py says of a damaged file."""
  try:
    yield
  except (OSError, RuntimeError, KeyError, ValueError) as error:
    raise UserError(f'{path} cannot be read as HDF5: {str(error).splitlines()[0]}') from error


def checksum(*paths: str) -> str:
  """Of the content of files, one after the other."""
  digest = hashlib.sha256()
  for path in paths:
    with open(path, 'rb') as f:
      while block := f.read(2**20):
        digest.update(block)
  return f'sha256 {digest.hexdigest()}'


def _other_files(arrays: Mapping[str, Any], path: str, names: Iterable[str]) -> list[str]:
  """The other files in which HDF5 has some of the arrays of a file.

  Raises:
    UserError: one is not there, for which h5py would give zeros.
  """
  found = set()
  for name in names if isinstance(arrays, h5py.File) else ():
    link, array = arrays.get(name, getlink=True), arrays.get(name)
    if isinstance(link, h5py.ExternalLink):
      found |= {link.filename}
    if isinstance(array, h5py.Dataset) and array.is_virtual:
      found |= {part.file_name for part in array.virtual_sources()} - {'.'}
  found = {os.path.join(os.path.dirname(path), name) for name in found}
  for other in sorted(found):
    if not os.path.isfile(other):
      raise UserError(f'{path} has its arrays in other files, of which {other} is not there')
  return sorted(found)


def read_arrays(arrays: Mapping[str, Any], path: str, form: str, options: Options) -> Source:
  """The data in arrays of D4RL's names, which are sliced piece by piece.

  Args:
    arrays: an open file.
    path: its.
    form: the format's name.
    options: what the user says of it.

  Raises:
    UserError: see `read`.
  """
  if options.observation_keys:
    raise UserError(f'{path}: --observation_keys are of Dict observations, and these are arrays')
  needed = ('observations', 'actions', 'rewards', 'terminals')
  missing = [name for name in needed if name not in arrays]
  if missing:
    there = ', '.join(list(arrays)[:20]) or 'nothing'
    raise UserError(f'{path} has no {missing[0]}; it has {there}')
  layout = {name: ('fiu', 2) for name in ('observations', 'next_observations')}
  layout |= {'actions': ('f', 2), NEXT_ACTIONS: ('f', 2)}
  layout |= {name: ('fiub', 1) for name in ('rewards', 'terminals', 'timeouts', ENDS, DISCOUNTS)}
  if options.episode_ends:
    layout[options.episode_ends] = ('fiub', 1)
  with reading(path):
    others = _other_files(arrays, path, layout)
  check_array(arrays['observations'], f'{path}: observations', *layout['observations'])
  n, n_states = arrays['observations'].shape
  for name, kinds in layout.items():
    if name in arrays:
      check_array(arrays[name], f'{path}: {name}', *kinds, n)
  n_actions = arrays['actions'].shape[1]
  for name, width in (('next_observations', n_states), (NEXT_ACTIONS, n_actions)):
    if name in arrays and arrays[name].shape[1] != width:
      raise UserError(f'{path}: {name} is {arrays[name].shape[1]} numbers wide, not {width}')
  if not n:
    raise UserError(f'{path} is empty: observations has no row')
  ends = _Ends(arrays, path, options)
  env_name, data_name = understand(os.path.splitext(os.path.basename(path))[0])
  facts = {'format': form, 'source': os.path.basename(path), 'checksum': checksum(path, *others)}
  facts |= {'episodes_end_by': ends.by, **_facts(arrays, n_states)}
  own = _name(arrays)
  if env_name and not own and form != 'd4rl':
    ends.notes.append(f'{path} does not tell its environment: by its name it is {env_name}')
  return Source(
    n=n, n_states=n_states, n_actions=n_actions, env_name=own or env_name, data_name=data_name,
    facts=facts, pieces=_pieces(arrays, path, ends), policy=_policy(arrays, path), notes=ends.notes,
  )  # fmt: skip


def _pieces(arrays: Mapping[str, Any], path: str, ends: '_Ends') -> Iterator[Steps]:
  """The steps of an open file, which is closed after the last."""
  n = arrays['observations'].shape[0]

  def piece(name: str, i: int, j: int, dtype=np.float32):
    return floats(arrays[name][i:j], f'{path}: {name}', i, dtype) if name in arrays else None

  for i in range(0, n, PIECE):
    j = min(i + PIECE, n)
    with reading(path):
      s = piece('observations', i, j + 1)
      s_next = piece('next_observations', i, j)
      discount = piece(DISCOUNTS, i, j)
      yield Steps(
        s=s[: j - i],
        a=piece('actions', i, j),
        reward=piece('rewards', i, j, np.float64).reshape(j - i),
        end=ends.of(i, j, s, s_next),
        s_next=s_next,
        a_next=piece(NEXT_ACTIONS, i, j),
        discount=discount if discount is None else discount.reshape(j - i),
      )
  getattr(arrays, 'close', lambda: None)()


class _Ends:
  """Where the episodes of a file end: by the first of its own words, then the user's.

  Attributes:
    by: what tells it.
    notes: what a user ought to know.
  """

  def __init__(self, arrays: Mapping[str, Any], path: str, options: Options):
    def read(name: str) -> np.ndarray:
      with reading(path):
        values = arrays[name][:]
      return flags(values.reshape(-1), f'{path}: {name}')

    self._terminals, self._lasts = read('terminals'), None
    self._codes, self._limit, self._t, self._n_unmarked = None, None, 0, 0
    named = {f'--{name}': getattr(options, name) for name in ('episode_ends', 'max_episode_steps')}
    if ENDS in arrays:
      self.by, self._codes = ENDS, arrays[ENDS][:].reshape(-1)
      if not np.isin(self._codes, range(UNKNOWN + 1)).all():
        raise UserError(f'{path}: {ENDS} holds codes that are not in [{GOES_ON}, {UNKNOWN}]')
    elif 'timeouts' in arrays and read('timeouts').any():
      self.by, self._lasts = 'timeouts', read('timeouts')
    elif 'next_observations' in arrays:
      self.by = 'next_observations'
    elif options.episode_ends:
      if options.episode_ends not in arrays:
        there = ', '.join(list(arrays)[:20])
        raise UserError(f'--episode_ends {options.episode_ends}: {path} has {there}')
      self.by, self._lasts = named.pop('--episode_ends'), read(options.episode_ends)
    elif options.max_episode_steps:
      self._limit = named.pop('--max_episode_steps')
      self.by = f'terminals and {self._limit} steps'
    else:
      timeouts = 'timeouts that are true somewhere' if 'timeouts' in arrays else 'timeouts'
      raise UserError(
        f'{path} does not tell where its episodes end: it has neither {timeouts} nor '
        'next_observations; --episode_ends=NAME names an array that does (terminals, where there '
        'is no time limit), --max_episode_steps=N a length'
      )
    self.notes = [
      f'{flag} is not used: {path} tells by {self.by} where its episodes end'
      for flag, value in named.items()
      if value
    ]

  def of(self, i: int, j: int, s: np.ndarray, s_next: Optional[np.ndarray]) -> np.ndarray:
    """`[j - i]` int8 of the steps i to j; to be asked in order.

    Args:
      i: the first.
      j: the one after the last.
      s: the observations from i on, one more than there are steps but at the file's end.
      s_next: what follows each, where the file has it.
    """
    broken = np.zeros(j - i, bool)
    if s_next is not None:
      k = len(s) - 1
      broken[:k] = (s_next[:k] != s[1:]).any(-1)
    if self._codes is not None:
      return self._of_codes(i, j, broken)
    end = np.full(j - i, GOES_ON, np.int8)
    end[broken] = TIME_LIMIT if self.by == 'next_observations' else CUT_OFF
    if self._lasts is not None:
      end[self._lasts[i:j]] = TIME_LIMIT
      self._n_unmarked += np.count_nonzero((end == CUT_OFF) & ~self._terminals[i:j])
      if self._n_unmarked and j == len(self._terminals):
        self.notes.append(
          f'{self._n_unmarked} episodes end without a flag: the next row begins with another '
          'observation than their next_observations; they are taken as cut off'
        )
    if self._limit:
      start = 0
      for stop in [*np.flatnonzero(self._terminals[i:j]), j - i]:
        end[np.arange(start + self._limit - 1 - self._t, stop, self._limit)] = TIME_LIMIT
        self._t = 0 if stop < j - i else (self._t + stop - start) % self._limit
        start = stop + 1
    end[self._terminals[i:j]] = TERMINAL
    if j == len(self._terminals) and end[-1] == GOES_ON:
      end[-1] = CUT_OFF  # where the file ends
    return end

  def _of_codes(self, i: int, j: int, broken: np.ndarray) -> np.ndarray:
    """As `of`, by the codes of an export, of which somebody may have taken a part of the rows."""
    end = self._codes[i:j].astype(np.int8)
    if j == len(self._codes):
      broken[-1] = True
    left = broken & (end == GOES_ON)
    end[left] = CUT_OFF
    self._n_unmarked += np.count_nonzero(left)
    if self._n_unmarked and j == len(self._codes):
      self.notes.append(
        f'{self._n_unmarked} episodes go on by {ENDS}, and the next row is none of theirs; they '
        'are taken as cut off'
      )
    return end


def _facts(arrays: Mapping[str, Any], n_states: int) -> dict[str, Any]:
  found = {name: _text(arrays, f'metadata/{name}') for name in ('algorithm', 'iteration')}
  found = {name: value for name, value in found.items() if value is not None}
  if keys := read_observation_keys(_text(arrays, OBSERVATION_KEYS), n_states):
    found['observation_keys'] = keys
  return found


def read_observation_keys(text: Any, n_states: int) -> dict[str, int]:
  """The parts of Dict observations in their order, as an export tells them; {} where none does."""
  try:
    keys = {str(name): int(width) for name, width in json.loads(text).items()}
  except (TypeError, ValueError, AttributeError):
    return {}
  return keys if sum(keys.values()) == n_states else {}


def _name(arrays: Mapping[str, Any]) -> Optional[str]:
  """The environment that a file itself tells."""
  for value in (getattr(arrays, 'attrs', {}).get('env_name'), _text(arrays, 'env_name')):
    value = value.decode(errors='replace') if isinstance(value, bytes) else value
    if isinstance(value, str) and value:
      return str(value)
  return None


def _text(arrays: Mapping[str, Any], name: str) -> Any:
  """A string or a number of a file; None where it is not there."""
  if name not in arrays or getattr(arrays[name], 'shape', None) != ():
    return None
  value = arrays[name][()]
  if isinstance(value, bytes):
    return value.decode(errors='replace')
  value = np.asarray(value).item()
  return value if isinstance(value, (str, int, float)) else None


def _policy(arrays: Mapping[str, Any], path: str) -> Optional[StoredPolicy]:
  """The policy that a file holds, with a thousand steps to know it by."""
  if not isinstance(arrays.get(_POLICY.rstrip('/')), h5py.Group):
    return None
  found: dict[str, Any] = {}

  def note(name: str, item) -> None:
    if isinstance(item, h5py.Dataset):
      found[name] = item[()] if item.shape else _text(arrays, _POLICY + name)

  with reading(path):
    arrays[_POLICY.rstrip('/')].visititems(note)
    s, a = (floats(arrays[x][:1000], f'{path}: {x}') for x in ('observations', 'actions'))
    log_prob = arrays.get(_LOG_PROBS)
    if getattr(log_prob, 'shape', None) in ((n := len(arrays['actions']),), (n, 1)):
      log_prob = floats(log_prob[:1000], f'{path}: {_LOG_PROBS}').reshape(-1)
    else:
      log_prob = None
  return StoredPolicy(found, s, a, log_prob)


# --- Writing --------------------------------------------------------------------------------------


def place(target: str) -> str:
  """Where `write` writes."""
  return target


def write(path: str, export: Export) -> None:
  """Writes a file with `next_observations`, `timeouts`, and what D4RL has no place for in `infos/`.

  Raises:
    OSError: it cannot be written.
  """
  with h5py.File(path, 'w') as file:
    for name, values in arrays_of(export).items():
      file.create_dataset(name, data=values, compression='gzip')
    for name, text in texts_of(export).items():
      if name == 'env_name':
        file.attrs[name] = text
      else:
        file[name] = text


def texts_of(export: Export) -> dict[str, str]:
  """What is told of a dataset in words."""
  keys = export.facts.get('observation_keys')
  return {'env_name': export.env_name, **({OBSERVATION_KEYS: json.dumps(keys)} if keys else {})}


def arrays_of(export: Export) -> dict[str, np.ndarray]:
  """A dataset in arrays of D4RL's names."""
  rows, lasts = export.rows, export.lasts()
  return {
    'observations': rows.s1,
    'actions': rows.a1,
    'rewards': rows.reward,
    'terminals': export.terminals(),
    'timeouts': lasts & ~export.terminals(),
    'next_observations': rows.s2,
    NEXT_ACTIONS: rows.a2,
    ENDS: rows.end,
    DISCOUNTS: rows.discount,
  }
