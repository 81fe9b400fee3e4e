"""The four tasks against recordings of the real ones, and what holds for every batch."""

import copy
import importlib.util
import os
import pickle
import sys
import types

import gin
import gym
import mujoco
import numpy as np
import pytest
from gym.envs.classic_control.pendulum import PendulumEnv
from gym.utils import EzPickle
from gym.wrappers import TimeLimit
from tf_agents.environments import suite_gym
from tf_agents.trajectories import time_step as ts

from brac import collection, environments
from brac.environments import GOES_ON, TERMINAL, TIME_LIMIT, make_batch, row_seeds
from brac.errors import UserError

pytestmark = pytest.mark.filterwarnings('ignore:.*out of date')

TASKS = ('HalfCheetah-v2', 'Hopper-v2', 'Walker2d-v2', 'Ant-v2')
_HERE = os.path.dirname(os.path.abspath(__file__))
_SHARED = os.path.join(_HERE, '..', '..', 'shared', 'data', 'gym_v2_reference.npz')
_FIELDS = ('actions', 'qpos', 'qvel', 'qacc_warmstart', 'observations', 'rewards', 'dones')
# Six steps of each task out of the recordings, around the first terminal state.
_STEPS = np.load(os.path.join(_HERE, 'data', 'gym_v2_steps.npz'))


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

ANY = (*TASKS, 'Pendulum-v1', 'TestEzPendulum-v0')


@pytest.fixture
def bind():
  yield lambda binding: gin.parse_config(binding)
  gin.clear_config()


@pytest.fixture(scope='module')
def recordings():
  if not os.path.exists(_SHARED):
    pytest.skip(f'no recordings at {_SHARED}')
  return np.load(_SHARED)


def random_actions(batch, n_steps, seed=0):
  """Actions `[n_steps, n, A]`, drawn evenly."""
  spec = batch.action_spec
  shape = [n_steps, batch.n, *spec.shape]
  return np.random.default_rng(seed).uniform(spec.minimum, spec.maximum, shape).astype(np.float32)


def roll(batch, actions):
  """Steps and resets what ends; returns all observations, rewards and ends as bytes."""
  seen = []
  for step_actions in actions:
    observations, rewards, ends = batch.step(step_actions)
    over = np.flatnonzero(ends != GOES_ON)
    seen += [observations.copy(), rewards, ends, batch.reset(over)]
  return b''.join(values.tobytes() for values in seen)


def single_env(name):
  return gym.make(name).unwrapped


def one_step_errors(env, recorded):
  """Errors `[n_steps]` of observations and of rewards, and where `done` differs."""
  observation_errors, reward_errors, wrong_dones = [], [], []
  for t, action in enumerate(recorded['actions']):
    for field in ('qpos', 'qvel', 'qacc_warmstart'):
      getattr(env.data, field)[:] = recorded[field][t]
    observation, reward, done, _ = env.step(action)
    observation_errors.append(np.abs(observation - recorded['observations'][t + 1]).max())
    reward_errors.append(abs(reward - recorded['rewards'][t]))
    wrong_dones.append(done != recorded['dones'][t])
  return np.array(observation_errors), np.array(reward_errors), np.array(wrong_dones)


# --- Physics ------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', TASKS)
def test_steps_are_those_of_mujoco_py(name):
  env = single_env(name)
  np.testing.assert_array_equal(env.reset(seed=0), _STEPS[f'{name}/first_observation'])
  np.testing.assert_allclose(env.data.qacc_warmstart, _STEPS[f'{name}/first_warmstart'], rtol=1e-9)
  recorded = {field: _STEPS[f'{name}/{field}'] for field in _FIELDS}
  observation_errors, reward_errors, wrong_dones = one_step_errors(env, recorded)
  assert observation_errors.max() < 1e-11
  # Ant's first reward reads a position that the step before the excerpt left behind.
  assert reward_errors[1:].max() < 1e-11
  assert not wrong_dones.any()
  assert recorded['dones'].any() == (name != 'HalfCheetah-v2')


@pytest.mark.parametrize('seed', (0, 1))
@pytest.mark.parametrize('name', TASKS)
def test_every_recorded_step(recordings, name, seed):
  env = single_env(name)
  recorded = {field: recordings[f'{name}/{seed}/{field}'] for field in _FIELDS}
  np.testing.assert_array_equal(env.reset(seed=seed), recorded['observations'][0])
  observation_errors, reward_errors, wrong_dones = one_step_errors(env, recorded)
  assert observation_errors.max() < 1e-11
  assert reward_errors.max() < 1e-11
  assert not wrong_dones.any()


# How many steps of an open-loop replay stay close; HalfCheetah and Ant are chaotic.
@pytest.mark.parametrize(
  'name, seed, n_steps',
  [
    ('HalfCheetah-v2', 0, 40),
    ('HalfCheetah-v2', 1, 200),
    ('Hopper-v2', 0, 200),
    ('Hopper-v2', 1, 200),
    ('Walker2d-v2', 0, 200),
    ('Walker2d-v2', 1, 200),
    ('Ant-v2', 0, 40),
    ('Ant-v2', 1, 80),
  ],
)
def test_replay_of_a_recorded_episode(recordings, name, seed, n_steps):
  env = single_env(name)
  env.reset(seed=seed)
  for t, action in enumerate(recordings[f'{name}/{seed}/actions'][:n_steps]):
    observation, reward, _, _ = env.step(action)
    recorded = recordings[f'{name}/{seed}/observations'][t + 1]
    np.testing.assert_allclose(observation, recorded, rtol=0, atol=1e-7)
    assert abs(reward - recordings[f'{name}/{seed}/rewards'][t]) < 1e-7


def test_control_cost_is_summed_in_the_precision_of_the_actions():
  env = single_env('Ant-v2')
  env.reset(seed=0)
  action = np.random.default_rng(0).uniform(-1, 1, 8)
  costs = [env.step(action.astype(dtype))[3]['reward_ctrl'] for dtype in (np.float32, np.float64)]
  assert costs[0] == -0.5 * float(np.square(action.astype(np.float32)).sum())
  assert costs[1] == -0.5 * float(np.square(action).sum())
  assert costs[0] != costs[1]


def test_rewards_do_not_depend_on_the_layout_of_the_actions():
  batches = [make_batch('Ant-v2', 5, seed=0) for _ in range(2)]
  for batch in batches:
    batch.reset()
  for actions in random_actions(batches[0], 20):
    _, rewards, _ = batches[0].step(actions)
    _, other_rewards, _ = batches[1].step(np.asfortranarray(actions))
    np.testing.assert_array_equal(rewards, other_rewards)


def test_ant_contact_forces(bind):
  assert not single_env('Ant-v2').reset(seed=0)[27:].any()
  bind('physics.ant_contact_forces = True')
  env, batch = single_env('Ant-v2'), make_batch('Ant-v2', 1, 0)
  env.reset(seed=row_seeds(0, 1)[0])
  batch.reset()
  costs = []
  for actions in random_actions(batch, 50):
    observation, reward, _, info = env.step(actions[0])
    forces = observation[27:]
    assert np.abs(forces).max() <= 1
    assert info['reward_contact'] == -0.5e-3 * np.square(forces).sum()
    assert reward == pytest.approx(sum(info.values()))
    costs.append(info['reward_contact'])
    observations, rewards, _ = batch.step(actions)
    np.testing.assert_array_equal(observations[0], observation.astype(np.float32))
    assert rewards[0] == np.float32(reward)
  assert min(costs) < -1e-3


def test_ant_contact_forces_are_those_of_a_state_that_was_set(bind):
  bind('physics.ant_contact_forces = True')
  env = single_env('Ant-v2')
  env.reset(seed=0)
  env.set_state(env.init_qpos - 0.7 * (np.arange(15) == 2), env.init_qvel)  # down in the floor
  data = copy.copy(env.data)
  data.cfrc_ext[:] = 0
  mujoco.mj_rnePostConstraint(env.model, data)
  assert np.abs(data.cfrc_ext).max() > 1
  np.testing.assert_array_equal(env.data.cfrc_ext, data.cfrc_ext)


# The number of the state (positions, then velocities), a value in which the episode goes on, and
# one in which it ends.
BOUNDS = [
  ('Hopper-v2', 1, 0.7001, 0.7),
  ('Hopper-v2', 1, 99.0, np.inf),
  ('Hopper-v2', 1, 200.0, np.nan),
  ('Hopper-v2', 0, 200.0, np.nan),
  ('Hopper-v2', 2, 0.1999, 0.2),
  ('Hopper-v2', 2, -0.1999, -0.2),
  *(('Hopper-v2', k, 99.99, 100.0) for k in (3, 5, 6, 11)),
  *(('Hopper-v2', k, -99.99, -100.0) for k in (3, 11)),
  *(('Hopper-v2', 6, 0.0, bad) for bad in (np.nan, np.inf, -np.inf)),
  ('Walker2d-v2', 1, 0.8001, 0.8),
  ('Walker2d-v2', 1, 1.9999, 2.0),
  ('Walker2d-v2', 2, 0.9999, 1.0),
  ('Walker2d-v2', 2, -0.9999, -1.0),
  *(('Walker2d-v2', 1, 1.0, bad) for bad in (np.nan, np.inf, -np.inf)),
  *(('Walker2d-v2', 2, 0.5, bad) for bad in (np.nan, np.inf, -np.inf)),
  ('Ant-v2', 2, 0.2, 0.1999),
  ('Ant-v2', 2, 1.0, 1.0001),
  *(('Ant-v2', k, 100.0, bad) for k in (0, 14, 15, 28) for bad in (np.nan, np.inf, -np.inf)),
]


@pytest.mark.parametrize('name, k, good, bad', BOUNDS)
def test_an_episode_ends_where_a_state_leaves_its_bounds(name, k, good, bad):
  env = single_env(name)
  states = np.tile(np.concatenate([env.init_qpos, env.init_qvel]), [2, 1])
  states[:, k] = good, bad
  qpos, qvel = np.split(states, [env.model.nq], axis=1)
  judge = environments._TASKS[name].judge
  _, ends, _ = judge(np.zeros(2), np.zeros(2), qpos, qvel, np.zeros([2, 84]))
  assert ends.tolist() == [False, True]


# --- Batches ------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ANY)
def test_batch_is_n_gym_environments(name):
  batch = make_batch(name, 3, seed=5)
  envs = [single_env(name) for _ in range(3)]
  expected = np.stack([env.reset(seed=seed) for env, seed in zip(envs, row_seeds(5, 3))])
  np.testing.assert_array_equal(batch.reset(), expected.astype(np.float32))
  for t, actions in enumerate(random_actions(batch, 60)):
    # In turn all rows, and two of them in another order.
    rows = np.array([2, 0]) if t % 2 else None
    chosen = [2, 0] if t % 2 else [0, 1, 2]
    observations, rewards, ends = batch.step(actions[: len(chosen)], rows)
    steps = [envs[row].step(action) for row, action in zip(chosen, actions)]
    expected = np.stack([step[0] for step in steps])
    np.testing.assert_array_equal(observations, expected.astype(np.float32))
    np.testing.assert_array_equal(rewards, np.float32([step[1] for step in steps]))
    np.testing.assert_array_equal(ends == TERMINAL, [step[2] for step in steps])
    assert (observations.dtype, rewards.dtype, ends.dtype) == (np.float32, np.float32, np.int8)
    if t % 20 == 19:
      np.testing.assert_array_equal(batch.reset([1])[0], envs[1].reset().astype(np.float32))


@pytest.mark.parametrize('name', ANY)
def test_state_goes_on_bit_for_bit(name):
  batch = make_batch(name, 3, seed=0)
  actions = random_actions(batch, 130)
  batch.reset()
  roll(batch, actions[:65])
  batch.reset([1])
  roll(batch, actions[:2])
  state = batch.state
  expected = roll(batch, actions)
  anew = make_batch(name, 3, seed=1)
  anew.state = state
  assert anew.state == state
  assert roll(anew, actions) == expected
  assert anew.state == batch.state
  # And once more, on a batch that has been used.
  anew.state = state
  assert roll(anew, actions) == expected


def test_state_counts_towards_the_time_limit():
  batch = make_batch('Pendulum-v1', 1, seed=0)
  batch.reset()
  roll(batch, random_actions(batch, 150))
  anew = make_batch('Pendulum-v1', 1, seed=0)
  anew.state = batch.state
  ends = [anew.step(actions)[2][0] for actions in random_actions(anew, 50)]
  assert ends == [GOES_ON] * 49 + [TIME_LIMIT]


@pytest.mark.parametrize('name', ANY)
def test_seed_is_everything(name, bind):
  def episode(seed):
    batch = make_batch(name, 3, seed)
    return batch.reset().tobytes() + roll(batch, random_actions(batch, 40))

  expected = episode(0)
  assert episode(0) == expected
  assert episode(1) != expected
  bind('physics.n_threads = 1')
  assert episode(0) == expected
  bind('physics.n_threads = 3')
  assert episode(0) == expected


@pytest.mark.parametrize('name', ANY)
def test_rows_differ(name):
  batch = make_batch(name, 3, seed=0)
  first = batch.reset()
  assert len(np.unique(first, axis=0)) == 3
  assert len(np.unique(np.concatenate([first, batch.reset()]), axis=0)) == 6


@pytest.mark.parametrize('name', ('Hopper-v2', 'Pendulum-v1'))
def test_no_rows(name):
  batch = make_batch(name, 2, seed=0)
  assert batch.reset([]).shape == (0, *batch.observation_spec.shape)
  nothing = batch.step(np.zeros([0, *batch.action_spec.shape], np.float32), [])
  assert [len(values) for values in nothing] == [0, 0, 0]


def test_rows_as_a_mask():
  batches = [make_batch('Hopper-v2', 3, seed=0) for _ in range(2)]
  for batch, rows in zip(batches, ([0, 2], np.array([True, False, True]))):
    batch.reset()
    batch.reset(rows)
    batch.step(random_actions(batch, 1)[0, :2], rows)
  assert batches[0].state == batches[1].state


def test_specs():
  batch = make_batch('HalfCheetah-v2', 1, seed=0)
  assert batch.observation_spec.shape == (17,)
  assert batch.action_spec.name == 'action'
  np.testing.assert_array_equal(batch.action_spec.minimum, np.full(6, -1, np.float32))
  np.testing.assert_array_equal(batch.action_spec.maximum, np.full(6, 1, np.float32))
  assert make_batch('Ant-v2', 1, seed=0).observation_spec.shape == (111,)
  np.testing.assert_array_equal(make_batch('Pendulum-v1', 1, 0).action_spec.maximum, [2])


def test_an_environment_seeded_in_the_old_way():
  batches = [make_batch('TestOldPendulum-v0', 2, seed) for seed in (0, 0, 1)]
  first = [batch.reset() for batch in batches]
  np.testing.assert_array_equal(first[0], first[1])
  assert (first[0] != first[2]).any()


# --- Ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('name, limit', [('HalfCheetah-v2', 1000), ('Pendulum-v1', 200)])
def test_time_limit(name, limit):
  batch = make_batch(name, 1, seed=0)
  assert batch.max_episode_steps == limit
  for _ in range(2):
    batch.reset()
    ends = [batch.step(actions)[2][0] for actions in random_actions(batch, limit)]
    assert ends == [GOES_ON] * (limit - 1) + [TIME_LIMIT]


def test_another_time_limit():
  batch = make_batch('Pendulum-v1', 1, seed=0)
  batch.max_episode_steps = 300
  batch.reset()
  ends = [batch.step(actions)[2][0] for actions in random_actions(batch, 300)]
  assert ends == [GOES_ON] * 299 + [TIME_LIMIT]


def test_rows_count_for_themselves():
  batch = make_batch('Pendulum-v1', 2, seed=0)
  batch.reset()
  actions = random_actions(batch, 1)[0]
  for _ in range(150):
    batch.step(actions)
  batch.reset([1])
  ends = np.stack([batch.step(actions)[2] for _ in range(50)])
  assert ends[-1].tolist() == [TIME_LIMIT, GOES_ON]
  assert (ends[:-1] == GOES_ON).all()


def test_a_time_limit_inside_the_environment():
  batch = make_batch('TestShortPendulum-v0', 1, seed=0)
  assert batch.max_episode_steps is None
  batch.reset()
  ends = [batch.step(actions)[2][0] for actions in random_actions(batch, 5)]
  assert ends == [GOES_ON] * 4 + [TIME_LIMIT]


@pytest.mark.parametrize('name', ('Hopper-v2', 'Walker2d-v2'))
def test_a_terminal_state_goes_before_the_time_limit(name):
  batch = make_batch(name, 1, seed=0)
  actions = random_actions(batch, 300)

  def ends():
    batch.reset()
    codes = []
    while not codes or codes[-1] == GOES_ON:
      codes.append(batch.step(actions[len(codes)])[2][0])
    return codes

  start = batch.state
  free = ends()
  assert free[-1] == TERMINAL
  batch.state = start
  batch.max_episode_steps = len(free)
  assert ends() == free
  batch.state = start
  batch.max_episode_steps = len(free) - 1
  assert ends() == [GOES_ON] * (len(free) - 2) + [TIME_LIMIT]


def test_gym_make_stops_at_the_time_limit():
  env = gym.make('HalfCheetah-v2')
  env.reset(seed=0)
  steps = [env.step(np.zeros(6, np.float32)) for _ in range(1000)]
  assert [done for _, _, done, _ in steps] == [False] * 999 + [True]
  assert steps[-1][3]['TimeLimit.truncated']


def test_suite_gym_keeps_the_discount_at_the_time_limit():
  env = suite_gym.load('HalfCheetah-v2')
  assert env.reset().step_type == ts.StepType.FIRST
  steps = [env.step(np.zeros(6, np.float32)) for _ in range(1000)]
  assert all(step.step_type == ts.StepType.MID for step in steps[:-1])
  assert steps[-1].step_type == ts.StepType.LAST
  assert all(step.discount == 1 for step in steps)
  assert env.step(np.zeros(6, np.float32)).step_type == ts.StepType.FIRST


def test_suite_gym_ends_in_a_terminal_state():
  env = suite_gym.load('Hopper-v2')
  step = env.reset()
  for _ in range(500):
    if step.is_last():
      break
    step = env.step(np.ones(3, np.float32))
  assert step.is_last()
  assert step.discount == 0


# --- Single environments --------------------------------------------------------------------------


@pytest.mark.parametrize('name', TASKS)
def test_what_users_of_gym_expect(name):
  env = single_env(name)
  assert isinstance(env, environments.MujocoEnv)
  observation, info = env.reset(seed=3, return_info=True)
  assert observation.dtype == np.float64 and info == {}
  assert env.observation_space.contains(observation)
  np.testing.assert_array_equal(env.reset(seed=3), observation)
  assert (env.reset() != observation).any()
  assert env.dt == pytest.approx(0.05 if name in ('HalfCheetah-v2', 'Ant-v2') else 0.008)
  assert env.sim.data is env.data and env.sim.model is env.model
  env.set_state(env.init_qpos, env.init_qvel)
  np.testing.assert_array_equal(env.state_vector(), [*env.init_qpos, *env.init_qvel])
  assert env.get_body_com('torso')[2] == pytest.approx(
    0.7 if name == 'HalfCheetah-v2' else 0.75 if name == 'Ant-v2' else 1.25
  )
  with pytest.raises(ValueError):
    env.step(np.zeros(2, np.float32))


@pytest.mark.parametrize('name', TASKS)
def test_a_step_starts_from_what_was_written(name):
  env = single_env(name)
  env.reset(seed=0)
  action = np.zeros(env.action_space.shape, np.float32)
  reward = copy.deepcopy(env).step(action)[1]
  # Two meters further on, where Ant's reward still starts from the torso's position before.
  env.data.qpos[0] += 2
  if name == 'Ant-v2':
    env.data.xpos[1, 0] += 2
  assert env.step(action)[1] == pytest.approx(reward)


def test_set_state_normalises_quaternions():
  env = single_env('Ant-v2')
  env.reset(seed=0)
  qpos = env.init_qpos.copy()
  qpos[3:7] = [2, 0, 0, 0]
  env.set_state(qpos, env.init_qvel)
  np.testing.assert_array_equal(env.data.qpos[3:7], [1, 0, 0, 0])


@pytest.mark.parametrize('copier', (copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))))
@pytest.mark.parametrize('name', TASKS)
def test_copies_go_on_alike(name, copier):
  env = gym.make(name)
  env.reset(seed=0)
  env.action_space.seed(0)
  for _ in range(10):
    env.step(env.action_space.sample())
  other = copier(env)
  assert other.unwrapped.data is not env.unwrapped.data
  for _ in range(10):
    action = env.action_space.sample()
    np.testing.assert_array_equal(other.action_space.sample(), action)
    observation, reward, done, _ = env.step(action)
    other_observation, other_reward, other_done, _ = other.step(action)
    np.testing.assert_array_equal(other_observation, observation)
    assert (other_reward, other_done) == (reward, done)
  np.testing.assert_array_equal(other.reset(), env.reset())


# --- Bad input ------------------------------------------------------------------------------------


def assert_user_error(words, function, *args):
  with pytest.raises(UserError) as caught:
    function(*args)
  message = str(caught.value)
  assert '\n' not in message
  for word in words:
    assert word in message


@pytest.mark.parametrize(
  'given, nearest',
  [
    ('HalfCheeta-v2', 'HalfCheetah-v2'),
    ('halfcheetah-v2', 'HalfCheetah-v2'),
    ('Hopper-v1', 'Hopper-v2'),
    ('Pendulum', 'Pendulum-v1'),
    ('', "''"),
    ('no such thing!', 'no such thing!'),
    ('no_such_package:Hopper-v2', "No module named 'no_such_package'"),
    (':', "':': Empty module name"),
  ],
)
def test_unknown_environment(given, nearest):
  assert_user_error(['unknown environment', nearest], make_batch, given, 1, 0)


@pytest.mark.parametrize(
  'name, package', [('Humanoid-v2', 'mujoco_py'), ('BipedalWalker-v3', 'Box2D')]
)
def test_missing_dependency(name, package):
  if importlib.util.find_spec(package):
    pytest.skip(f'{package} is installed')
  assert_user_error([name, package], make_batch, name, 1, 0)


def test_mujoco_py_where_there_is_none(bind):
  if importlib.util.find_spec('mujoco_py'):
    pytest.skip('mujoco_py is installed')
  bind("physics.backend = 'mujoco_py'")
  assert_user_error(['HalfCheetah-v2', 'mujoco_py'], make_batch, 'HalfCheetah-v2', 1, 0)
  assert make_batch('Pendulum-v1', 1, 0).reset().shape == (1, 3)


@pytest.mark.parametrize('name, asset', zip(TASKS, ('half_cheetah', 'hopper', 'walker2d', 'ant')))
def test_mujoco_py_is_asked_for_the_model_of_gyms_own_class(bind, monkeypatch, name, asset):
  def load_model_from_path(path):
    raise ValueError(path)

  stub = types.SimpleNamespace(load_model_from_path=load_model_from_path)
  monkeypatch.setitem(sys.modules, 'mujoco_py', stub)
  monkeypatch.setattr('gym.envs.mujoco.mujoco_env.mujoco_py', stub)  # imported by now, or earlier
  bind("physics.backend = 'mujoco_py'")
  words = [f'{name} cannot be made here: ', f'assets/{asset}.xml']
  assert_user_error(words, make_batch, name, 1, 0)


@pytest.mark.parametrize(
  'binding',
  ["physics.backend = 'mojoco'", 'physics.n_threads = 0', "physics.ant_contact_forces = 'yes'"],
)
def test_bad_choice_of_physics(bind, binding):
  bind(binding)
  assert_user_error([binding.split(' ')[0]], make_batch, 'HalfCheetah-v2', 1, 0)


@pytest.mark.parametrize(
  'name, words',
  [
    ('CartPole-v1', ['acts', 'Discrete', 'Box']),
    ('FrozenLake-v1', ['observes', 'Discrete', 'Box']),
    ('TestFreePendulum-v0', ['acts', 'bounds']),
  ],
)
def test_spaces_of_another_kind(name, words):
  assert_user_error([name, *words], make_batch, name, 1, 0)


@pytest.mark.parametrize('number', range(len(FAULTS)), ids=list(FAULTS))
@pytest.mark.filterwarnings('error')
def test_what_goes_wrong_in_an_environment_is_one_line_with_its_name(number):
  def take_a_step():
    batch = make_batch(name, 2, 0)
    batch.reset()
    batch.step(np.zeros([2, 1], np.float32))

  name = f'TestFault{number}-v0'
  assert_user_error([f'{name} {list(FAULTS.values())[number]}'], take_a_step)


def test_a_collection_in_an_environment_that_fails_makes_no_folder(tmp_path):
  given = (str(tmp_path / 'data'), f'TestFault{list(FAULTS).index("step")}-v0', str(tmp_path))
  (tmp_path / 'dcfg_r.py').write_text(
    "get_data_config = lambda *_: [['r', ['randwalk', '', ['none'], ()], 1.0]]"
  )
  collect = collection.collect.__wrapped__  # to whose errors gin adds lines
  assert_user_error(['cannot be stepped'], collect, *given, 'dcfg_r', None, 10, 1, 0)
  assert os.listdir(tmp_path) == ['dcfg_r.py']


def test_negative_seed():
  assert_user_error(['-1'], make_batch, 'Pendulum-v1', 1, -1)


def test_state_of_another_batch():
  state = make_batch('Hopper-v2', 2, 0).state
  for name, n in (('Hopper-v2', 3), ('Walker2d-v2', 2)):
    batch = make_batch(name, n, 0)
    assert_user_error(['2 x Hopper-v2', f'{n} x {name}'], setattr, batch, 'state', state)


@pytest.mark.parametrize('shape', ([2, 1], [1, 3], [3]))
def test_actions_of_another_shape(shape):
  batch = make_batch('Hopper-v2', 2, 0)
  batch.reset()
  with pytest.raises(ValueError, match='actions'):
    batch.step(np.zeros(shape, np.float32))
