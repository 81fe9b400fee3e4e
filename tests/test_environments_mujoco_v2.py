"""The four tasks against recordings of the real ones, and as gym environments."""

import copy
import importlib.util
import os
import pickle
import subprocess
import sys
import types

import gin
import gym
import mujoco
import numpy as np
import pytest
from environment_helpers import TASKS, assert_user_error, needs_library, random_actions, single_env

from brac import environments
from brac.environments import make_batch, row_seeds
from brac.environments.mujoco_v2.tasks import TASKS as TASK_CLASSES
from brac.errors import UserError

pytestmark = pytest.mark.filterwarnings('ignore:.*out of date')

_HERE = os.path.dirname(os.path.abspath(__file__))
_SHARED = os.path.join(_HERE, '..', '..', 'shared', 'data', 'gym_v2_reference.npz')
_FIELDS = ('actions', 'qpos', 'qvel', 'qacc_warmstart', 'observations', 'rewards', 'dones')
# Six steps of each task out of the recordings, around the first terminal state.
_STEPS = np.load(os.path.join(_HERE, 'data', 'gym_v2_steps.npz'))


@pytest.fixture(scope='module')
def recordings():
  if not os.path.exists(_SHARED):
    pytest.skip(f'no recordings at {_SHARED}')
  return np.load(_SHARED)


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


@pytest.mark.parametrize('name', TASKS)
@pytest.mark.parametrize('how', ['velocity', 'action'])
def test_a_simulation_that_becomes_unstable_is_an_error(name, how, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # where MuJoCo leaves a log of it
  batch = make_batch(name, 3, seed=0)
  batch.reset()
  actions = np.zeros([3, *batch.action_spec.shape], np.float32)
  batch.step(actions)
  if how == 'velocity':
    batch._simulation.datas[1].qvel[:] = 1e9
  else:
    actions[1] = np.nan
  with pytest.raises(UserError, match='is unstable: MuJoCo has numbers that are NaN'):
    batch.step(actions)
  # The others, and after a reset it too, go on.
  batch.step(actions[[0, 2]], [0, 2])
  batch.reset([1])
  batch.step(actions[:1], [1])


def test_ant_contact_forces():
  assert not single_env('Ant-v2').reset(seed=0)[27:].any()
  gin.parse_config('physics.ant_contact_forces = True')
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


def test_ant_contact_forces_are_those_of_a_state_that_was_set():
  gin.parse_config('physics.ant_contact_forces = True')
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
  judge = TASK_CLASSES[name].judge
  _, ends, _ = judge(np.zeros(2), np.zeros(2), qpos, qvel, np.zeros([2, 84]))
  assert ends.tolist() == [False, True]


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


def test_gym_make_stops_at_the_time_limit():
  env = gym.make('HalfCheetah-v2')
  env.reset(seed=0)
  steps = [env.step(np.zeros(6, np.float32)) for _ in range(1000)]
  assert [done for _, _, done, _ in steps] == [False] * 999 + [True]
  assert steps[-1][3]['TimeLimit.truncated']


def test_mujoco_py_where_there_is_none():
  if importlib.util.find_spec('mujoco_py'):
    pytest.skip('mujoco_py is installed')
  gin.parse_config("physics.backend = 'mujoco_py'")
  assert_user_error(['HalfCheetah-v2', 'mujoco_py'], make_batch, 'HalfCheetah-v2', 1, 0)
  assert make_batch('Pendulum-v1', 1, 0).reset().shape == (1, 3)


@pytest.mark.parametrize('name, asset', zip(TASKS, ('half_cheetah', 'hopper', 'walker2d', 'ant')))
def test_mujoco_py_is_asked_for_the_model_of_gyms_own_class(monkeypatch, name, asset):
  def load_model_from_path(path):
    raise ValueError(path)

  stub = types.SimpleNamespace(load_model_from_path=load_model_from_path)
  monkeypatch.setitem(sys.modules, 'mujoco_py', stub)
  monkeypatch.setattr('gym.envs.mujoco.mujoco_env.mujoco_py', stub)  # imported by now, or earlier
  gin.parse_config("physics.backend = 'mujoco_py'")
  words = [f'{name} cannot be made here: ', f'assets/{asset}.xml']
  assert_user_error(words, make_batch, name, 1, 0)


@pytest.mark.parametrize(
  'binding',
  ["physics.backend = 'mojoco'", 'physics.n_threads = 0', "physics.ant_contact_forces = 'yes'"],
)
def test_bad_choice_of_physics(binding):
  gin.parse_config(binding)
  assert_user_error([binding.split(' ')[0]], make_batch, 'HalfCheetah-v2', 1, 0)


@needs_library
@pytest.mark.parametrize('name', TASKS)
def test_a_picture_shows_the_state_and_changes_nothing(name):
  env = gym.make(name)
  env.reset(seed=0)
  action = np.full(env.action_space.shape, 0.5, np.float32)
  plain = copy.deepcopy(env)
  first = env.render('rgb_array', width=160, height=120)
  assert first.shape == (120, 160, 3) and first.dtype == np.uint8 and first.std() > 10
  np.testing.assert_array_equal(env.render('rgb_array', width=160, height=120), first)
  for _ in range(5):
    np.testing.assert_array_equal(env.step(action)[0], plain.step(action)[0])
    later = env.render('rgb_array', width=160, height=120)
  assert np.any(later != first)
  np.testing.assert_array_equal(
    pickle.loads(pickle.dumps(env)).render('rgb_array', width=160, height=120), later
  )
  assert env.render('rgb_array').shape == (500, 500, 3)
  env.close()


@needs_library
@pytest.mark.parametrize('name', TASKS)
def test_the_floor_goes_along_and_has_no_seam(name):
  env = gym.make(name).unwrapped
  env.reset(seed=0)

  def corner(x):
    env.set_state(np.r_[x, env.init_qpos[1:]], env.init_qvel)
    return env.render('rgb_array', width=160, height=120)[90:, :40].astype(int)

  near = corner(0.0)
  for x in (60.0, 500.0):
    assert corner(x).std() > 0.5 * near.std()  # of light and dark tiles
  tile = 2 * env.model.geom_size[0, 0] / 60  # and half of it from the middle of one it is moved
  seam = np.abs(corner(100.5 * tile - 1e-3) - corner(100.5 * tile + 1e-3)).mean()
  step = np.abs(corner(100.5 * tile) - corner(100.75 * tile)).mean()
  assert seam < 0.1 * step
  env.close()


@needs_library
def test_a_picture_leaves_no_trace_in_the_environment(monkeypatch):
  for name in ('DISPLAY', 'MUJOCO_GL'):
    monkeypatch.delenv(name, raising=False)
  env = gym.make('Hopper-v2')
  env.reset(seed=0)
  env.render('rgb_array', width=16, height=12)
  env.close()
  assert 'MUJOCO_GL' not in os.environ  # or every program that this one starts would take it


@pytest.mark.parametrize('library', ['egl', 'osmesa'])
def test_programs_are_quiet_where_the_library_that_draws_is_chosen(library, tmp_path):
  command = [sys.executable, '-m', 'brac.collect_data', '--env_name=Nosuch-v0', '--n_samples=1']
  command += [f'--root_dir={tmp_path}', '--config_file=dcfg_pure']
  done = subprocess.run(
    command, env={**os.environ, 'MUJOCO_GL': library}, capture_output=True, text=True
  )
  assert done.returncode == 1
  lines = done.stderr.splitlines()
  assert len(lines) == 1
  assert 'Nosuch-v0' in lines[0] or f'(MUJOCO_GL={library})' in lines[0]


def test_importing_the_package_is_enough_to_make_the_tasks():
  for imports in ('import brac, gym', 'import gym, brac'):
    code = f"""{imports}, sys, warnings
warnings.simplefilter('ignore')
assert 'tensorflow' not in sys.modules
print(type(gym.make('HalfCheetah-v2').unwrapped).__module__)"""
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert run.stdout == 'brac.environments.mujoco_v2.env\n', run.stderr
