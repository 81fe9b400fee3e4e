"""Rows that are held out: whole episodes, on which the losses are those of the saved networks."""

import gin
import numpy as np
import pytest
from reading import scalars, values

from brac import checkpoints, clones, rng
from brac.agents import validation
from brac.data import transitions
from brac.data.replay import Dataset
from brac.data.transitions import CUT_OFF, GOES_ON, TERMINAL, TIME_LIMIT, UNKNOWN, Transitions
from brac.errors import UserError
from brac.rng import Rng
from brac.train_eval_offline import train_eval_offline

LENGTHS = [3, 5, 2, 7, 4, 6, 3, 8, 1, 5, 6, 4]


def ends():
  end = np.full(sum(LENGTHS), GOES_ON, np.int8)
  codes = [(TERMINAL, TIME_LIMIT, CUT_OFF)[i % 3] for i in range(len(LENGTHS))]
  end[np.cumsum(LENGTHS) - 1] = codes
  return end


EPISODES = np.repeat(np.arange(len(LENGTHS)), LENGTHS)


@pytest.mark.parametrize('block', [0, 4])
@pytest.mark.parametrize('n', [54, 40])
@pytest.mark.parametrize('fraction', [0.01, 0.25, 0.5])
def test_the_parts_partition_the_rows_and_no_episode_is_in_both(block, n, fraction):
  numbers = transitions.used(54, n, block, 1, 'path')
  kept, held = transitions.hold_out(ends(), numbers, fraction, 0, 'path')
  taken = np.arange(54)[numbers]
  assert sorted([*kept, *held]) == sorted(taken)
  assert not set(EPISODES[kept]) & set(EPISODES[held])
  for part in (kept, held):  # in the order in which they were
    assert list(part) == [x for x in taken if x in part]
  # The fewest episodes that have so many rows.
  sizes = [np.count_nonzero(EPISODES[held] == episode) for episode in set(EPISODES[held])]
  assert len(held) >= fraction * n > len(held) - max(sizes)


def test_which_episodes_are_held_out_is_drawn_from_the_seed():
  def drawn(seed):
    return tuple(transitions.hold_out(ends(), slice(None), 0.3, seed, 'path')[1])

  assert drawn(5) == drawn(5)
  assert len({drawn(seed) for seed in range(6)}) > 3


@pytest.mark.parametrize(
  'end, fraction, says',
  [
    (np.full(9, UNKNOWN, np.int8), 0.5, 'the/path does not tell its episodes'),
    (ends(), 1.0, 'leaves none of the 12 episodes of the/path to train on'),
    (np.zeros(9, np.int8), 0.1, 'leaves none of the 1 episodes'),
  ],
)
def test_what_cannot_be_parted_is_one_line(end, fraction, says):
  with pytest.raises(UserError, match=says) as error:
    transitions.hold_out(end, slice(None), fraction, 0, 'the/path')
  assert str(error.value).startswith('train_eval_offline.validation_fraction is ')
  assert '\n' not in str(error.value)


# --- Runs -----------------------------------------------------------------------------------------


def rows_of_pendulum():
  random, n = np.random.default_rng(0), len(EPISODES)
  rows = Transitions.zeros(n, 3, 1)
  for x in (rows.s1, rows.s2):
    x[:] = random.normal(size=x.shape)
  for x in (rows.a1, rows.a2):
    x[:] = random.uniform(-1.9, 1.9, x.shape)
    x[::7] = 2.0  # the edge of the box, where a log-density is infinite
  rows.reward[:] = random.normal(size=n)
  rows.end[:] = ends()
  rows.discount[:] = rows.end != TERMINAL
  return rows


SEED, FRACTION = 3, 0.3


def parts():
  rows = rows_of_pendulum()
  numbers = transitions.hold_out(rows.end, slice(None), FRACTION, SEED, '')
  return [transitions.take(rows, part) for part in numbers]


@pytest.fixture
def run(tmp_path):
  """`run(name, rows, **parameters)`: a short one on these rows; its folder."""

  def run(name, rows, fraction=0.0, **parameters):
    data_file = str(tmp_path / f'data_{name}')
    checkpoints.save(data_file, data=Dataset(rows))
    given = dict(agent_name='bc', model_params=((8, 8),), batch_size=8, total_train_steps=8)
    given.update(data_file=data_file, env_name='Pendulum-v1', n_train=54, n_eval_episodes=1)
    given.update(seed=SEED, summary_freq=4, eval_freq=8, log_dir=str(tmp_path / name))
    with gin.unlock_config():
      gin.bind_parameter('train_eval_offline.validation_fraction', fraction)
    train_eval_offline(**{**given, **parameters})
    return tmp_path / name

  return run


def test_a_run_trains_on_the_rest_alone_and_goes_on_as_if_never_stopped(run):
  rows = rows_of_pendulum()
  folder = run('parted', rows, FRACTION)
  alone = run('alone', parts()[0])
  parted, rest = (values(path / 'agent') for path in (folder, alone))
  for key in parted.keys() - {'settings'}:
    np.testing.assert_array_equal(parted[key], rest[key], err_msg=key)
  assert scalars(folder / 'train') == scalars(alone / 'train')
  of = [clones.origin(str(path / 'agent_behavior')) for path in (folder, alone)]
  assert of[0] == of[1] and of[0].data  # a clone tells of the rows that it has seen
  assert not (alone / 'validation').exists()
  told = scalars(folder / 'validation')
  assert {step for _, step, _ in told} == {4, 8}
  assert {tag for tag, _, _ in told} == {'p_loss', 'ae_loss', 'alpha_entropy', 'log_likelihood'}

  run('stopped', rows, FRACTION, total_train_steps=4)
  with pytest.raises(UserError, match='validation_fraction was 0.3, is 0.5'):
    run('stopped', rows, 0.5)
  stopped = run('stopped', rows, FRACTION)
  assert scalars(stopped / 'validation') == told
  for key in parted.keys() - {'settings'}:
    np.testing.assert_array_equal(values(stopped / 'agent')[key], parted[key], err_msg=key)


def dense(weights, prefix, x):
  """What a network of a checkpoint gives."""
  n = sum(f'{prefix}/_layers/{i}/kernel' in weights for i in range(9))
  for i in range(n):
    x = x @ weights[f'{prefix}/_layers/{i}/kernel'] + weights[f'{prefix}/_layers/{i}/bias']
    x = np.maximum(x, 0) if i < n - 1 else x
  return x


def policy(weights, s):
  """m and log σ of the policy of a checkpoint."""
  mean, u = np.split(dense(weights, 'policy', s), 2, -1)
  return mean, -5 + 2.5 * (np.tanh(u) + 1)


def log_density(mean, log_std, z):
  """Of the actions `2 tanh(z)`."""
  normal = -0.5 * ((z - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
  return (normal - np.log(2 * (1 - np.tanh(z) ** 2)))[:, 0]


def last(folder):
  return {tag: x for tag, step, x in scalars(folder / 'validation') if step == 8}


def noise(n):
  return Rng(SEED, rng.VALIDATE, 8).normal([n, 1]).numpy()


def test_the_numbers_of_bc_are_those_of_the_saved_policy_on_what_is_held_out(run):
  folder = run('bc', rows_of_pendulum(), FRACTION)
  weights, (_, held) = values(folder / 'agent'), parts()
  mean, log_std = policy(weights, held.s1)
  inside = np.clip(held.a1 / 2, -0.999, 0.999)
  likelihood = log_density(mean, log_std, np.arctanh(inside)).mean()
  told = last(folder)
  np.testing.assert_allclose(told['log_likelihood'], likelihood, rtol=1e-5)
  z = mean + np.exp(log_std) * noise(len(held.reward))
  log_pi = log_density(mean, log_std, z).mean()
  p_loss = weights['agent/_alpha_entropy_var'] * log_pi - likelihood
  np.testing.assert_allclose(told['p_loss'], p_loss, rtol=1e-4)


def test_losses_are_of_rows_from_everywhere(monkeypatch):
  monkeypatch.setattr(validation, 'N_ROWS', 5)
  rows = rows_of_pendulum()
  batch = validation.Validation(None, rows).batch
  some = np.linspace(0, len(rows.reward) - 1, 5).astype(int)
  np.testing.assert_array_equal(batch.r, rows.reward[some])
  np.testing.assert_array_equal(batch.s1, rows.s1[some])


def test_the_numbers_of_sac_are_those_of_the_saved_critics_on_what_is_held_out(run):
  folder = run(
    'sac', rows_of_pendulum(), FRACTION, agent_name='sac',
    model_params=(((8, 8),), 2), discount=0.9,
  )  # fmt: skip
  weights, (_, held) = values(folder / 'agent'), parts()
  mean, log_std = policy(weights, held.s2)
  z = mean + np.exp(log_std) * noise(len(held.reward))

  def q(k, copy, s, a):
    return dense(weights, f'agent/_q_nets/{k}/{copy}', np.concatenate([s, a], -1))[:, 0]

  v = np.minimum(*(q(k, 1, held.s2, 2 * np.tanh(z)) for k in (0, 1)))
  v -= np.exp(weights['agent/_log_alpha']) * log_density(mean, log_std, z)
  y = held.reward + 0.9 * held.discount * v
  want = sum(np.mean((q(k, 0, held.s1, held.a1) - y) ** 2) for k in (0, 1))
  told = last(folder)
  np.testing.assert_allclose(told['q_loss'], want, rtol=1e-4)
  np.testing.assert_allclose(told['r_mean'], held.reward.mean(), rtol=1e-5)
  assert told.keys() >= {'q_loss', 'p_loss', 'a_loss', 'q1_target_mean'}
