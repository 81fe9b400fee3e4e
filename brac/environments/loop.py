"""Batches of environments written in Python, stepped one after another.

A suite says how one environment is made, reset and stepped; how they are seeded, saved, checked and
closed is the same for all suites and stands here.
"""

import contextlib
import copy
import dataclasses
import textwrap
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

import numpy as np
from absl import logging

from brac.environments import dict_observations
from brac.environments.batch import BatchEnvironment, copied, float32_inside
from brac.environments.generators import GlobalGenerators
from brac.errors import UserError, blaming, first_line

_SPACES = 'observation_space', 'action_space'


@dataclasses.dataclass
class _Episode:
  """How the episode under way came about: enough to do it again, and to know whether it is it."""

  seed: Optional[int]  # that was given to its reset, or else
  generators: Any  # those of the environment, before the reset
  global_states: Any
  actions: list[list[float]] = dataclasses.field(default_factory=list)
  checksum: int = 0  # of the observations since
  rewards: int = 0  # and of the rewards and ends

  def saw(self, observation: np.ndarray) -> None:
    self.checksum = zlib.crc32(np.ascontiguousarray(observation), self.checksum)

  def earned(self, reward: float, end: np.int8) -> None:
    self.rewards = zlib.crc32(np.array([reward, end], np.float64), self.rewards)

  def equals(self, other: '_Episode') -> bool:
    """Whether this one, which was done again, came out as the other had."""
    return (self.checksum, self.rewards) == (other.checksum, other.rewards)


class LoopBatch(BatchEnvironment):
  """A batch of environments in a Python loop.

  Their spaces are flat boxes, or to observe Dicts of boxes, which are concatenated. A suite's
  subclass says `_start` and `_advance`. Environments are taken for ones with `close`, `unwrapped`,
  and where they are wrappers `env`, and with spaces like gym's.
  """

  def __init__(
    self,
    env_name: str,
    seeds: Sequence[int],
    make: Callable[[], Any],
    max_episode_steps: Optional[int],
  ):
    """Takes a function that makes one environment, without a time limit that ends its episodes."""
    self._global = GlobalGenerators(int(np.random.SeedSequence(seeds).generate_state(1)[0]))
    self._envs = []
    # Also where the batch is forgotten, an error ends its use, or the program ends.
    self._finalizer = weakref.finalize(self, _close, env_name, self._envs, self._global)
    with blaming(f'{env_name} cannot be made here'):
      self._global.take()
      for _ in seeds:
        self._envs.append(make())
        _own_spaces(self._envs[-1])
    env = self._envs[0]
    observation_space = env.observation_space
    self._parts = dict_observations.find_parts(env_name, observation_space)
    if self._parts:
      observation_space = dict_observations.concatenated_space(self._parts)
    _check_boxes(env_name, observation_space, env.action_space)
    super().__init__(env_name, seeds, observation_space, env.action_space, max_episode_steps)
    self.observation_keys = {part.name: part.width for part in self._parts}
    takes_float32 = np.can_cast(np.float32, env.action_space.dtype)
    self._action_dtype = np.float32 if takes_float32 else env.action_space.dtype
    # A row's seed serves its first reset; its generators live on from there.
    self._seeds: list[Optional[int]] = list(seeds)
    # An EzPickle pickles how it was made and not how it is. To save such a row is to note the
    # random state before its reset and the actions since, to restore it is to do the same again.
    self._replays = any(kind.__name__ == 'EzPickle' for kind in type(env.unwrapped).__mro__)
    self._episodes: list[Optional[_Episode]] = [None] * self.n

  # What a suite says.

  def _start(self, env: Any, seed: Optional[int]) -> np.ndarray:
    """Resets an environment, with a seed where one is given; returns the observation."""
    raise NotImplementedError

  def _advance(self, env: Any, action: np.ndarray) -> tuple[np.ndarray, float, np.int8]:
    """Steps an environment; returns the observation, the reward, and how the episode goes on."""
    raise NotImplementedError

  def _rate(self, *names: str) -> Optional[float]:
    """The steps a second that the environment's metadata tell by one of these names, or None."""
    rate = 0.0
    with contextlib.suppress(Exception):  # third-party ones may be anything
      metadata = self._envs[0].metadata
      rate = float(next(filter(None, map(metadata.get, names))))
    return rate if 0 < rate < np.inf else None

  def _picture(self, env: Any) -> np.ndarray:
    """Draws an environment: `[H, W, 3]` uint8."""
    raise NotImplementedError('its suite has no pictures')

  # What every suite does alike.

  def picture(self, row, width, height):
    self._global.take()
    with blaming(f'{self.env_name} cannot be drawn'):
      picture = np.array(self._picture(self._envs[row]))
      if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f'it gave {picture.dtype} of shape {list(picture.shape)} for a picture')
      return picture

  def close(self):
    self._finalizer()

  def _reset(self, rows):
    self._global.take()
    with blaming(f'{self.env_name} cannot be reset'):
      return self._checked([self._reset_row(row) for row in rows])

  def _reset_row(self, row: int) -> np.ndarray:
    env, seed = self._envs[row], self._seeds[row]
    if self._replays:
      generators = copied(_generators(env)) if seed is None else None
      self._episodes[row] = _Episode(seed, generators, self._global.states)
    if seed is not None:
      _seed_spaces(env, seed)
      self._seeds[row] = None
    observation = self._concatenated(self._start(env, seed))
    if self._replays:
      self._episodes[row].saw(observation)
    return observation

  def _step(self, actions, rows):
    self._global.take()
    observations, rewards, ends = [], [], []
    with blaming(f'{self.env_name} cannot be stepped'):
      for row, action in zip(rows, actions.astype(self._action_dtype)):
        observation, reward, end = self._step_row(row, action)
        observations.append(observation)
        rewards.append(reward)
        ends.append(end)
      return self._checked(observations), _finite(rewards, 'a reward'), np.array(ends)

  def _step_row(self, row: int, action: np.ndarray) -> tuple[np.ndarray, float, np.int8]:
    if self._replays:
      self._episodes[row].actions.append(action.tolist())  # before a step that may change it
    observation, reward, end = self._advance(self._envs[row], action)
    observation, reward = self._concatenated(observation), float(reward)
    if self._replays:
      self._episodes[row].saw(observation)
      self._episodes[row].earned(reward, end)
    return observation, reward, end

  def _concatenated(self, observation: Any) -> np.ndarray:
    if self._parts:
      return dict_observations.concatenate(self._parts, observation)
    return np.array(observation)  # a copy: the other rows may be about to write into the same array

  def _checked(self, observations: Sequence[np.ndarray]) -> np.ndarray:
    stacked = np.stack(observations)
    if stacked.shape[1:] != self.observation_spec.shape:
      shapes = f'{list(stacked.shape[1:])}, not {list(self.observation_spec.shape)}'
      raise ValueError(f'it gave observations of shape {shapes}')
    return _finite(stacked, 'an observation')

  def _reseed(self, row, seed):
    self._seeds[row], self._episodes[row] = seed, None

  def _get_rows(self):
    rows = self._episodes if self._replays else self._envs
    return self._seeds, self._global.states, rows

  def _set_rows(self, rows):
    self._seeds, global_states, saved = rows
    self._global.take()
    lost = []
    if self._replays:
      lost = [row for row, episode in enumerate(saved) if episode and not self._redo(row, episode)]
    else:
      _close(self.env_name, self._envs, self._global)
      self._envs[:] = saved
      self._global.take()
    self._global.states = global_states
    return lost

  def _redo(self, row: int, episode: _Episode) -> bool:
    """Does an episode again, as far as it came; returns whether it came out the same."""
    self._seeds[row] = episode.seed
    self._global.states = episode.global_states
    try:
      if episode.seed is None:
        _set_generators(self._envs[row], episode.generators)
      self._reset_row(row)
      for action in episode.actions:
        self._step_row(row, np.array(action, self._action_dtype))
    except (Exception, SystemExit):  # as a generator of its own, which is not there yet, would do
      return False
    return self._episodes[row].equals(episode)


def layers(env: Any) -> Iterator[Any]:
  """An environment's wrappers, from the outermost to what they wrap."""
  yield env
  while env is not env.unwrapped:
    env = env.env
    yield env


def _own_spaces(env: Any) -> None:
  """Gives an environment spaces of its own, and so generators, where it shares them with others."""
  for name in _SPACES:
    with contextlib.suppress(AttributeError):  # it has none, or none that can be set
      setattr(env.unwrapped, name, copy.deepcopy(getattr(env.unwrapped, name)))


def _spaces(env: Any) -> list[Any]:
  """The spaces of an environment and its wrappers, each once; a reset may sample from them."""
  spaces = [getattr(layer, name, None) for layer in layers(env) for name in _SPACES]
  return list({id(space): space for space in spaces if space is not None}.values())


def _seed_spaces(env: Any, seed: int) -> None:
  for i, space in enumerate(_spaces(env)):
    space.seed(int(np.random.SeedSequence((seed, i)).generate_state(1)[0]))


def _drawing(env: Any) -> Iterator[tuple[Any, str]]:
  """All that draws in an environment, and the attribute in which it has its generator."""
  bases = [env.unwrapped]
  for base in bases:  # which grows by the environments in their attributes: the robot in a maze
    yield base, 'np_random'
    for value in getattr(base, '__dict__', {}).values():
      inner = getattr(value, 'unwrapped', None) if hasattr(value, 'step') else None
      if inner is not None and all(inner is not known for known in bases):
        bases.append(inner)
  spaces = _spaces(env)
  for space in spaces:  # which grows by those in Dicts and Tuples
    yield space, '_np_random'
    parts = getattr(space, 'spaces', ())
    spaces += parts.values() if hasattr(parts, 'values') else parts


def _generators(env: Any) -> list[Any]:
  return [getattr(owner, name, None) for owner, name in _drawing(env)]


def _set_generators(env: Any, generators: Any) -> None:
  for (owner, name), generator in zip(_drawing(env), generators):
    if generator is not None:
      setattr(owner, name, generator)


def _close(env_name: str, envs: list[Any], generators: GlobalGenerators) -> None:
  for env in envs:
    try:
      env.close()
    except (Exception, SystemExit) as error:
      logging.warning('%s cannot be closed: %s', env_name, first_line(error))
  envs.clear()
  generators.give_back()


def _finite(values: Sequence, what: str) -> np.ndarray:
  """The values as float32, in which datasets have them; raises where one is not finite there."""
  with np.errstate(over='ignore'):
    values = np.asarray(values).astype(np.float32)
  if not np.isfinite(values).all():
    raise ValueError(f'it gave {what} that is not finite')
  return values


def _check_boxes(env_name: str, observations: Any, actions: Any) -> None:
  if not _is_flat_box(observations):
    raise UserError(
      f'{env_name} observes a {_in_words(observations)}; needed is a flat Box, of one dimension, '
      'or a Dict of Boxes'
    )
  bounded = _is_flat_box(actions) and actions.dtype.kind == 'f' and actions.is_bounded()
  if bounded and actions.shape[0]:
    actions = float32_inside(actions)
  if not bounded or not actions.shape[0] or not (actions.low < actions.high).all():
    raise UserError(
      f'{env_name} acts in a {_in_words(actions)}; needed is a flat Box of floats with bounds, low '
      'below high'
    )


def _in_words(space: Any) -> str:
  return textwrap.shorten(str(space), 200)  # whose arrays may have several lines


def _is_flat_box(space: Any) -> bool:
  return type(space).__name__ == 'Box' and len(space.shape) == 1  # of whichever library
