"""Dict observations, concatenated into one array of numbers.

As the import of Minari's datasets concatenates them: part by part, in the order of the space, which
is that of gymnasium's `flatten`, or in one that the user chooses. Other libraries have other orders
of the same width: d3rlpy puts `observation` first.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import gin
import gym
import numpy as np

from brac.errors import UserError


class Part(NamedTuple):
  """An array in a Dict observation.

  Attributes:
    name: for people: `desired_goal`; of one in another Dict `outer/inner`, in a Tuple
      `outer/_index_0`.
    keys: what leads to it.
    space: what it is of.
  """

  name: str
  keys: tuple[Hashable, ...]
  space: Any

  @property
  def width(self) -> int:
    return int(np.prod(self.space.shape))


@gin.configurable
def dict_observations(keys: Sequence[str] = ()) -> Sequence[str]:
  """In which order the parts of Dict observations are concatenated.

  Args:
    keys: the names of all parts, such as ('observation', 'desired_goal', 'achieved_goal'), of one
      within another Dict `outer/inner`; by default they are in the order of the space, that of
      gymnasium's `flatten`.
  """
  return keys


def find_parts(env_name: str, space: Any) -> list[Part]:
  """The parts of a space's observations in the order in which they are concatenated.

  Args:
    env_name: names the environment in errors.
    space: one of gym's or gymnasium's.

  Returns:
    The parts; none of a space that is no Dict or Tuple.

  Raises:
    UserError: a part is not of numbers, or the order that gin binds is not one of the parts.
  """
  parts = list(_leaves(env_name, space, '', ()))
  # Checked out here because gin adds lines of its own to an error that leaves a configurable.
  order = dict_observations() if parts else ()
  if not order:
    return parts
  known = {part.name: part for part in parts}
  if not isinstance(order, (list, tuple)) or sorted(map(str, order)) != sorted(known):
    raise UserError(
      f'dict_observations.keys is {order!r}; the observations of {env_name} are of '
      f'{", ".join(known)}, each of which is to be named once'
    )
  return [known[name] for name in order]


def _leaves(env_name: str, space: Any, name: str, keys: tuple[Hashable, ...]) -> Iterator[Part]:
  kind = type(space).__name__  # of whichever library
  if kind in ('Dict', 'Tuple'):
    items = space.spaces
    named = items.items() if kind == 'Dict' else ((f'_index_{i}', x) for i, x in enumerate(items))
    for i, (key, subspace) in enumerate(named):
      step = key if kind == 'Dict' else i
      yield from _leaves(env_name, subspace, f'{name}/{key}'.lstrip('/'), (*keys, step))
  elif keys:
    if kind not in ('Box', 'MultiBinary'):
      raise UserError(f'{env_name} observes a {kind} as {name}; needed is a Box, or a Dict of such')
    if space.dtype == np.uint8 and len(space.shape) > 1:
      raise UserError(
        f'{env_name} observes images of shape {list(space.shape)} as {name}, which these agents do '
        'not take'
      )
    yield Part(name, keys, space)


def concatenated_space(parts: Sequence[Part]) -> gym.spaces.Box:
  """The space of concatenated observations."""
  dtype = np.result_type(*(part.space.dtype for part in parts))
  low, high = (
    np.concatenate([
      np.broadcast_to(getattr(part.space, edge, default), part.space.shape).ravel()
      for part in parts
    ]).astype(dtype)
    for edge, default in (('low', 0), ('high', 1))  # MultiBinary has neither
  )  # fmt: skip
  return gym.spaces.Box(low, high, dtype=dtype.type)


def concatenate(parts: Sequence[Part], observation: Any) -> np.ndarray:
  """A concatenated observation; raises KeyError or ValueError where one does not have the parts."""
  arrays = []
  for part in parts:
    array = observation
    for key in part.keys:
      array = array[key]
    if np.shape(array) != part.space.shape:
      raise ValueError(
        f'it gave a {part.name} of shape {list(np.shape(array))}, not {list(part.space.shape)}'
      )
    arrays.append(np.ravel(array))
  return np.concatenate(arrays)
