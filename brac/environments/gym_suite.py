"""The suite of all environments that gym 0.23 knows."""

import contextlib
import copy
import importlib
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

import gym
import numpy as np

from brac.environments.batch import GOES_ON, TERMINAL, TIME_LIMIT, BatchEnvironment
from brac.environments.loop import LoopBatch, layers
from brac.errors import blaming

# Packages that gym's environments need and gym does not install, by where the environments live.
_NEEDED_PACKAGES = {'gym.envs.mujoco': 'mujoco_py', 'gym.envs.box2d': 'Box2D'}


def ids() -> list[str]:
  """All ids that gym knows by now."""
  return list(gym.envs.registry.env_specs)


def knows(env_name: str) -> bool:
  """Whether gym knows an id; `module:id` imports the module, which may register it."""
  module, colon, _ = env_name.partition(':')
  if module == 'gymnasium':  # whose suite has all that is asked of it by that name
    return False
  if colon:  # gym imports it too, but says less where it fails
    with blaming(f'unknown environment {env_name!r}'):
      importlib.import_module(module)
  try:
    gym.spec(env_name)
  except gym.error.Error:
    return False
  return True


def make(env_name: str, seeds: Sequence[int], **changes) -> BatchEnvironment:
  """Makes a batch of an environment, a seed for each row; `changes` are of gym's spec of it."""
  spec = copy.copy(gym.spec(env_name))
  for name, value in changes.items():
    setattr(spec, name, value)
  return GymBatch(spec, seeds)


class GymBatch(LoopBatch):
  """A batch of any gym environment, in a Python loop."""

  def __init__(self, spec: gym.envs.registration.EnvSpec, seeds: Sequence[int]):
    spec, limit = copy.copy(spec), spec.max_episode_steps
    # gym's own TimeLimit would end an episode as a terminal state does, and what keeps the order of
    # calls, which is ours, knows of no step that tells the two apart.
    spec.max_episode_steps, spec.order_enforce = None, False

    def make():
      for module, package in _NEEDED_PACKAGES.items():
        if str(spec.entry_point).startswith(module):
          importlib.import_module(package)
      own = copy.copy(spec)
      own.kwargs = copy.deepcopy(spec.kwargs)  # what one environment does to them is its own
      env = own.make()
      env.unwrapped.spec.max_episode_steps = limit  # which an environment may read there
      _limit_once(env)
      return env

    super().__init__(spec.id, seeds, make, limit)
    self.steps_per_second = self._rate('render_fps', 'video.frames_per_second')

  def _picture(self, env):
    with without_screen(), _plain_torque(env.unwrapped):
      return env.render(mode='rgb_array')

  def _start(self, env, seed):
    given = _reset(env, seed)
    # One that is written for gymnasium gives its info dict too, and tells two ends apart below.
    has_info = isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict)
    return given[0] if has_info and not _is_tuple_with_dict(env.observation_space) else given

  def _advance(self, env, action):
    observation, reward, *ends, info = env.step(action)
    if len(ends) == 2:
      terminal, late = ends
    else:
      (done,) = ends
      # An environment that counts for itself says so as gym's wrapper does.
      late = done and info.get('TimeLimit.truncated', False)
      terminal = done and not late
    return observation, reward, TERMINAL if terminal else TIME_LIMIT if late else GOES_ON


def _limit_once(env: gym.Env) -> None:
  """Leaves one of several time limits of gym's: an outer one of as many steps hides that it is one.

  It takes the end that the inner one made for the environment's own, a terminal state.
  """
  limits = [layer for layer in layers(env) if isinstance(layer, gym.wrappers.TimeLimit)]
  limits = [limit for limit in limits if limit._max_episode_steps is not None]
  for limit in sorted(limits, key=lambda limit: limit._max_episode_steps)[1:]:
    limit._max_episode_steps = np.inf


def _is_tuple_with_dict(space: Any) -> bool:
  parts = getattr(space, 'spaces', ())
  return isinstance(parts, (tuple, list)) and len(parts) == 2 and type(parts[1]).__name__ == 'Dict'


@contextlib.contextmanager
def without_screen() -> Iterator[None]:
  """Has pygame, which gym's own environments draw with, need no screen where there is none."""
  chosen = {'SDL_AUDIODRIVER': 'dummy'}  # it opens the loudspeaker as well
  if not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
    chosen['SDL_VIDEODRIVER'] = 'dummy'
  chosen = {name: value for name, value in chosen.items() if name not in os.environ}
  os.environ.update(chosen)
  try:
    yield
  finally:
    for name in chosen:
      del os.environ[name]


@contextlib.contextmanager
def _plain_torque(env: gym.Env) -> Iterator[None]:
  """Has gym's pendulum draw its action from a float: pygame takes none of NumPy 2's float32."""
  torque = getattr(env, 'last_u', None)
  if not isinstance(torque, np.float32):
    yield
    return
  env.last_u = float(torque)
  try:
    yield
  finally:
    env.last_u = torque


def _reset(env: gym.Env, seed: Optional[int]) -> Any:
  if seed is None:
    return env.reset()
  base = env.unwrapped
  if not takes(base.reset, 'seed'):  # as before gym 0.22
    env.seed(seed)
    return env.reset()
  has_own = type(base).seed is not gym.Env.seed
  if has_own and 'seed' not in inspect.signature(base.reset).parameters:  # but **kwargs
    env.seed(seed)
  if all(takes(layer.reset, 'seed') for layer in layers(env) if layer is not base):
    return env.reset(seed=seed)
  base.reset(seed=seed)
  return env.reset()


def takes(function: Callable, name: str) -> bool:
  """Whether a function has a parameter of that name, or any."""
  parameters = inspect.signature(function).parameters.values()
  return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)
