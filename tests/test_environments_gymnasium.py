"""The suite of what gymnasium knows, where it is installed; and what is said where it is not."""

import logging
import os
import sys

import gin
import numpy as np
import pytest
from environment_helpers import assert_user_error, needs_library, random_actions, roll
from reading import assert_same_run, results

from brac import environments
from brac.collection import collect
from brac.data import provenance, stored
from brac.environments import GOES_ON, TERMINAL, TIME_LIMIT, gym_suite, gymnasium_suite, make_batch
from brac.errors import UserError
from brac.train_eval_offline import train_eval_offline
from brac.train_eval_online import train_eval_online

try:
  import gymnasium
  import odd_gymnasium
except ImportError:
  gymnasium = None
needs_gymnasium = pytest.mark.skipif(gymnasium is None, reason='no package gymnasium')
HAS_ROBOTICS = gymnasium_suite._is_installed('gymnasium_robotics')
ODD = 'odd_gymnasium:Odd'


@pytest.fixture
def not_installed(monkeypatch):
  """Makes the packages of the extra ones that are not there."""
  for name in ('gymnasium', 'gymnasium_robotics'):
    monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize('name', ['gymnasium:HalfCheetah-v5', 'gymnasium:Pendulum-v1'])
def test_without_gymnasium_what_is_asked_of_it_names_the_extra(name, not_installed):
  words = [name, 'no gymnasium here', 'pip install "brac[gymnasium]"']
  assert_user_error(words, make_batch, name, 1, 0)


def test_without_gymnasium_an_unknown_id_names_the_extra(not_installed):
  words = ['unknown environment', "'HalfCheetah-v2'", 'pip install "brac[gymnasium]"']
  assert_user_error(words, make_batch, 'HalfCheetah-v5', 1, 0)


# --- Which suite ----------------------------------------------------------------------------------


@needs_gymnasium
@pytest.mark.parametrize(
  'name, suite',
  [
    ('HalfCheetah-v2', 'mujoco_v2'),
    ('Pendulum-v1', 'gym'),
    ('gym:Pendulum-v1', 'gym'),
    ('gymnasium:Pendulum-v1', 'gymnasium'),
    ('HalfCheetah-v5', 'gymnasium'),
    (ODD + 'Point-v0', 'gymnasium'),
    ('gymnasium:odd_gymnasium:OddPoint-v0', 'gymnasium'),
    ('lab/OddPoint-v0', 'gymnasium'),
  ],
)
def test_the_first_suite_that_knows_an_id_is_taken_and_the_log_says_so(name, suite, caplog):
  with caplog.at_level(logging.INFO, 'absl'):
    environments.introduced(name)
    environments.described(name)
  assert caplog.messages == [f'{name}: from {suite}']


@needs_gymnasium
@pytest.mark.parametrize(
  'name, nearest',
  [
    ('HalfCheeta-v5', "'HalfCheetah-v5'"),
    ('gymnasium:Pendulumm-v1', "'gymnasium:Pendulum-v1'"),
    ('gymnasium:', 'gymnasium:'),
    ('gymnasium:no_such_package:Hopper-v5', "No module named 'no_such_package'"),
  ],
)
def test_unknown_environment(name, nearest):
  assert_user_error(['unknown environment', nearest], make_batch, name, 1, 0)


@needs_gymnasium
@pytest.mark.skipif(not HAS_ROBOTICS, reason='no package gymnasium_robotics')
@pytest.mark.parametrize('name', ['AntMaze_UMaze-v5', 'FetchReach-v4'])
def test_robots_have_goals_and_are_saved(name):
  batch = make_batch(name, 2, 0)
  keys = ['achieved_goal', 'desired_goal', 'observation']
  assert list(batch.observation_keys) == keys
  assert environments.try_out(name, 0)


# --- Steps ----------------------------------------------------------------------------------------


@needs_gymnasium
def test_a_pendulum_is_the_same_in_gym_and_in_gymnasium():
  of_gym, of_gymnasium = (
    make_batch(name, 3, 7) for name in ('Pendulum-v1', 'gymnasium:Pendulum-v1')
  )
  assert isinstance(of_gym, gym_suite.GymBatch)
  np.testing.assert_array_equal(of_gym.reset(), of_gymnasium.reset())
  actions = random_actions(of_gym, 450)  # over the time limit, twice
  assert roll(of_gym, actions) == roll(of_gymnasium, actions)
  for edge in ('minimum', 'maximum'):
    for spec in ('observation_spec', 'action_spec'):
      x, y = (getattr(getattr(batch, spec), edge) for batch in (of_gym, of_gymnasium))
      np.testing.assert_array_equal(x, y)
  assert of_gym.max_episode_steps == of_gymnasium.max_episode_steps == 200


@needs_gymnasium
def test_terminated_and_truncated_are_told_apart():
  batch = make_batch(ODD + 'Point-v0', 40, seed=0)
  x, seen = batch.reset()[:, 0], set()
  for t in range(1, 8):
    observations, _, ends = batch.step(np.ones([40, 1], np.float32))
    np.testing.assert_allclose(observations[:, 0], x + 0.1 * t, atol=1e-5)
    # Terminal too where both are true.
    late = TIME_LIMIT if t == 7 else GOES_ON
    np.testing.assert_array_equal(ends, np.where(observations[:, 0] > 0.5, TERMINAL, late))
    seen |= {(end, t == 7) for end in ends}
  assert seen == {(GOES_ON, 0), (TERMINAL, 0), (TERMINAL, 1), (TIME_LIMIT, 1)}


@needs_gymnasium
def test_the_time_limit_of_the_registration_is_none_of_the_state():
  batch = make_batch(ODD + 'Slow-v0', 2, seed=0)
  assert batch.max_episode_steps == 20
  batch.reset()
  ends = [batch.step(actions)[2].tolist() for actions in random_actions(batch, 20)]
  assert ends == [[GOES_ON] * 2] * 19 + [[TIME_LIMIT] * 2]


@needs_gymnasium
@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('number', range(len(odd_gymnasium.FAULTS) if gymnasium else 0))
def test_what_cannot_be_taken_is_one_line_with_its_name(number):
  name = f'{ODD}Fault{number}-v0'
  words = [f'{name} ', list(odd_gymnasium.FAULTS.values())[number][1]]
  assert_user_error(words, lambda: make_batch(name, 2, 0).reset())


# --- State ----------------------------------------------------------------------------------------


@needs_gymnasium
@pytest.mark.parametrize('n_steps', (10, 50))
@pytest.mark.parametrize(
  'name',
  [ODD + 'Slow-v0', ODD + 'Goals-v0', ODD + 'Robot-v0', 'gymnasium:Pendulum-v1', 'Hopper-v5'],
)
def test_state_goes_on_bit_for_bit(name, n_steps):
  batch = make_batch(name, 3, seed=0)
  batch.reset()
  actions = random_actions(batch, 50)
  roll(batch, actions[:n_steps])
  state = batch.state
  expected = roll(batch, actions)
  anew = make_batch(name, 3, seed=1)
  anew.reset()
  anew.state = state
  assert not anew.cut.size
  assert anew.state == state
  assert roll(anew, actions) == expected
  assert environments.try_out(name, 0)


# --- Dict observations ----------------------------------------------------------------------------

GOALS = {
  'achieved/_index_0': 1, 'achieved/_index_1': 4, 'desired/where': 1, 'desired/which': 2,
  'observation': 2,
}  # fmt: skip


@needs_gymnasium
def test_dict_observations_are_concatenated_as_gymnasium_flattens_them(caplog):
  name = ODD + 'Goals-v0'
  with caplog.at_level(logging.INFO, 'absl'):
    environments.introduced(name)
  batch = make_batch(name, 1, seed=3)
  assert list(batch.observation_keys.items()) == list(GOALS.items())
  assert 'achieved/_index_0 (1), achieved/_index_1 (4), desired/where (1)' in caplog.messages[-1]
  env = gymnasium.make('OddGoals-v0')
  got = [batch.reset()[0]]
  want = [env.reset(seed=environments.row_seeds(3, 1)[0])[0]]
  for action in random_actions(batch, 3)[:, 0]:
    got.append(batch.step(action[None])[0][0])
    want.append(env.step(action)[0])
  for x, observation in zip(got, want):
    flat = gymnasium.spaces.flatten(env.observation_space, observation)
    np.testing.assert_array_equal(x, flat.astype(np.float32))
  flat = gymnasium.spaces.flatten_space(env.observation_space)
  np.testing.assert_array_equal(batch.observation_spec.minimum, flat.low)
  np.testing.assert_array_equal(batch.observation_spec.maximum, flat.high)


@needs_gymnasium
def test_a_user_chooses_the_order():
  usual = make_batch(ODD + 'Goals-v0', 2, seed=3).reset()
  names = sorted(GOALS, reverse=True)
  gin.bind_parameter('dict_observations.keys', names)
  batch = make_batch(ODD + 'Goals-v0', 2, seed=3)
  assert list(batch.observation_keys.items()) == [(name, GOALS[name]) for name in names]
  starts = dict(zip(GOALS, np.cumsum([0, *GOALS.values()])))
  columns = [starts[name] + i for name in names for i in range(GOALS[name])]
  np.testing.assert_array_equal(batch.reset(), usual[:, columns])


@needs_gymnasium
@pytest.mark.parametrize(
  'keys', ['observation', ['observation'], [*GOALS, 'observation'], [*GOALS][1:] + ['x'], 3]
)
def test_an_order_that_is_none(keys):
  gin.bind_parameter('dict_observations.keys', keys)
  words = ['dict_observations.keys is', repr(keys), 'desired/where, desired/which, observation']
  assert_user_error(words, make_batch, ODD + 'Goals-v0', 1, 0)


# --- Experiments ----------------------------------------------------------------------------------

SMALL = dict(model_params=(((8, 8),), 2), batch_size=16)


@pytest.fixture
def gather(tmp_path):
  """`gather(env_name, n)`: collects n random transitions; returns where they are."""
  (tmp_path / 'dcfg_r.py').write_text(
    "get_data_config = lambda *_: [['r', ['randwalk', '', ['none'], ()], 1.0]]"
  )

  def gather(env_name, n):
    folder = str(tmp_path / 'data')
    collect(folder, env_name, str(tmp_path), 'dcfg_r', None, n, 1, 0)
    return os.path.join(folder, 'data')

  return gather


def train_offline(tmp_path, data_file, env_name):
  train_eval_offline(
    log_dir=str(tmp_path / 'offline'), data_file=data_file, agent_name='bc', env_name=env_name,
    n_train=10**6, total_train_steps=4, n_eval_episodes=1, seed=0, eval_freq=2, **SMALL,
  )  # fmt: skip


@needs_gymnasium
def test_a_cheetah_collects_and_learns_offline(gather, tmp_path):
  data = gather('HalfCheetah-v5', 1200)
  rows = stored.load(data, 17, 6)
  assert (rows.discount == 1).all()
  assert np.flatnonzero(rows.end == TIME_LIMIT).tolist() == [999]
  train_offline(tmp_path, data, 'HalfCheetah-v5')
  header, lines = results(tmp_path / 'offline')
  assert [line[0] for line in lines] == [2, 4] and np.isfinite(lines).all()
  with open(tmp_path / 'offline' / 'operative_config.gin', encoding='utf-8') as f:
    assert f'gymnasium {gymnasium.__version__}' in f.read()


@needs_gymnasium
@pytest.mark.parametrize('env_name', ['HalfCheetah-v5', ODD + 'Robot-v0'])
def test_an_online_run_that_goes_on_ends_as_one_that_never_stopped(env_name, tmp_path):
  for name, stops in (('stopped', (6, 12)), ('straight', (12,))):
    for total in stops:
      train_eval_online(
        log_dir=str(tmp_path / name), agent_name='bc', env_name=env_name, eval_target=1e9,
        total_train_steps=total, n_eval_episodes=1, seed=0, eval_freq=6, summary_freq=6,
        initial_explore_steps=30, replay_buffer_size=100, **SMALL,
      )  # fmt: skip
  assert_same_run(tmp_path / 'stopped', tmp_path / 'straight')


@needs_gymnasium
def test_the_order_is_kept_with_the_data_and_compared(gather, tmp_path):
  name = ODD + 'Goals-v0'
  data = gather(name, 100)
  assert list(provenance.read(data)['observation_keys'].items()) == list(GOALS.items())
  train_offline(tmp_path, data, name)
  gin.bind_parameter('dict_observations.keys', sorted(GOALS, reverse=True))
  with pytest.raises(UserError) as caught:
    train_offline(tmp_path, data, name)
  said = str(caught.value).splitlines()[0]  # gin adds lines of its own
  assert f'the observations of {data} are concatenated as achieved/_index_0 (1)' in said
  assert f'dict_observations.keys={tuple(GOALS)}' in said


@needs_gymnasium
def test_replay_data_are_of_the_order_of_the_run_that_left_them(tmp_path):
  name, order = ODD + 'Goals-v0', sorted(GOALS, reverse=True)
  gin.bind_parameter('dict_observations.keys', order)
  train_eval_online(
    log_dir=str(tmp_path / 'online'), agent_name='bc', env_name=name, eval_target=1e9,
    total_train_steps=40, n_eval_episodes=0, seed=0, initial_explore_steps=30, **SMALL,
  )  # fmt: skip
  data = str(tmp_path / 'online' / 'replay_final')
  train_offline(tmp_path, data, name)
  gin.clear_config()
  with pytest.raises(UserError, match=f'dataset .* concatenated as {", ".join(order)}, now'):
    train_offline(tmp_path, data, name)


@needs_gymnasium
def test_who_draws_in_an_older_way_is_made_all_the_same():
  assert make_batch(ODD + 'Old-v0', 1, 0).steps_per_second is None


@needs_gymnasium
@pytest.mark.parametrize(
  'name',
  [
    'gymnasium:Pendulum-v1',
    ODD + 'Made-v0',
    pytest.param('HalfCheetah-v5', marks=needs_library),
    pytest.param('AntMaze_UMaze-v5', marks=needs_library),
  ],
)
def test_a_picture_shows_the_state_and_changes_nothing(name):
  if 'Maze' in name and not HAS_ROBOTICS:
    pytest.skip('no package gymnasium_robotics')
  with make_batch(name, 1, 0) as env, make_batch(name, 1, 0) as plain:
    np.testing.assert_array_equal(env.reset(), plain.reset())
    first = env.picture(0, 160, 120)
    assert first.ndim == 3 and first.dtype == np.uint8 and first.std() > 10
    actions = random_actions(env, 6)
    assert roll(env, actions) == roll(plain, actions)
    assert env.steps_per_second and np.any(env.picture(0, 160, 120) != first)
