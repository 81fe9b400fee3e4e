"""What a row of data is, and which of the rows that are stored a training takes.

An episode of three steps, and what stands in its rows; `r_t` is the reward of `a_t`:

  o0 ──a0──▶ o1 ──a1──▶ o2 ──a2──▶ o3

  row    s1   a1   reward   s2   a2   discount   end
  0      o0   a0   r0       o1   a1   1          GOES_ON
  1      o1   a1   r1       o2   a2   1          GOES_ON
  2      o2   a2   r2       o3   a3   0          TERMINAL      o3 is a terminal state
      or o2   a2   r2       o3   a3   1          TIME_LIMIT    the episode's time was up
      or o2   a2   r2       o3   a3   1          CUT_OFF       the collection was over, or the file

`a3` was never taken. In what this project collects it is the action that the same policy would take
at o3. Data from elsewhere do not tell it (`source.make_rows` follows this table):

  - TERMINAL: the row is kept; a2 is `a2` again, and s2 is o3 where the source has it, else `o2`
    again. Both count for nothing, for the discount is 0.
  - TIME_LIMIT, CUT_OFF: the row is left out, and row 1 gets its `end`. With --keep_last it is kept,
    where the source has o3, and its a2 is `a2` again.

The row after is the first of another episode. `end` is UNKNOWN throughout in published datasets.
"""

import os
import zlib
from typing import NamedTuple, Union

import numpy as np
import tensorflow as tf
from absl import logging

from brac.errors import UserError

# How its episode goes on after a transition; the first three are the environments' codes.
GOES_ON, TERMINAL, TIME_LIMIT, CUT_OFF, UNKNOWN = range(5)
_HOLD_OUT = 1  # the stream of the draw of episodes, which is no other's of the seed

Numbers = Union[slice, np.ndarray]  # of rows


class Batch(NamedTuple):
  """Rows: states `[B, S]`, actions `[B, A]`, rewards and discounts `[B]`; a2 follows s2."""

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


def returns_of(end: np.ndarray, reward: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Of each episode its return, how many steps it has, and how it ended, `[n]` each."""
  lasts = np.flatnonzero(end != GOES_ON)
  steps = np.diff(lasts, prepend=-1)
  # Each by itself: in differences of one long sum a huge reward would take the digits of the rest.
  known = np.asarray(reward, np.float64)[: lasts[-1] + 1 if len(lasts) else 0]
  returns = np.add.reduceat(known, lasts + 1 - steps) if len(lasts) else known
  return returns, steps, end[lasts]


def begins(end: np.ndarray, is_first_whole: bool = True) -> np.ndarray:
  """Whether an episode begins in a row, `[N]`; nowhere where the dataset does not tell.

  Args:
    end: of all rows.
    is_first_whole: False where what the first row's episode began with was written over.
  """
  if (end == UNKNOWN).any():
    return np.zeros(len(end), bool)
  return np.concatenate([[is_first_whole], end[:-1] != GOES_ON])[: len(end)]


def fingerprint(rows: Transitions) -> str:
  """A checksum of the content of transitions."""
  checksum = 0
  for values in rows:
    checksum = zlib.crc32(np.ascontiguousarray(values).view(np.uint8), checksum)
  return f'{len(rows.reward)} transitions, crc32 {checksum:08x}'


def shuffled_blocks(n: int, block: int, seed: int) -> np.ndarray:
  """The numbers 0 to n-1 with their blocks of `block` consecutive ones in a random order."""
  blocks = np.array_split(np.arange(n), range(block, n, block))
  order = np.random.default_rng(seed).permutation(len(blocks))
  return np.concatenate([blocks[i] for i in order])


def take(rows: Transitions, numbers: Numbers) -> Transitions:
  """The rows of some numbers, in their order."""
  return Transitions(*(values[numbers] for values in rows))


def used(size: int, n: int, block: int, seed: int, path: str) -> Numbers:
  """The numbers of `n` of the `size` rows of a dataset that a training takes.

  They are the first, or with `block` > 0 those of blocks in a drawn order.
  """
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
    return shuffled_blocks(size, block, seed)[:n]
  if n < size:
    logging.warning(
      'n_train takes the first %d of %d transitions as they were stored, which in a mixture are of '
      'its first policies; --n_train=%d takes all, train_eval_offline.shuffle_steps > 0 blocks '
      'from everywhere',
      n,
      size,
      size,
    )
  return slice(n)


def hold_out(
  end: np.ndarray, numbers: Numbers, fraction: float, seed: int, path: str
) -> tuple[np.ndarray, np.ndarray]:
  """Splits rows into those to train on and those of whole episodes that are held out.

  Episodes are drawn until they have at least `fraction` of the rows. All of an episode goes to one
  side, wherever blocks in a drawn order put its rows.

  Args:
    end: of all rows of the dataset, as they were stored.
    numbers: of the rows that are split.
    fraction: above 0.
    seed: of the draw.
    path: names the dataset.

  Returns:
    The numbers of both, each in the order of `numbers`.

  Raises:
    UserError: the dataset does not tell its episodes, or all of them would be held out.
  """
  parameter = f'train_eval_offline.validation_fraction is {fraction:g}'
  if (end == UNKNOWN).any():
    raise UserError(
      f'{parameter}, and dataset {path} does not tell its episodes, whole ones of which would be '
      'held out: it has no data/_end; 0 trains on all of it'
    )
  numbers = np.arange(len(end))[numbers]
  episodes, steps = np.unique(episodes_of(end)[numbers], return_counts=True)
  order = np.random.default_rng([seed, _HOLD_OUT]).permutation(len(episodes))
  n = 1 + int(np.searchsorted(np.cumsum(steps[order]), fraction * len(numbers)))
  if n >= len(episodes):
    raise UserError(
      f'{parameter}, which leaves none of the {len(episodes)} episodes of {path} to train on'
    )
  held = np.isin(episodes_of(end)[numbers], episodes[order[:n]])
  return numbers[~held], numbers[held]


def episodes_of(end: np.ndarray) -> np.ndarray:
  """The number of its episode, from 0, for each row `[N]` as they were stored."""
  ended = end != GOES_ON
  return np.cumsum(ended) - ended


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
