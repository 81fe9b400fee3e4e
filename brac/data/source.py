"""What is read of other people's data, and how rows are made of it as `transitions` draws them.

A format's reader gives a `Source`; `make_rows` is the same for all of them. Both go through the
data in pieces of `PIECE` steps: what is held at a time is the rows, and one piece.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from brac.data.transitions import (
  CUT_OFF,
  GOES_ON,
  TERMINAL,
  TIME_LIMIT,
  UNKNOWN,
  Transitions,
  returns_of,
)
from brac.errors import UserError

PIECE = 65536  # steps
# Where a file of this project's own keeps what other formats have no place for.
NEXT_ACTIONS, ENDS, DISCOUNTS = 'infos/brac/next_actions', 'infos/brac/ends', 'infos/brac/discounts'
OBSERVATION_KEYS = 'infos/brac/observation_keys'  # a text


class Options(NamedTuple):
  """What a user says of a source that it does not say itself.

  Attributes:
    episode_ends: the name of an array that is true where an episode ends.
    max_episode_steps: after how many steps an episode ends.
    observation_keys: the parts of Dict observations, in the order in which they are concatenated.
  """

  episode_ends: Optional[str] = None
  max_episode_steps: Optional[int] = None
  observation_keys: Sequence[str] = ()


class Steps(NamedTuple):
  """k consecutive steps of a source.

  Attributes:
    s: what was observed before each step, `[k, S]` float32.
    a: the actions, `[k, A]` float32.
    reward: `[k]` float64.
    end: how the episode goes on after each, `[k]` int8, GOES_ON where it does.
    s_next: what was observed after each, `[k, S]` float32; None: only the next step's `s` tells.
    a_next: the action after each, `[k, A]` float32; None: only the next step's `a` tells.
    discount: `[k]` float32; None: 0 after terminal states.
  """

  s: np.ndarray
  a: np.ndarray
  reward: np.ndarray
  end: np.ndarray
  s_next: Optional[np.ndarray] = None
  a_next: Optional[np.ndarray] = None
  discount: Optional[np.ndarray] = None

  def __getitem__(self, rows):
    return Steps(*(None if values is None else values[rows] for values in self))


class StoredPolicy(NamedTuple):
  """The policy that collected a source.

  Attributes:
    arrays: its weights and words, by the names that they have there.
    s: some of the observations, `[k, S]`.
    a: the actions that it took at them, `[k, A]`.
    log_prob: what it gave as their log-density, `[k]`; None where the source does not tell.
  """

  arrays: dict[str, Any]
  s: np.ndarray
  a: np.ndarray
  log_prob: Optional[np.ndarray]


class Source(NamedTuple):
  """Data in another format.

  Attributes:
    n: how many steps it has.
    n_states: S.
    n_actions: A.
    env_name: the environment, where the source tells it.
    data_name: what the dataset is called.
    facts: what else it tells of itself, as it goes into JSON; `format`, `source` (what it is
      called) and `checksum`, by which an import knows it again, are always there.
    pieces: all of its steps, in order; to be gone through once.
    policy: the policy that collected it, where it holds that.
    notes: what a user ought to know of how it was read.
  """

  n: int
  n_states: int
  n_actions: int
  env_name: Optional[str]
  data_name: str
  facts: dict[str, Any]
  pieces: Iterator[Steps]
  policy: Optional['StoredPolicy'] = None
  notes: Sequence[str] = ()


class Count(NamedTuple):
  """How the rows came out of the steps.

  Attributes:
    steps: of the source.
    episodes: by how they ended.
    dropped: steps that are no row, by how their episode ended.
    made_up: rows whose a2 is their a1 again, in an episode that goes on.
    no_next: terminal rows whose s2 is their s1 again.
    returns: of the source's whole episodes, `[n]` float64.
    lengths: their steps, `[n]`.
  """

  steps: int
  episodes: dict[int, int]
  dropped: dict[int, int]
  made_up: int
  no_next: int
  returns: np.ndarray
  lengths: np.ndarray


def make_rows(source: Source, keep_last: bool = False) -> tuple[Transitions, Count]:
  """The rows of a source, by the drawing in `transitions`.

  Args:
    source: what is read; its pieces are used up.
    keep_last: whether the last step of an episode that a time limit or a cut ended is kept, where
      its s2 is known, with its own action again as a2.

  Raises:
    UserError: no row is left, or the source is damaged.
    MemoryError: there is no room for twice the rows.
  """
  rows = Transitions.zeros(source.n, source.n_states, source.n_actions)
  n = no_next = made_up = 0
  went_on = False  # whether the step before was one within an episode, and so the row before too
  dropped, ends, rewards = {TIME_LIMIT: 0, CUT_OFF: 0}, [], []
  for steps, s_after, a_after in _with_next(source.pieces):
    end, name = steps.end, source.facts['source']
    if not np.isin(end, range(UNKNOWN + 1)).all():
      raise UserError(f'{name}: its ends hold codes that are not in [{GOES_ON}, {UNKNOWN}]')
    if steps.discount is not None and ((steps.discount < 0) | (steps.discount > 1)).any():
      raise UserError(f'{name}: its discounts are not all in [0, 1]')
    within = (end == GOES_ON)[:, np.newaxis]
    terminal, late = end == TERMINAL, np.isin(end, (TIME_LIMIT, CUT_OFF))
    s2 = np.where(within, s_after, steps.s) if steps.s_next is None else steps.s_next
    a2 = np.where(within, a_after, steps.a) if steps.a_next is None else steps.a_next
    no_next += int(terminal.sum()) if steps.s_next is None else 0
    lost = late & (steps.s_next is None or (steps.a_next is None and not keep_last))
    made_up += int((late & ~lost).sum()) if steps.a_next is None else 0
    discount = ~terminal if steps.discount is None else steps.discount
    kept = ~lost
    last = n + np.count_nonzero(kept)
    for values, of_rows in zip((steps.s, steps.a, s2, a2, steps.reward, discount, end), rows):
      of_rows[n:last] = values[kept]
    # The row before a lost step of the same episode is its last one now.
    has_row = np.append(went_on, end[:-1] == GOES_ON)
    before = n + np.cumsum(kept) - 1
    rows.end[before[lost & has_row]] = end[lost & has_row]
    for code in dropped:
      dropped[code] += int(np.count_nonzero(lost & (end == code)))
    went_on, n = bool(end[-1] == GOES_ON), last
    ends.append(end.astype(np.int8))
    rewards.append(steps.reward)
  if not n:
    raise UserError(
      f'{source.facts["source"]}: no row is left of {source.n} steps: each is the last of its '
      'episode, and no terminal state follows; --keep_last keeps those whose next observation is '
      'known'
    )
  count = _count(np.concatenate(ends), np.concatenate(rewards), dropped, made_up, no_next)
  return Transitions(*(values[:n] for values in rows)), count


def _with_next(pieces: Iterator[Steps]) -> Iterator[tuple[Steps, np.ndarray, np.ndarray]]:
  """The steps in pieces, with the `s` and `a` of the step after each; anything after the last."""
  held = None
  for piece in pieces:
    if held is not None:
      piece = Steps(*(None if x is None else np.concatenate([x, y]) for x, y in zip(held, piece)))
    if len(piece.end) > 1:
      yield piece[:-1], piece.s[1:], piece.a[1:]
    held = piece[-1:]
  yield held, held.s, held.a


def _count(end, reward, dropped, made_up, no_next) -> Count:
  returns, lengths, codes = returns_of(end, reward)
  whole = np.isin(codes, (TERMINAL, TIME_LIMIT))
  n_by_code = {int(code): int(n) for code, n in zip(*np.unique(codes, return_counts=True))}
  return Count(len(end), n_by_code, dropped, made_up, no_next, returns[whole], lengths[whole])


# --- Checks of what is read -----------------------------------------------------------------------


def floats(values: np.ndarray, what: str, first: int = 0, dtype=np.float32) -> np.ndarray:
  """Numbers in a type of floats.

  Args:
    values: `[k, ...]`.
    what: names them in errors.
    first: the number of the first row.
    dtype: float32, or float64 for what must be finite as float32 all the same.

  Raises:
    UserError: one is not finite, or not in float32.
  """
  with np.errstate(over='ignore'):  # what becomes infinite is said below
    narrow = values.astype(np.float32, copy=False)
  bad = ~np.isfinite(narrow)
  if bad.any():
    k = tuple(np.argwhere(bad)[0])
    raise UserError(f'{what} holds {values[k]} in row {first + k[0]}, which is no float32 number')
  return narrow if dtype == np.float32 else values.astype(dtype)


def flags(values: np.ndarray, what: str) -> np.ndarray:
  """`[N]` booleans; raises UserError where they are neither that nor zeros and ones."""
  bad = ~np.isin(values, (0, 1))
  if bad.any():
    row = int(np.argmax(bad))
    raise UserError(f'{what} holds {values[row]} in row {row}; it tells what is true by 0 and 1')
  return values.astype(bool)


def check_array(array, what: str, kinds: str, n_dims: int, n: Optional[int] = None) -> None:
  """Checks that an array of a file is one of numbers, as it should be.

  Args:
    array: has a shape and a dtype.
    what: names it in errors.
    kinds: numpy's letters of the types that it may have.
    n_dims: 1 for one number a row (also as `[N, 1]`), 2 for several.
    n: how many rows it has; any by default.

  Raises:
    UserError: it is not.
  """
  if getattr(array, 'shape', None) is None or not hasattr(array, 'dtype'):  # h5py's Empty has None
    raise UserError(f'{what} is no array, but a {type(array).__name__} without numbers')
  shape = tuple(array.shape)
  if array.dtype.kind not in 'fiub':
    raise UserError(f'{what} holds no numbers (its type is {array.dtype})')
  if array.dtype.kind not in kinds:
    why = 'needed are floats or whole numbers'
    if what.endswith('actions'):
      why = 'discrete actions; the agents here take continuous ones'
    raise UserError(f'{what} is of type {array.dtype}: {why}')
  if n_dims == 2 and len(shape) > 2:
    raise UserError(f'{what} is of shape {list(shape)}: images or the like, not [N, numbers]')
  if n_dims == 2 and (len(shape) != 2 or not shape[1]):
    raise UserError(f'{what} is of shape {list(shape)}, not [N, numbers]')
  if n_dims == 1 and not (len(shape) == 1 or shape[1:] == (1,)):
    raise UserError(f'{what} is of shape {list(shape)}, not [N]')
  if n is not None and shape[0] != n:
    raise UserError(f'{what} has {shape[0]} rows where {n} are needed')
