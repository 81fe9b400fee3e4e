"""Transitions as the agents read them: a ring of rows in TensorFlow variables."""

import os
import zlib
from typing import List, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf
from absl import logging

from brac import checkpoints
from brac.errors import UserError
from brac.rng import Rng

# How its episode goes on after a transition. The first three are the environments' codes; a
# collection that is over cuts an episode off, and published datasets do not say.
GOES_ON, TERMINAL, TIME_LIMIT, CUT_OFF, UNKNOWN = range(5)


class Batch(NamedTuple):
  """Transitions: states `[B, S]`, actions `[B, A]`, rewards and discounts `[B]`; a2 follows s2."""

  s1: tf.Tensor
  a1: tf.Tensor
  s2: tf.Tensor
  a2: tf.Tensor
  r: tf.Tensor
  d: tf.Tensor


class Transitions(NamedTuple):
  """The same as numpy arrays, and `end` `[N]` int8, which says how the episode goes on."""

  s1: np.ndarray
  a1: np.ndarray
  s2: np.ndarray
  a2: np.ndarray
  reward: np.ndarray
  discount: np.ndarray
  end: np.ndarray

  @classmethod
  def zeros(cls, n: int, n_states: int, n_actions: int) -> 'Transitions':
    """Rows to be filled.

    Raises:
      MemoryError: this machine has not twice their size, for while they are stored there is a copy.
    """
    size, memory = 4 * n * 2 * (n_states + n_actions + 1), os.sysconf('SC_PHYS_PAGES')
    memory *= os.sysconf('SC_PAGE_SIZE')
    if 2 * size > memory:
      raise MemoryError(
        f'{n} transitions take twice {size / 1e9:.0f} GB, this machine has {memory / 1e9:.0f} GB'
      )
    return cls(
      *(np.zeros([n, k], np.float32) for k in (n_states, n_actions) * 2),
      *np.zeros([2, n], np.float32),
      np.full([n], UNKNOWN, np.int8),
    )


class Dataset(tf.Module):
  """A ring of transitions, saved under the published keys and `_end`.

  Consecutive rows are consecutive steps of one episode, until `_end` says otherwise.
  """

  def __init__(self, rows: Transitions, size: Optional[int] = None, idx: Optional[int] = None):
    """Takes the rows that there is room for.

    Args:
      rows: the ring.
      size: how many of them, the first, hold data; all by default.
      idx: how many were ever stored: the next one goes to row `idx % capacity`; `size` by default.
    """
    super().__init__()
    capacity = len(rows.reward)
    size = capacity if size is None else size
    # The largest first: while TensorFlow takes one up there is a second copy of it.
    for name, values in sorted(rows._asdict().items(), key=lambda item: -item[1].nbytes):
      setattr(self, '_' + name, tf.Variable(values))
    self._capacity = tf.Variable(capacity)
    self._current_size = tf.Variable(size)
    self._current_idx = tf.Variable(size if idx is None else idx)

  @property
  def size(self) -> int:
    """How many transitions it holds."""
    return int(self._current_size)

  def held(self) -> 'Dataset':
    """The rows that hold data, without the room for more."""
    fields = (getattr(self, '_' + name)[: self.size].numpy() for name in Transitions._fields)
    return Dataset(Transitions(*fields), idx=int(self._current_idx))

  def restore(self, path: str) -> None:
    """Takes up what `held` gave and was saved under `data` at a path.

    Raises:
      UserError: see `load`; or there is no room for it.
    """
    rows = load(path, self._s1.shape[1], self._a1.shape[1])
    n, idx = len(rows.reward), int(checkpoints.Reader(path, 'dataset').read('data/_current_idx'))
    if n > int(self._capacity):
      raise UserError(
        f'dataset {path} has {n} transitions, there is room for {int(self._capacity)}'
      )
    if n < int(self._capacity) and idx < n:
      # A ring that was full goes on in a larger one: from its oldest row.
      rows, idx = Transitions(*(np.roll(values, -idx, axis=0) for values in rows)), n
    for name, values in rows._asdict().items():
      getattr(self, '_' + name)[:n].assign(values)
    self._current_size.assign(n)
    self._current_idx.assign(idx)

  def add(self, s1, a1, s2, a2, reward, discount, end) -> None:
    """Stores one transition, of `[S]`, `[A]` and scalars; the oldest goes if it is full."""
    row = self._current_idx % self._capacity
    for variable, value in (
      (self._s1, s1),
      (self._a1, a1),
      (self._s2, s2),
      (self._a2, a2),
      (self._reward, reward),
      (self._discount, discount),
      (self._end, end),
    ):
      variable.scatter_nd_update([[row]], tf.cast(value, variable.dtype)[None])
    self._current_idx.assign(row + 1)
    self._current_size.assign(tf.minimum(self._current_size + 1, self._capacity))

  def cut_off(self) -> None:
    """Marks the row that was stored last as the end of what is known of its episode."""
    row = (self._current_idx - 1) % self._capacity
    goes_on = self._end[row] == GOES_ON
    end = tf.where(goes_on, tf.cast(CUT_OFF, self._end.dtype), self._end[row])
    self._end.scatter_nd_update([[row]], end[None])

  def sample(self, batch_size: int, rng: Rng) -> Batch:
    """`batch_size` transitions, drawn evenly with replacement."""
    rows = rng.integers([batch_size], self._current_size)
    fields = (self._s1, self._a1, self._s2, self._a2, self._reward, self._discount)
    return Batch(*(tf.gather(field, rows) for field in fields))


def shuffled_blocks(n: int, block: int, seed: int) -> np.ndarray:
  """The numbers 0 to n-1 with their blocks of `block` consecutive ones in a random order."""
  blocks = np.array_split(np.arange(n), range(block, n, block))
  order = np.random.default_rng(seed).permutation(len(blocks))
  return np.concatenate([blocks[i] for i in order])


def first(rows: Transitions, n: int, block: int, seed: int, path: str) -> Transitions:
  """`n` of the rows of the dataset at `path`: the first, or with `block` > 0 of a drawn order."""
  size = len(rows.reward)
  if n > size:
    logging.warning('n_train is %d, %s has %d transitions: all of them are used', n, path, size)
    n = size
  if block:
    if block >= size:
      logging.warning(
        'train_eval_offline.shuffle_steps is %d, %s has %d transitions: they are one block, whose '
        'order stays as it is',
        block,
        path,
        size,
      )
    order = shuffled_blocks(size, block, seed)[:n]
    return Transitions(*(values[order] for values in rows))
  if n < size:
    logging.warning(
      'n_train takes the first %d of %d transitions as they were stored, which in a mixture are of '
      'its first policies; train_eval_offline.shuffle_steps > 0 takes blocks from everywhere',
      n,
      size,
    )
  return Transitions(*(values[:n] for values in rows))


def load(path: str, n_states: int, n_actions: int, is_finished: bool = True) -> Transitions:
  """Reads the dataset at `path`, in the order in which it was stored.

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
  if 'data/_end' in reader.shapes:
    return Transitions(**fields, end=_field(reader, 'end', [size]))
  return Transitions(**fields, end=np.full(size, UNKNOWN, np.int8))


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


def _field(reader: checkpoints.Reader, name: str, want: List[int]) -> np.ndarray:
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


# What may be done about actions outside of the environment's box.
OUT_OF_BOX = ('count', 'clip', 'refuse')


def in_box(rows: Transitions, action_spec, how: str, path: str) -> Transitions:
  """The transitions of the dataset at `path`, after one of `OUT_OF_BOX` was done about its actions.

  Args:
    rows: all of them, so that the row that is named is the one in the file.
    action_spec: of actions `[A]`, bounded.
    how: one of `OUT_OF_BOX`.
    path: names the dataset.

  Raises:
    UserError: there are actions outside of the box, and they are refused.
  """
  shape = rows.a1.shape[1:]
  low, high = (np.broadcast_to(x, shape) for x in (action_spec.minimum, action_spec.maximum))
  outside = np.zeros(len(rows.reward), bool)
  for actions in (rows.a1, rows.a2):
    outside |= ((actions < low) | (actions > high)).any(-1)
  if not outside.any():
    return rows
  row = int(np.argmax(outside))
  found = (
    f'{np.count_nonzero(outside)} of the {len(outside)} transitions of dataset {path} have an '
    f"action outside of the environment's box, first in row {row}: {rows.a1[row].tolist()}, then "
    f'{rows.a2[row].tolist()}, where the box is from {low.tolist()} to {high.tolist()}'
  )
  parameter = 'train_eval_offline.out_of_box_actions'
  if how == 'refuse':
    raise UserError(f"{found}; {parameter} = 'clip' or 'count' takes them")
  logging.warning('%s; they are %s', found, 'clipped' if how == 'clip' else 'used as they are')
  if how == 'clip':
    rows = rows._replace(a1=np.clip(rows.a1, low, high), a2=np.clip(rows.a2, low, high))
  return rows


def fingerprint(rows: Transitions) -> str:
  """A checksum of the content of transitions."""
  checksum = 0
  for values in rows:
    checksum = zlib.crc32(np.ascontiguousarray(values).view(np.uint8), checksum)
  return f'{len(rows.reward)} transitions, crc32 {checksum:08x}'


def size_of(path: str) -> int:
  """How many transitions the dataset at `path` holds; raises UserError where there is none."""
  return _size(checkpoints.Reader(path, 'dataset'))


def episodes(path: str) -> Tuple[np.ndarray, np.ndarray]:
  """The whole episodes of the dataset at `path`: their returns `[n]` and their steps `[n]`.

  Empty where it does not tell them.

  Raises:
    UserError: there is no dataset, or one that `load` would not take.
  """
  reader = checkpoints.Reader(path, 'dataset')
  if 'data/_end' not in reader.shapes:
    return np.zeros(0), np.zeros(0, int)
  size = _size(reader)
  end, reward = _field(reader, 'end', [size]), _field(reader, 'reward', [size])
  lasts = np.flatnonzero(end != GOES_ON)
  returns = np.diff(np.cumsum(reward, dtype=np.float64)[lasts], prepend=0.0)
  whole = np.isin(end[lasts], (TERMINAL, TIME_LIMIT))
  return returns[whole], np.diff(lasts, prepend=-1)[whole]
