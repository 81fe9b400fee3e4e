"""All that `import brac` changes in other packages, each when it is first imported.

- gym: it does not say at its import that nobody maintains it; `gym.make` of the four -v2 tasks
  gives ours, which need no mujoco-py; its random generators can be pickled.
- TF-Agents: `suite_gym.load` of those tasks keeps discount 1 at the time limit.
- TensorFlow: what 2.20 links, LLVM among it, is not for other libraries, as up to 2.18. Mesa, which
  draws where there is no graphics card, would call TensorFlow's LLVM for its own, and crash.
- PyOpenGL: it does not log that it goes without its accelerator, which it would in every program
  where MUJOCO_GL is set.
"""

import copyreg
import importlib.abc
import importlib.util
import logging
import sys
from types import ModuleType
from typing import Any, Callable

from gym_notices import notices

_MODULE = 'brac.environments.mujoco_v2.env'
_SHARES_SYMBOLS = 'tensorflow.python.pywrap_dlopen_global_flags'
_TASKS = ('HalfCheetah-v2', 'Hopper-v2', 'Walker2d-v2', 'Ant-v2')


def install() -> None:
  """Patches what is imported already, and the rest when it will be."""
  notices.notices.clear()
  logging.getLogger('OpenGL.acceleratesupport').setLevel(logging.WARNING)
  sys.modules.setdefault(_SHARES_SYMBOLS, None)  # importing it fails then, which is allowed for
  for name, patch in (
    ('gym', _patch_gym),
    ('tf_agents.environments.gym_wrapper', _patch_gym_wrapper),
  ):
    if name in sys.modules:
      patch(sys.modules[name])
    else:
      sys.meta_path.insert(0, _AfterImport(name, patch))


def tensorflow_shares_symbols() -> bool:
  """Whether TensorFlow was imported before this, and so links as it likes."""
  return sys.modules.get(_SHARES_SYMBOLS) is not None


class _AfterImport(importlib.abc.MetaPathFinder):
  """Calls a function with a module once that is imported."""

  def __init__(self, name: str, then: Callable[[ModuleType], None]):
    self._name, self._then, self._asks = name, then, False

  def find_spec(self, name, path, target=None):
    if name != self._name or self._asks:
      return None
    self._asks = True  # the others, who find it
    try:
      spec = importlib.util.find_spec(name)
    finally:
      self._asks = False
    if spec is not None:
      execute = spec.loader.exec_module

      def exec_module(module):
        execute(module)
        self._then(module)
        sys.meta_path.remove(self)  # not before: who asks for a spec need not import it

      spec.loader.exec_module = exec_module
    return spec


def _patch_gym(gym: ModuleType) -> None:
  for name in _TASKS:
    spec = gym.spec(name)
    spec.entry_point, spec.kwargs = f'{_MODULE}:MujocoEnv', {'task': name}
  # gym 0.23's own way to pickle its generator fails with numpy from 1.24 on.
  copyreg.pickle(
    gym.utils.seeding.RandomNumberGenerator,
    lambda rng: (restore_generator, (rng.bit_generator.state,)),
  )


def restore_generator(state: dict) -> Any:
  """gym's random generator in a state."""
  from gym.utils import seeding

  rng, _ = seeding.np_random(0)
  rng.bit_generator.state = state
  return rng


def _patch_gym_wrapper(gym_wrapper: ModuleType) -> None:
  """Makes a `GymWrapper` of one of our tasks keep its discount at the time limit.

  `gym.make` and `suite_gym.load` call the same `spec.make()`, so both get gym's TimeLimit, whose
  `done` TF-Agents takes for a terminal state. The info dict tells the two apart. All other
  environments stay as TF-Agents has them.
  """
  plain_step = gym_wrapper.GymWrapper._step

  def step(self, action):
    time_step = plain_step(self, action)
    ours = type(getattr(self.gym, 'unwrapped', None)).__module__ == _MODULE
    if ours and self.get_info().get('TimeLimit.truncated', False):
      return gym_wrapper.ts.truncation(time_step.observation, time_step.reward, self._discount)
    return time_step

  gym_wrapper.GymWrapper._step = step
