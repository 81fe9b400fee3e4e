"""Small gymnasium environments of the kinds that people write; importing this registers them."""

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.utils import EzPickle


def box(*shape, low=-10.0, high=10.0, dtype=np.float32):
  return spaces.Box(low, high, shape, dtype)


class Point(gymnasium.Env):
  """x' = x + 0.1 a, observed with the time; reward -|x|; terminal at x > 0.5; cut at t = 7."""

  observation_space = box(2)
  action_space = box(1, low=-1.0, high=1.0)

  def __init__(self, **spaces_or_faults):
    vars(self).update(spaces_or_faults)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.x, self.t = self.draw(), 0
    return self.observe(), {}

  def draw(self):
    return self.np_random.uniform(-1, 1)

  def observe(self):
    return np.array([self.x, self.t], np.float32)

  def step(self, action):
    self.t += 1
    self.x += 0.1 * float(action[0])
    return self.observe(), -abs(self.x), self.x > 0.5, self.t >= 7, {}


class Slow(Point):
  """Never ends by itself."""

  def step(self, action):
    return *super().step(action)[:2], False, False, {}


class Goals(Slow):
  """Observes a Dict, in which there are others, of several types and shapes."""

  observation_space = spaces.Dict({
    'observation': box(2, dtype=np.float64),
    'desired': spaces.Dict({'where': box(1), 'which': spaces.MultiBinary(2)}),
    'achieved': spaces.Tuple([box(), box(2, 2, low=0, high=255, dtype=np.int16)]),
  })  # fmt: skip

  def observe(self):
    x, t = self.x, self.t
    return {
      'observation': np.array([x, t]),
      'desired': {'where': np.float32([x / 2]), 'which': np.int8([t % 2, 1])},
      'achieved': (np.float32(x / 3), np.arange(4, dtype=np.int16).reshape(2, 2) + t),
    }


class Robot(Goals, EzPickle):
  """Pickles how it was made; draws from the generator of what it keeps."""

  def __init__(self):
    EzPickle.__init__(self)
    self.arm = Slow()

  def reset(self, *, seed=None, options=None):
    self.arm.reset(seed=seed)
    return super().reset(seed=seed)

  def draw(self):
    return self.arm.x


class Old(Slow):
  """Knows of pictures, and not of gymnasium's way to ask for them."""

  metadata = {'render_modes': ['rgb_array'], 'render_fps': 'fast'}

  def __init__(self):
    super().__init__()


def made(**given):
  """An environment that a function makes, which has no metadata of its own."""
  return PendulumEnv(**given)


class Faulty(Point):
  """Does not observe what its space says."""

  def observe(self):
    return self.seen


def one(name, space):
  return spaces.Dict({'a': box(1), name: space})


FAULTS = {
  'discrete': ({'action_space': spaces.Discrete(3)}, 'acts in a Discrete(3); needed is a flat Box'),
  'several': ({'action_space': box(2, 2)}, 'acts in a Box'),
  'whole': ({'action_space': box(2, dtype=np.int32)}, 'acts in a Box'),
  'a Dict of them': ({'action_space': one('b', box(1))}, "acts in a Dict('a': Box"),
  'no bound': ({'action_space': box(1, low=-np.inf)}, 'acts in a Box(-inf'),
  'one bound': (
    {'action_space': spaces.Box(np.float32([-1, -1]), np.float32([1, np.inf]))},
    'needed is a flat Box of floats with bounds',
  ),
  'many bounds': (
    {'action_space': spaces.Box(np.linspace(-9, -8, 99), np.full(99, np.inf))},
    'needed is a flat Box of floats with bounds',
  ),
  'an image': ({'observation_space': box(8, 8, 3, low=0, high=255, dtype=np.uint8)}, 'observes a'),
  'a number': ({'observation_space': spaces.Discrete(7)}, 'observes a Discrete(7)'),
  'text': ({'observation_space': spaces.Text(7)}, 'observes a Text'),
  'an image in a Dict': (
    {'observation_space': one('eye', box(8, 8, low=0, high=255, dtype=np.uint8))},
    'observes images of shape [8, 8] as eye, which these agents do not take',
  ),
  'a number in a Dict': (
    {'observation_space': one('in', spaces.Dict({'which': spaces.Discrete(2)}))},
    'observes a Discrete as in/which; needed is a Box, or a Dict of such',
  ),
  'a part is missing': (
    {'observation_space': one('b', box(1)), 'seen': {'a': np.zeros(1)}},
    "cannot be reset: KeyError: 'b'",
  ),
  'another shape': (
    {'observation_space': one('b', box(2)), 'seen': {'a': np.zeros(1), 'b': np.zeros(3)}},
    'cannot be reset: it gave a b of shape [3], not [2]',
  ),
  'nan': (
    {'observation_space': one('b', box(1)), 'seen': {'a': np.zeros(1), 'b': np.full(1, np.nan)}},
    'cannot be reset: it gave an observation that is not finite',
  ),
  'as before gym 0.26': (
    {'reset': lambda **_: np.zeros(2)},
    'cannot be reset: it gave observations of shape [], not [2]',
  ),
  'unknown argument': ({'reset': lambda: 0}, 'cannot be reset: TypeError'),
}
for number, (given, _) in enumerate(FAULTS.values()):
  gymnasium.register(f'OddFault{number}-v0', entry_point=Faulty, kwargs=given)
for kind in (Slow, Goals, Robot, Old):
  gymnasium.register(f'Odd{kind.__name__}-v0', entry_point=kind, max_episode_steps=20)
gymnasium.register('OddMade-v0', entry_point=made, max_episode_steps=20)
gymnasium.register('OddPoint-v0', entry_point=Point, max_episode_steps=20)
gymnasium.register('lab/OddPoint-v0', entry_point=Point, max_episode_steps=20)
