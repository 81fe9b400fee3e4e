"""The suite of all environments that gymnasium knows, and gymnasium-robotics.

They are the extra `brac[gymnasium]`, and take a second or two to import: nothing here does that
before somebody asks for what no other suite knows, or by `gymnasium:ID` for what they have.
"""

import contextlib
import copy
import functools
import importlib
import importlib.util
import io
from collections.abc import Sequence
from typing import Any

from absl import logging

from brac.environments.batch import GOES_ON, TERMINAL, TIME_LIMIT, BatchEnvironment
from brac.environments.gym_suite import takes, without_screen
from brac.environments.loop import LoopBatch
from brac.environments.mujoco_v2.picture import chosen_library
from brac.errors import UserError, blaming

PREFIX = 'gymnasium:'
# The first has the registry. What others put into it is looked at where that does not do.
_PACKAGES = ('gymnasium', 'gymnasium_robotics')


def how_to_get_more() -> str:
  """What an error says where an id may be one of packages that are not installed; else nothing."""
  missing = [name for name in _PACKAGES if not _is_installed(name)]
  if not missing:
    return ''
  return f' (pip install "brac[gymnasium]" adds those of {" and ".join(missing)})'


def ids() -> list[str]:
  """All ids that gymnasium knows by now; each also as it is asked of gymnasium alone."""
  if not _is_installed('gymnasium'):
    return []
  known = list(_registry(len(_PACKAGES)))
  return [*known, *(PREFIX + name for name in known)]


def knows(env_name: str) -> bool:
  """Whether gymnasium knows an id; `module:id` imports the module, which may register it.

  Raises:
    UserError: it is `gymnasium:ID`, and there is no gymnasium; or a module cannot be imported.
  """
  if not _is_installed('gymnasium'):
    if env_name.startswith(PREFIX):
      raise UserError(f'{env_name}: there is no gymnasium here; pip install "brac[gymnasium]"')
    return False
  module, name = _split(env_name)
  if module:
    with blaming(f'unknown environment {env_name!r}'):
      importlib.import_module(module)
  return any(name in _registry(n) for n in range(1, len(_PACKAGES) + 1))


def make(env_name: str, seeds: Sequence[int]) -> BatchEnvironment:
  """Makes a batch of an environment that is known, a seed for each row."""
  return GymnasiumBatch(env_name, seeds)


def _split(env_name: str) -> tuple[str, str]:
  """The module that is to be imported, where there is one, and the id in the registry."""
  module, _, name = env_name.removeprefix(PREFIX).rpartition(':')
  return module, name


def _is_installed(package: str) -> bool:
  return importlib.util.find_spec(package) is not None


def _registry(n_packages: int = 1) -> dict[str, Any]:
  """gymnasium's specs by their ids, once the first packages are imported."""
  for package in filter(_is_installed, _PACKAGES[:n_packages]):
    with (
      blaming(f'{package} cannot be imported'),
      contextlib.redirect_stderr(io.StringIO()) as said,
    ):
      importlib.import_module(package)
    for line in said.getvalue().splitlines():  # news of its makers
      logging.debug('%s: %s', package, line)
  return importlib.import_module('gymnasium').registry


class GymnasiumBatch(LoopBatch):
  """A batch of any gymnasium environment, in a Python loop."""

  def __init__(self, env_name: str, seeds: Sequence[int]):
    spec = copy.copy(_registry()[_split(env_name)[1]])
    limit = spec.max_episode_steps
    # Of gymnasium's own wrappers one counts the steps, which is done here, and two look for
    # mistakes in the calls, which are ours, and in the environment, which its author looks for.
    spec.max_episode_steps, spec.order_enforce, spec.disable_env_checker = None, False, True
    registration = importlib.import_module('gymnasium.envs.registration')

    @functools.cache
    def draws() -> bool:
      """Whether it may be told at once that pictures may be wanted; none is before one is."""
      creator = spec.entry_point
      creator = creator if callable(creator) else registration.load_env_creator(creator)
      with contextlib.suppress(Exception):  # third-party metadata may be anything
        if not takes(creator, 'render_mode'):
          return False
        if not hasattr(creator, 'metadata'):  # a function: what it makes has them
          with contextlib.closing(registration.make(spec)) as env:
            return 'rgb_array' in env.metadata['render_modes']
        return 'rgb_array' in creator.metadata['render_modes']
      return False

    def make_one():
      return registration.make(spec, **({'render_mode': 'rgb_array'} if draws() else {}))

    super().__init__(env_name, seeds, make_one, limit)
    self.steps_per_second = self._rate('render_fps')

  def _picture(self, env):
    with without_screen(), chosen_library():
      return env.render()

  def _start(self, env, seed):
    observation, _ = env.reset(seed=seed)
    return observation

  def _advance(self, env, action):
    observation, reward, terminal, late, _ = env.step(action)
    return observation, reward, TERMINAL if terminal else TIME_LIMIT if late else GOES_ON
