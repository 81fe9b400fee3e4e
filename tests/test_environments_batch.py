"""What holds for every batch of environments."""

import gin
import numpy as np
import pytest
from environment_helpers import ANY, assert_user_error, random_actions, roll, single_env

from brac.environments import GOES_ON, TERMINAL, TIME_LIMIT, make_batch, row_seeds

pytestmark = pytest.mark.filterwarnings('ignore:.*out of date')


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
def test_seed_is_everything(name):
  def episode(seed):
    batch = make_batch(name, 3, seed)
    return batch.reset().tobytes() + roll(batch, random_actions(batch, 40))

  expected = episode(0)
  assert episode(0) == expected
  assert episode(1) != expected
  gin.parse_config('physics.n_threads = 1')
  assert episode(0) == expected
  gin.parse_config('physics.n_threads = 3')
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
