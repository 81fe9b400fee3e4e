"""What a batch of environments is: `n` copies of one, stepped side by side."""

import copy
import io
import pickle
from collections.abc import Sequence
from typing import Any, Optional

import gym
import numpy as np
import tensorflow as tf

from brac.errors import UserError, first_line
from brac.tf_agents_bridge import BoundedTensorSpec

# How an episode goes on after a step. A time limit says nothing about the state it was reached in,
# so only TERMINAL may cut a bootstrap.
GOES_ON, TERMINAL, TIME_LIMIT = np.arange(3, dtype=np.int8)


class BatchEnvironment:
  """`n` copies of one environment, stepped side by side. Made by `make_batch`.

  Nothing resets itself: a row whose episode has ended waits for `reset`. As a context manager it
  closes itself.

  Attributes:
    env_name: their id.
    n: how many there are.
    observation_spec: of one observation, `[S]` float32.
    observation_keys: the parts of Dict observations, in the order in which they are concatenated,
      and how many numbers each has; {} of others.
    observation_dtype: the type of the numbers that the environment itself observes.
    action_spec: of one action, `[A]` float32, with a minimum and a maximum for each number, which
      the environment's own bounds contain.
    max_episode_steps: after how many steps an episode ends by the time limit, or None.
    steps_per_second: how many steps a second of the environment's own time has, or None.
    saves: whether `state` is to hold the environments; `try_out` says whether it can.
    unsaved: why it did not when it was asked for last, or nothing.
    cut: the rows whose episodes could not be taken up when `state` was set; they wait for `reset`.
    why_cut: why they could not.
  """

  def __init__(
    self,
    env_name: str,
    seeds: Sequence[int],
    observation_space: gym.spaces.Box,
    action_space: gym.spaces.Box,
    max_episode_steps: Optional[int],
  ):
    self.n = len(seeds)
    self.observation_spec = _spec(observation_space, 'observation')
    self.observation_keys: dict[str, int] = {}
    self.observation_dtype = observation_space.dtype
    self.action_spec = _spec(float32_inside(action_space), 'action')
    self.max_episode_steps = max_episode_steps
    self.steps_per_second: Optional[float] = None
    self.saves, self.unsaved = True, ''
    self.cut, self.why_cut = np.zeros(0, np.int64), ''
    self.env_name = env_name
    self._first_seeds = list(seeds)
    self._action_shape = action_space.shape
    self._counts = np.zeros([2, self.n], np.int64)
    self._elapsed, self._n_resets = self._counts

  def reset(self, rows: Optional[np.ndarray] = None) -> np.ndarray:
    """Starts new episodes.

    Args:
      rows: indices of the environments, `[k]`, or a mask `[n]`; all of them by default.

    Returns:
      Their first observations, `[k, S]` float32.

    Raises:
      UserError: an environment went wrong.
    """
    rows = self._indices(rows)
    if not rows.size:
      return np.zeros([0, *self.observation_spec.shape], np.float32)
    self._elapsed[rows] = 0
    self._n_resets[rows] += 1
    return self._reset(rows).astype(np.float32)

  def step(
    self, actions: np.ndarray, rows: Optional[np.ndarray] = None
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Takes one step.

    Args:
      actions: `[k, A]`, one for each of the rows.
      rows: indices of the environments, `[k]`, none twice, or a mask `[n]`; all by default.

    Returns:
      Observations `[k, S]` float32, rewards `[k]` float32, and how the episodes go on, `[k]` int8:
      TERMINAL in a terminal state (at the time limit too), else TIME_LIMIT at it, else GOES_ON.

    Raises:
      UserError: an environment went wrong.
      ValueError: the actions' shape is another one.
    """
    rows = self._indices(rows)
    # C order, because the order in which a row's float32 squares are added depends on it.
    actions = np.asarray(actions, order='C')
    if actions.shape != (len(rows), *self._action_shape):
      raise ValueError(f'actions {actions.shape} for {len(rows)} rows of {self._action_shape}')
    if not rows.size:
      return self.reset(rows), np.zeros(0, np.float32), np.zeros(0, np.int8)
    self._elapsed[rows] += 1
    late = self._elapsed[rows] >= (self.max_episode_steps or np.inf)
    observations, rewards, ends = self._step(actions, rows)
    ends[late & (ends == GOES_ON)] = TIME_LIMIT
    return observations.astype(np.float32), rewards.astype(np.float32), ends

  def picture(self, row: int, width: int, height: int) -> np.ndarray:
    """A picture `[H, W, 3]` uint8 of the present state of a row, which drawing does not change.

    Args:
      row: index of the environment.
      width: in pixels; an environment that draws in a size of its own does so.
      height: likewise.

    Raises:
      UserError: it draws none, or nothing here can.
    """
    raise UserError(f'{self.env_name} draws no pictures')

  def close(self) -> None:
    """Frees what the environments hold; nothing else may be asked of the batch from then on."""

  def __enter__(self) -> 'BatchEnvironment':
    return self

  def __exit__(self, *_) -> None:
    self.close()

  @property
  def state(self) -> bytes:
    """Everything that a later step depends on.

    A batch made by the same call and given these bytes goes on with the same bits. They are a
    pickle: load none from a source that you do not trust. Episodes that cannot be taken up, because
    their environment cannot be pickled, or comes out otherwise when they are done again, or is of
    another version of its code, are `cut`: their rows wait for a reset, after which they draw other
    numbers than ever before.

    Raises:
      UserError: (when set) the state is of another batch.
    """
    rows, self.unsaved = b'', '' if self.saves else 'it cannot be saved'
    if self.saves:
      try:
        once = _pickled(self._get_rows())
        # A pickle also tells which equal parts are one object. Loading settles that, so that a
        # batch that was restored and one that never stopped give the same bytes.
        rows = _pickled(pickle.loads(once))
      except Exception as error:  # a third-party environment may raise anything
        self.unsaved = first_line(error)
    return pickle.dumps((self._identity(), self._counts, rows, self.unsaved))

  @state.setter
  def state(self, value: bytes) -> None:
    lost = range(self.n)
    try:
      identity, counts, rows, self.why_cut = pickle.loads(value)
      if identity != self._identity():
        raise UserError(f'the saved environments are {identity}, these are {self._identity()}')
      self._counts[:] = counts
      if rows:
        lost = self._set_rows(pickle.loads(rows))
        self.why_cut = 'done again, they come out otherwise' if lost else ''
    except UserError:
      raise
    except Exception as error:
      self.why_cut = first_line(error)
    self.cut = np.array(lost, np.int64)
    for row in self.cut:
      seed = self._first_seeds[row], int(self._n_resets[row]), 1
      self._reseed(row, int(np.random.SeedSequence(seed).generate_state(1)[0]))

  def _indices(self, rows: Optional[np.ndarray]) -> np.ndarray:
    return np.arange(self.n)[slice(None) if rows is None else rows]

  def _identity(self) -> str:
    return f'{self.n} x {self.env_name} ({type(self).__name__})'

  # What a suite says.

  def _reset(self, rows: Sequence[int]) -> np.ndarray:
    raise NotImplementedError

  def _step(
    self, actions: np.ndarray, rows: Sequence[int]
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `step`, but in any precision, and without the time limit that is counted there."""
    raise NotImplementedError

  def _reseed(self, row: int, seed: int) -> None:
    """Makes a row draw from another seed from its next reset on."""
    raise NotImplementedError

  def _get_rows(self) -> Any:
    """What `_set_rows` takes, to be pickled."""
    raise NotImplementedError

  def _set_rows(self, rows: Any) -> Sequence[int]:
    """Puts the environments into a state; returns the rows for which that failed."""
    raise NotImplementedError


class _Pickler(pickle.Pickler):
  """A pickler that tells numpy's own dtypes and random generators by what they are.

  Dtypes are one object each, but not where numpy's way has loaded them; an environment that was
  restored has arrays of both kinds after a step. Generators of NumPy 2 do not load in 1.26.
  """

  def reducer_override(self, value):
    if isinstance(value, np.dtype) and value.isbuiltin == 1:
      return np.dtype, (value.str,)
    if type(value) is np.ndarray and value.dtype.isbuiltin == 1 and not value.dtype.hasobject:
      order = 'F' if value.flags.fnc else 'C'
      return _array, (value.dtype.str, value.shape, order, value.tobytes(order))
    if isinstance(value, np.random.BitGenerator) and type(value).__name__ in np.random.__all__:
      seeds = getattr(value.seed_seq, 'state', None)
      # In bytes of its own: a string that stands here and in the environment is written once where
      # it is one object in both, which after a restore it need not be.
      return _bit_generator, (_pickled((type(value).__name__, seeds, value.state)),)
    if type(value) is np.random.Generator:
      return np.random.Generator, (value.bit_generator,)
    return NotImplemented


def _array(dtype: str, shape: tuple[int, ...], order: str, content: bytes) -> np.ndarray:
  return np.ndarray(shape, dtype, content, order=order).copy(order)  # which owns what it has


def _bit_generator(pickled: bytes) -> np.random.BitGenerator:
  name, seeds, state = pickle.loads(pickled)
  # The children that `spawn` makes depend on the seeds. Without any a constructor takes some of the
  # machine's, other ones each time.
  made = getattr(np.random, name)(np.random.SeedSequence(**(seeds or dict(entropy=0))))
  made.state = state
  return made


def _pickled(value: Any) -> bytes:
  file = io.BytesIO()
  _Pickler(file).dump(value)
  return file.getvalue()


def copied(value: Any) -> Any:
  """A deep copy. Random generators keep their seeds in it, which NumPy 1.26 gives them anew."""
  try:
    return pickle.loads(_pickled(value))
  except Exception:  # a third-party class may be copied, and not pickled
    return copy.deepcopy(value)


def _spec(space: gym.spaces.Box, name: str) -> BoundedTensorSpec:
  return BoundedTensorSpec(space.shape, tf.float32, space.low, space.high, name)


def float32_inside(space: gym.spaces.Box) -> gym.spaces.Box:
  """The largest box of float32 numbers in a box; the edge of a float64 one need not be one."""
  low, high = space.low.astype(np.float32), space.high.astype(np.float32)
  low = np.where(low < space.low, np.nextafter(low, np.float32(np.inf)), low)
  high = np.where(high > space.high, np.nextafter(high, np.float32(-np.inf)), high)
  return gym.spaces.Box(low, high, dtype=np.float32)


def row_seeds(seed: int, n: int) -> list[int]:
  """The seed of each environment of a batch, as `gym.Env.reset` takes it."""
  if seed < 0:
    raise UserError(f'seed must be 0 or more, not {seed}')
  return [int(np.random.SeedSequence((seed, row)).generate_state(1)[0]) for row in range(n)]
