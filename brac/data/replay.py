"""The ring of rows in TensorFlow variables that the agents draw their batches from."""

from typing import Optional

import numpy as np
import tensorflow as tf

from brac import checkpoints
from brac.data import stored
from brac.data.transitions import CUT_OFF, GOES_ON, Batch, Transitions, begins
from brac.errors import UserError
from brac.rng import Rng


class Dataset(tf.Module):
  """A ring of transitions, saved under the published keys and `_end`.

  Consecutive rows are consecutive steps of one episode, until `_end` says otherwise.

  Attributes:
    first_states: in which the episodes began that it was made with, `[n, S]`; none where the rows
      do not tell.
  """

  def __init__(
    self,
    rows: Transitions,
    size: Optional[int] = None,
    idx: Optional[int] = None,
    first_states: Optional[np.ndarray] = None,
  ):
    """Takes the rows that there is room for.

    Args:
      rows: the ring.
      size: how many of them, the first, hold data; all by default.
      idx: one past the row that was written last: the next one goes to row `idx % capacity`; `size`
        by default.
      first_states: in which the episodes begin, `[n, S]`; by default those of `rows`, in order.
    """
    super().__init__()
    self.first_states = rows.s1[begins(rows.end)] if first_states is None else first_states
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
    rows = stored.load(path, self._s1.shape[1], self._a1.shape[1])
    n, idx = len(rows.reward), int(checkpoints.Reader(path, 'dataset').read('data/_current_idx'))
    if n > int(self._capacity):
      raise UserError(
        f'dataset {path} has {n} transitions, there is room for {int(self._capacity)}'
      )
    if n < int(self._capacity):
      idx = n  # also a ring that was full goes on in a larger one behind its newest row
    else:
      rows = Transitions(*(np.roll(values, idx, axis=0) for values in rows))
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
    """`batch_size` transitions, drawn uniformly with replacement."""
    rows = rng.integers([batch_size], self._current_size)
    fields = (self._s1, self._a1, self._s2, self._a2, self._reward, self._discount)
    return Batch(*(tf.gather(field, rows) for field in fields))
