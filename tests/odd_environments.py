"""Small gym environments of the kinds that people write; importing this registers them."""

import random
import threading

import gym
import numpy as np
from gym.envs.classic_control.pendulum import PendulumEnv
from gym.utils import EzPickle
from gym.wrappers import TimeLimit


class EzPendulum(PendulumEnv, EzPickle):
  """Pickles how it was made, as Box2D's and mujoco-py's environments do."""

  def __init__(self):
    PendulumEnv.__init__(self)
    EzPickle.__init__(self)


class OldPendulum(PendulumEnv):
  """Is seeded by `seed` alone, as environments were before gym 0.22."""

  def reset(self):
    return super().reset()

  def seed(self, seed=None):
    super().reset(seed=seed)
    return [seed]


class FreePendulum(PendulumEnv):
  """Sets no bounds to its actions."""

  def __init__(self):
    super().__init__()
    self.action_space = gym.spaces.Box(-np.inf, np.inf, [1], np.float32)


class FaultyPendulum(PendulumEnv):
  """Goes wrong in one of the ways in which a stranger's environment may."""

  def __init__(self, fault):
    if fault == 'exits':
      raise SystemExit('no licence')
    super().__init__()
    self.fault = fault
    bounds = {'no actions': ([], []), 'no room': ([1.0], [1.0])}.get(fault)
    if bounds:
      self.action_space = gym.spaces.Box(*map(np.float32, bounds))

  def reset(self, seed=None):
    observation = super().reset(seed=seed)
    if self.fault == 'reset':
      raise KeyError('pos')
    faulty = {'reset shape': observation[:2], 'reset nan': observation * np.nan}
    return faulty.get(self.fault, observation)

  def step(self, action):
    observation, reward, done, info = super().step(action)
    if self.fault == 'step':
      raise SystemExit
    if self.fault == 'nan':
      observation[1] = np.nan
    if self.fault == 'huge':
      observation = observation.astype(np.float64) * 1e300
    if self.fault == 'reward':
      reward = -np.inf
    if self.fault == 'shape':
      observation = observation[None]
    return (observation, reward, done, info)[: 3 if self.fault == 'three' else 4]


def short_pendulum():
  return TimeLimit(PendulumEnv(), 5)


gym.register('TestEzPendulum-v0', entry_point=EzPendulum, max_episode_steps=200)
gym.register('TestOldPendulum-v0', entry_point=OldPendulum)
gym.register('TestFreePendulum-v0', entry_point=FreePendulum)
gym.register('TestShortPendulum-v0', entry_point=short_pendulum)
FAULTS = {
  'exits': 'cannot be made here: SystemExit: no licence',
  'no actions': 'acts in a Box',
  'no room': 'acts in a Box',
  'reset': "cannot be reset: KeyError: 'pos'",
  'reset shape': 'cannot be reset: it gave observations of shape [2], not [3]',
  'reset nan': 'cannot be reset: it gave an observation that is not finite',
  'step': 'cannot be stepped: SystemExit',
  'three': 'cannot be stepped: not enough values to unpack',
  'shape': 'cannot be stepped: it gave observations of shape [1, 3], not [3]',
  'nan': 'cannot be stepped: it gave an observation that is not finite',
  'huge': 'cannot be stepped: it gave an observation that is not finite',
  'reward': 'cannot be stepped: it gave a reward that is not finite',
}
for number, name in enumerate(FAULTS):
  gym.register(f'TestFault{number}-v0', entry_point=FaultyPendulum, kwargs={'fault': name})


class Point(gym.Env):
  """x' = x + 0.1 a, observed with the time; reward -|x|."""

  def __init__(self, low=-1.0, high=1.0, dtype=np.float32):
    self.action_space = gym.spaces.Box(low, high, [1], dtype)
    self.observation_space = gym.spaces.Box(-10.0, 10.0, [2], np.float32)

  def reset(self, *, seed=None):
    super().reset(seed=seed)
    return self.begin(self.draw())

  def draw(self):
    return self.np_random.uniform(-1, 1)

  def begin(self, x):
    self.x, self.t = float(x), 0
    return self.observe()

  def observe(self):
    return np.array([self.x, self.t / 50], np.float32)

  def step(self, action):
    self.t += 1
    self.x += 0.1 * float(action[0])
    return self.observe(), -abs(self.x), False, {}


class Sampling(Point):
  """Draws its starts from its space."""

  def draw(self):
    return self.observation_space.sample()[0]


class SharedSpace(Sampling):
  """Has the space from its class, together with all others."""

  observation_space = gym.spaces.Box(-10.0, 10.0, [2], np.float32)

  def __init__(self):
    self.action_space = gym.spaces.Box(-1.0, 1.0, [1], np.float32)


class GlobalRandom(Point):
  """Draws from the process's own generators."""

  def draw(self):
    return np.random.normal() + random.random()

  def step(self, action):
    return super().step(action + np.float32(np.random.normal() + random.random()))


class Entropy(Point):
  """Draws what no seed reaches."""

  def draw(self):
    return np.random.default_rng().uniform(-1, 1)


class Unpicklable(Point):
  def __init__(self):
    super().__init__()
    self.distance = lambda x: abs(x)


class Forgetful(Point):
  """Its pickle is not what it was."""

  def __getstate__(self):
    return {**vars(self), 'x': 0.0}


class EzPoint(Point, EzPickle):
  def __init__(self):
    Point.__init__(self)
    EzPickle.__init__(self)


class EzScaling(EzPoint):
  """Changes the action that it is given."""

  def step(self, action):
    action *= 0.5
    return super().step(action)


class EzSampling(EzPoint, Sampling):
  pass


class EzOwnGenerator(EzPoint):
  """Has a generator of its own, which only a seed sets."""

  def reset(self, *, seed=None):
    if seed is not None:
      self.rng = np.random.default_rng(seed)
    return self.begin(self.rng.uniform(-1, 1))


class EzNoisy(EzOwnGenerator):
  """Draws from it in steps too, and has one from the start."""

  def __init__(self):
    super().__init__()
    self.rng = np.random.default_rng(0)

  def step(self, action):
    return super().step(action + self.rng.normal())


class Opens(Point):
  """Holds something until it is closed."""

  held = set()

  def __init__(self, fails=False):
    super().__init__()
    Opens.held.add(id(self))
    self.fails = fails

  def close(self):
    Opens.held.discard(id(self))
    if self.fails:
      raise RuntimeError('it is stuck')


class OpensThree(Opens):
  """There is room for no more."""

  def __init__(self):
    if len(Opens.held) >= 3:
      raise MemoryError('no more than three')
    super().__init__()


class Strict(Point):
  """Asserts that an action is in its space, and notes it."""

  noted = []

  def step(self, action):
    assert self.action_space.contains(action), f'{action!r} is not in {self.action_space}'
    Strict.noted.append(float(action[0]))
    return super().step(action)


class Strict64(Strict):
  """The edges of its box are no float32 numbers."""

  def __init__(self):
    super().__init__()
    self.action_space = gym.spaces.Box(-0.1, 0.3, [1], np.float64)


class Fragile(Point):
  """Fails in its 12th step."""

  def step(self, action):
    if self.t == 11:
      raise FloatingPointError('it has blown up\nand this is why')
    return super().step(action)


class Newer(Point):
  """Is written for gymnasium: terminal at x > 0.5, and cut by itself after 7 steps."""

  def reset(self, *, seed=None, options=None):
    return super().reset(seed=seed), {}

  def step(self, action):
    observation, reward, _, info = super().step(action)
    return observation, reward, self.x > 0.5, self.t >= 7, info


class Goal(Point):
  """Observes a Dict."""

  def __init__(self, achieved=1):
    super().__init__()
    spaces = {'desired': 3 - achieved, 'achieved': achieved}
    self.observation_space = gym.spaces.Dict(
      {name: gym.spaces.Box(-10.0, 10.0, [width], np.float32) for name, width in spaces.items()}
    )

  def observe(self):
    return {'achieved': np.float32([self.x]), 'desired': np.float32([0.0, self.t])}


class SharedBuffer(Point):
  """Writes its observations into an array of its class."""

  seen = np.zeros(2, np.float32)

  def observe(self):
    self.seen[:] = self.x, self.t / 50
    return self.seen


class SharedKwargs(Point):
  """Draws into what it was registered with."""

  def __init__(self, drawn):
    super().__init__()
    self.drawn = drawn

  def draw(self):
    self.drawn['gain'] = self.np_random.uniform(1, 10)
    return super().draw()

  def step(self, action):
    return super().step(action * self.drawn['gain'])


class ReadsLimit(Point):
  """Observes how much of its time is gone."""

  def observe(self):
    return np.array([self.x, self.t / self.spec.max_episode_steps], np.float32)


class AnyReset(Point):
  """Takes whatever a reset may be given, and draws from a generator of its own."""

  def reset(self, **kwargs):
    if kwargs.get('seed') is not None or not hasattr(self, 'rng'):
      self.rng = np.random.default_rng(kwargs.get('seed'))
    return self.begin(self.rng.uniform(-1, 1))


class OldAnyReset(AnyReset):
  """Likewise, and makes nothing of it: it is seeded by `seed`."""

  def reset(self, **kwargs):
    return self.begin(self.rng.uniform(-1, 1))

  def seed(self, seed=None):
    self.rng = np.random.default_rng(seed)
    return [seed]


class Numbers(Point):
  """Observes two numbers where others have an array."""

  def observe(self):
    return self.x, self.t / 50


class Pair(Numbers):
  """Observes a Tuple."""

  def __init__(self):
    super().__init__()
    self.observation_space = gym.spaces.Tuple([gym.spaces.Box(-10.0, 10.0, [1], np.float32)] * 2)

  def observe(self):
    return np.float32([self.x]), np.float32([self.t / 50])


class PairWithDict(Pair):
  """Observes a Tuple that looks like an observation with an info."""

  def __init__(self):
    super().__init__()
    first, second = self.observation_space.spaces
    self.observation_space = gym.spaces.Tuple([first, gym.spaces.Dict({'t': second})])

  def observe(self):
    x, t = super().observe()
    return x, {'t': t}


class OneThread(Point):
  """Is of use in the thread alone that it was made in, as a database's connection is."""

  def __init__(self):
    super().__init__()
    self.thread = threading.get_ident()

  def observe(self):
    assert threading.get_ident() == self.thread, 'it was made in another thread'
    return super().observe()


class EzCurriculum(EzPoint):
  """Gives more for a step from its third episode on."""

  n_episodes = 0

  def begin(self, x):
    self.n_episodes += 1
    return super().begin(x)

  def step(self, action):
    observation, reward, done, info = super().step(action)
    return observation, reward * (5 if self.n_episodes > 2 else 1), done, info


class OldWrapper(gym.Wrapper):
  """Hands no seed on."""

  def reset(self):
    return self.env.reset()


def old_wrapped():
  return OldWrapper(Point())


class EndsAtOne(Point):
  """Ends where x is above 0.6."""

  def step(self, action):
    observation, reward, _, info = super().step(action)
    return observation, reward, self.x > 0.6, info


def limited(*limits):
  """A function that makes an environment within gym's time limits."""

  def make():
    env = EndsAtOne()
    for limit in limits:
      env = TimeLimit(env, limit)
    return env

  return make


LIMITED = (Point, Sampling, SharedSpace, GlobalRandom, Entropy, Unpicklable, Forgetful, EzPoint)
LIMITED += (
  EzScaling,
  EzSampling,
  EzOwnGenerator,
  EzNoisy,
  Opens,
  OpensThree,
  Strict64,
  Fragile,
  Newer,
  Goal,
  SharedBuffer,
  ReadsLimit,
  AnyReset,
  OldAnyReset,
  Numbers,
  Pair,
  PairWithDict,
  EzCurriculum,
  OneThread,
)
for kind in LIMITED:
  gym.register(f'{kind.__name__}-v0', entry_point=kind, max_episode_steps=20)
given = {'drawn': {}}
gym.register('SharedKwargs-v0', entry_point=SharedKwargs, kwargs=given, max_episode_steps=20)
LIMITS = {'one': (7,), 'two': (7, 7), 'inner': (7, 9), 'outer': (9, 7), 'three': (7, 7, 7)}
for name, limits in LIMITS.items():
  gym.register(f'Limit_{name}-v0', entry_point=limited(*limits), max_episode_steps=7)
gym.register('Limit_own-v0', entry_point=limited(7, 7))
gym.register('OldWrapped-v0', entry_point=old_wrapped, max_episode_steps=20)
gym.register('Stuck-v0', entry_point=Opens, kwargs={'fails': True}, max_episode_steps=20)
gym.register('Strict-v0', entry_point=Strict, kwargs=dict(low=-0.1, high=0.7), max_episode_steps=20)
half = dict(low=-0.1, high=0.7, dtype=np.float16)
gym.register('Strict16-v0', entry_point=Strict, kwargs=half, max_episode_steps=20)
gym.register('OtherGoal-v0', entry_point=Goal, kwargs={'achieved': 2}, max_episode_steps=20)
gym.register('Endless-v0', entry_point=Point)
