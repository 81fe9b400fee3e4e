"""A dataset as the programs store it: a checkpoint with the published keys, and `_end`."""

import numpy as np

from brac import checkpoints
from brac.data.transitions import GOES_ON, TERMINAL, TIME_LIMIT, UNKNOWN, Transitions, returns_of
from brac.errors import UserError


def load(path: str, n_states: int, n_actions: int, is_finished: bool = True) -> Transitions:
  """Reads the dataset at `path`, from its oldest row on.

  Args:
    path: the dataset.
    n_states: the numbers of a state.
    n_actions: the numbers of an action.
    is_finished: whether a collection that is not finished, where rows are empty, is refused.

  Raises:
    UserError: there is none, it is empty, of other dimensions, or holds NaN or infinities, or
      discounts or ends of episodes that are none.
  """
  reader = checkpoints.Reader(path, 'dataset')
  size = _size(reader, is_finished)
  widths = {'s1': [n_states], 's2': [n_states], 'a1': [n_actions], 'a2': [n_actions]}
  for name, width in widths.items():
    shape = reader.shapes.get(f'data/_{name}')
    if shape is not None and (len(shape) != 2 or shape[1:] != width):
      raise UserError(
        f'dataset {path} is not of this environment: its _{name} is {shape}, the environment has '
        f'{n_states} states and {n_actions} actions'
      )
  fields = {name: _field(reader, name, [size, *widths.get(name, ())]) for name in _STORED}
  has_end = 'data/_end' in reader.shapes
  end = _field(reader, 'end', [size]) if has_end else np.full(size, UNKNOWN, np.int8)
  rows, first = Transitions(**fields, end=end), oldest(reader, size)
  return Transitions(*(np.roll(values, -first, axis=0) for values in rows)) if first else rows


def oldest(reader: checkpoints.Reader, size: int) -> int:
  """The row from which on a ring that was full was written over, its oldest; else 0."""
  return int(reader.read('data/_current_idx')) % size if 'data/_current_idx' in reader.shapes else 0


def is_first_whole(path: str) -> bool:
  """Whether the oldest row of the dataset at a path begins an episode, as in no ring that was full.

  Raises:
    UserError: there is no dataset.
  """
  reader = checkpoints.Reader(path, 'dataset')
  return not oldest(reader, _size(reader))


_STORED = Transitions._fields[:-1]  # published datasets have no `_end`


def _size(reader: checkpoints.Reader, is_finished: bool = True) -> int:
  """How many transitions a dataset holds.

  Raises:
    UserError: that is no number above 0; or the dataset is to be finished, and is not.
  """
  if is_finished and 'collection' in reader.shapes:
    raise UserError(
      f'dataset {reader.path} is a collection that is not finished, with rows that are empty; the '
      'command that began it goes on with it'
    )
  size = reader.read('data/_current_size')
  if np.shape(size) or np.asarray(size).dtype.kind not in 'iu':
    raise UserError(f'dataset {reader.path}: data/_current_size is no whole number, but {size!r}')
  if size <= 0:
    raise UserError(f'dataset {reader.path} is empty: data/_current_size is {size}')
  return int(size)


def _field(reader: checkpoints.Reader, name: str, want: list[int]) -> np.ndarray:
  """A field of `Transitions`, of the shape `want`, in the type that it has there.

  Raises:
    UserError: it is not there, of another shape, or holds what it may not.
  """
  what, values = f'dataset {reader.path}: _{name}', reader.read(f'data/_{name}')
  shape = list(np.shape(values))
  if len(shape) != len(want) or shape[1:] != want[1:]:
    raise UserError(f'{what} is of shape {shape}, not {want}')
  if shape[0] < want[0]:
    raise UserError(f'{what} has {shape[0]} rows, _current_size is {want[0]}')
  values = values[: want[0]]
  if values.dtype.kind not in 'fiu':
    raise UserError(f'{what} holds no numbers')
  if name == 'end':  # before the cast, which would make codes of other numbers
    bad, wrong = ~np.isin(values, range(UNKNOWN + 1)), f'not in [{GOES_ON}, {UNKNOWN}]'
  else:
    with np.errstate(over='ignore'):  # what becomes infinite is said below
      values = values.astype(np.float32, copy=False)
    bad, wrong = ~np.isfinite(values), 'not finite'
    if name == 'discount' and not bad.any():
      bad, wrong = (values < 0) | (values > 1), 'not in [0, 1]'
  if bad.any():
    row, n_bad = int(np.argwhere(bad)[0][0]), np.count_nonzero(bad)
    raise UserError(
      f'dataset {reader.path}: {n_bad} numbers of _{name} are {wrong}, first in row {row}'
    )
  return values.astype(np.int8, copy=False) if name == 'end' else values


def size_of(path: str) -> int:
  """How many transitions the dataset at `path` holds; raises UserError where there is none."""
  return _size(checkpoints.Reader(path, 'dataset'))


def widths(path: str) -> tuple[int, int]:
  """How wide the states and the actions of the dataset at `path` are.

  Raises:
    UserError: there is none.
  """
  reader = checkpoints.Reader(path, 'dataset')
  shapes = [reader.shapes.get(f'data/_{name}', []) for name in ('s1', 'a1')]
  if any(len(shape) != 2 for shape in shapes):
    raise UserError(f'dataset {path} has no data/_s1 and data/_a1 of rows')
  return shapes[0][1], shapes[1][1]


def is_import(path: str) -> bool:
  """Whether the dataset at `path` came from elsewhere; raises UserError where there is none."""
  return 'source/returns' in checkpoints.Reader(path, 'dataset').shapes


def rewards(path: str) -> np.ndarray:
  """The rewards of all transitions of the dataset at `path`, `[n]`.

  Raises:
    UserError: there is no dataset, or one that `load` would not take.
  """
  reader = checkpoints.Reader(path, 'dataset')
  return _field(reader, 'reward', [_size(reader)])


def episodes(path: str) -> tuple[np.ndarray, np.ndarray]:
  """The whole episodes of the dataset at `path`: their returns `[n]` and their steps `[n]`.

  Of an import, those of its source. Empty where the dataset does not tell them.

  Raises:
    UserError: there is no dataset, or one that `load` would not take.
  """
  reader = checkpoints.Reader(path, 'dataset')
  if 'source/returns' in reader.shapes:  # not each step of the source is a row
    return reader.read('source/returns'), reader.read('source/lengths')
  if 'data/_end' not in reader.shapes:
    return np.zeros(0), np.zeros(0, int)
  size = _size(reader)
  first = oldest(reader, size)
  fields = (np.roll(_field(reader, name, [size]), -first) for name in ('end', 'reward'))
  returns, steps, ends = returns_of(*fields)
  whole = np.isin(ends, (TERMINAL, TIME_LIMIT))
  if first:  # of that episode the beginning was written over
    whole[:1] = False
  return returns[whole], steps[whole]
