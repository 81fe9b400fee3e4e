"""Collecting, evaluating and acting online: what is stored is what the environment did."""

import logging
import os

import gym
import numpy as np
import pytest
import tensorflow as tf
from odd_environments import Opens, Strict

from brac import checkpoints, collection, environments, numpy_calls, rng, rollouts
from brac.data import stored, transitions
from brac.data.transitions import CUT_OFF, GOES_ON, TERMINAL, TIME_LIMIT, Transitions
from brac.errors import UserError
from brac.networks import Actor, Box
from brac.policies import ActorPolicy, EpsilonPolicy, GaussianPolicy, Policy, RandomPolicy
from brac.rng import INIT, Rng
from brac.rollouts import Collection, Evaluator, OnlineRollout, compiled

pytestmark = pytest.mark.filterwarnings('ignore:.*out of date')


class Spring(Policy):
  """Pulls each action against one number of the state; the same bits for a batch and for a row."""

  def act(self, s, rng):
    return self.box.clip(-0.7 * s[:, -self.box.n_actions :])


def specs_of(env_name):
  env = environments.described(env_name)
  return env.observation_spec, env.action_spec


def random_policy(env_name):
  return RandomPolicy(*specs_of(env_name))


def spring(env_name):
  return Spring(*specs_of(env_name))


def actor_policy(env_name, mode=False):
  observation_spec, action_spec = specs_of(env_name)
  actor = Actor(observation_spec.shape[0], (8,), Box.of(action_spec), Rng(7, INIT))
  return ActorPolicy(observation_spec, action_spec, actor, mode)


def room_for(n, env_name):
  return Transitions.zeros(n, *(spec.shape[0] for spec in specs_of(env_name)))


def collect(env_name, policy, n, seed=0, n_envs=200):
  collection = Collection(env_name, policy, room_for(n, env_name), seed, n_envs)
  while collection.advance():
    pass
  assert collection.n_done == n
  return collection.transitions


def assert_equal(a, b):
  for x, y in zip(a, b):
    np.testing.assert_array_equal(x, y)


def assert_consecutive(t):
  """Rows that go on are followed by the next step of their episode, the others by a first one."""
  assert t.end[-1] != GOES_ON
  goes_on = np.flatnonzero(t.end == GOES_ON)
  np.testing.assert_array_equal(t.s2[goes_on], t.s1[goes_on + 1])
  np.testing.assert_array_equal(t.a2[goes_on], t.a1[goes_on + 1])
  others = np.flatnonzero(t.end[:-1] != GOES_ON)
  assert np.all(np.any(t.s2[others] != t.s1[others + 1], axis=1))
  np.testing.assert_array_equal(t.discount, t.end != TERMINAL)


def episode_lengths(t):
  return np.diff(np.flatnonzero(t.end != GOES_ON), prepend=-1)


def assert_replays(env_name, t, row_seed):
  """One plain gym environment, given the actions, does what the rows say, through all episodes."""
  env = gym.make(env_name)
  s = env.reset(seed=row_seed)
  for i in range(len(t.reward)):
    np.testing.assert_array_equal(t.s1[i], np.float32(s))
    s, reward, done, info = env.step(t.a1[i])
    np.testing.assert_array_equal(t.s2[i], np.float32(s))
    assert t.reward[i] == np.float32(reward)
    if done:
      limit = info.get('TimeLimit.truncated', False)
      assert t.end[i] == (TIME_LIMIT if limit else TERMINAL)
      s = env.reset()
    else:
      assert t.end[i] in (GOES_ON, CUT_OFF)


# --- Collection -----------------------------------------------------------------------------------


@pytest.mark.parametrize('n', [1, 37, 199, 200, 201, 1999, 2150])
def test_a_collection_has_exactly_the_transitions_asked_for(n):
  t = collect('Pendulum-v1', random_policy('Pendulum-v1'), n)
  assert [len(values) for values in t] == [n] * 7
  assert t.s1.shape == (n, 3) and t.a1.shape == (n, 1)
  assert_consecutive(t)
  # Rows that nobody filled would be zeros, which no state of a pendulum is.
  for states in (t.s1, t.s2):
    np.testing.assert_allclose(np.hypot(states[:, 0], states[:, 1]), 1, rtol=1e-5)
  assert set(t.end) <= {GOES_ON, TIME_LIMIT, CUT_OFF}
  assert set(t.discount) == {1}


def test_stretches_are_episodes_in_a_row_and_cut_off_at_their_end_alone():
  t = collect('Pendulum-v1', random_policy('Pendulum-v1'), 2050, n_envs=4)
  edges = np.arange(5) * 2050 // 4
  np.testing.assert_array_equal(np.flatnonzero(t.end == CUT_OFF), edges[1:] - 1)
  within = np.concatenate([[low + 199, low + 399] for low in edges[:-1]])
  np.testing.assert_array_equal(np.flatnonzero(t.end == TIME_LIMIT), within)


def test_a_stretch_that_ends_with_its_episode_is_not_cut_off():
  t = collect('Pendulum-v1', random_policy('Pendulum-v1'), 800, n_envs=2)
  np.testing.assert_array_equal(np.flatnonzero(t.end != GOES_ON), [199, 399, 599, 799])
  assert set(t.end) == {GOES_ON, TIME_LIMIT}


@pytest.mark.parametrize('env_name', ['Pendulum-v1', 'Hopper-v2'])
def test_a_collection_is_what_single_environments_do(env_name):
  t = collect(env_name, random_policy(env_name), 2500, seed=3, n_envs=2)
  for k, row_seed in enumerate(environments.row_seeds(3, 2)):
    stretch = slice(1250 * k, 1250 * (k + 1))
    assert_replays(env_name, Transitions(*(values[stretch] for values in t)), row_seed)


@pytest.mark.parametrize('env_name', ['Pendulum-v1', 'Hopper-v2'])
def test_actions_are_the_policys_at_the_end_of_an_episode_too(env_name):
  policy = spring(env_name)
  t = collect(env_name, policy, 2100, n_envs=2)
  np.testing.assert_array_equal(t.a1, policy.act(t.s1, Rng(0)))
  np.testing.assert_array_equal(t.a2, policy.act(t.s2, Rng(0)))
  assert len(set(t.end)) >= 3


def test_a_step_into_a_terminal_state_is_stored_with_discount_0():
  t = collect('Hopper-v2', random_policy('Hopper-v2'), 2000)
  assert_consecutive(t)
  terminal = np.flatnonzero(t.end == TERMINAL)
  assert len(terminal) > 20 and set(t.discount[terminal]) == {0}
  assert set(t.discount[t.end != TERMINAL]) == {1}
  # A hopper has fallen there: its height (the first number) or its angle is out of bounds.
  fallen = (t.s2[:, 0] <= 0.7) | (np.abs(t.s2[:, 1]) >= 0.2)
  np.testing.assert_array_equal(np.flatnonzero(fallen), terminal)
  # The next row is a first step, not the reset.
  starts = np.concatenate([[0], terminal[terminal + 1 < 2000] + 1])
  np.testing.assert_allclose(t.s1[starts, 0], 1.25, atol=0.0051)
  assert not np.any(np.all(t.s1 == t.s2, axis=1))


def test_a_time_limit_keeps_discount_1():
  t = collect('HalfCheetah-v2', random_policy('HalfCheetah-v2'), 2000)
  np.testing.assert_array_equal(np.flatnonzero(t.end == TIME_LIMIT), [999, 1999])
  assert set(t.end) == {GOES_ON, TIME_LIMIT} and set(t.discount) == {1}
  assert_consecutive(t)


def test_no_more_environments_than_whole_episodes():
  t = collect('Pendulum-v1', random_policy('Pendulum-v1'), 999, n_envs=200)
  # Four stretches of an episode and a bit.
  assert sorted(episode_lengths(t)) == [49, 50, 50, 50, 200, 200, 200, 200]


def test_a_mixture_explores_row_by_row_in_a_collection():
  base = spring('Pendulum-v1')
  t = collect('Pendulum-v1', EpsilonPolicy(base, 0.3), 4000, n_envs=20)
  explores = np.any(t.a1 != base.act(t.s1, Rng(0)).numpy(), axis=1).reshape(20, 200)
  assert abs(explores.mean() - 0.3) < 0.04
  # Were it one draw for all, the environments would explore at the same steps.
  assert explores.mean(axis=0).max() < 0.8 and explores.mean(axis=1).max() < 0.5


@pytest.mark.parametrize('n', [2, 10, 600_000, 10_000_000])
@pytest.mark.parametrize(
  'proportions', [(1.0,), (0.2, 0.4, 0.4), (0.3999991, 0.6), (0.4000009, 0.6), (0.3333333,) * 3]
)
def test_every_row_of_a_collection_is_of_a_policy(proportions, n):
  edges = collection.edges_of(proportions, n)
  assert edges[0] == 0 and edges[-1] == n
  np.testing.assert_allclose(np.diff(edges), np.multiply(proportions, n), rtol=0, atol=1 + 1e-6 * n)


def test_each_part_of_a_data_config_is_collected_by_its_own_policy(tmp_path):
  box, parts = Box.of(specs_of('Pendulum-v1')[1]), []
  for name, push, proportion in (('left', -3.0, 0.25), ('right', 3.0, 0.5), ('idle', 0.0, 0.25)):
    actor = Actor(3, (8,), box, Rng(0, INIT))
    bias, kernel = actor.variables[-2:]
    kernel.assign(0 * kernel)
    bias.assign([push, -9.0])  # the mean, and a small deviation
    checkpoints.save(str(tmp_path / name), policy=actor)
    parts.append([name, ['load', str(tmp_path / name), ['none'], (8,)], proportion])
  (tmp_path / 'dcfg_three.py').write_text(f'get_data_config = lambda *_: {parts}')
  collection.collect(
    str(tmp_path / 'run'), 'Pendulum-v1', str(tmp_path), 'dcfg_three', None, 400, 1, 0
  )
  rows = stored.load(str(tmp_path / 'run' / 'data'), 3, 1)
  for actions in (rows.a1, rows.a2):
    np.testing.assert_allclose(actions[:, 0], np.repeat([-2, 2, 0], [100, 200, 100]), atol=0.1)


@pytest.mark.parametrize('env_name', ['Pendulum-v1', 'Hopper-v2'])
def test_equal_seeds_give_equal_bits_and_others_do_not(env_name):
  policy = actor_policy(env_name)
  t, again, other = (collect(env_name, policy, 1000, seed) for seed in (5, 5, 6))
  assert_equal(t, again)
  assert np.any(t.s1[0] != other.s1[0]) and np.any(t.a1[0] != other.a1[0])


@pytest.mark.parametrize(
  'env_name, stops',
  [
    ('Pendulum-v1', [1, 150, 207, 499]),
    ('Pendulum-v1', list(range(0, 500, 40))),
    ('Hopper-v2', [1, 400, 401, 1100]),
  ],
)
def test_a_collection_goes_on_from_its_state_bit_for_bit(env_name, stops):
  policy = actor_policy(env_name)

  def make():
    return Collection(env_name, policy, room_for(1500, env_name), seed=2, n_envs=3)

  straight = make()
  while straight.advance():
    pass
  stopped, step, going = make(), 0, True
  while going:
    if step in stops:
      taken_up = make()
      taken_up.state = stopped.state
      assert taken_up.n_done == stopped.n_done
      for values, old in zip(taken_up.transitions, stopped.transitions):
        values[:] = old
      stopped = taken_up
    going = stopped.advance()
    step += 1
  assert_equal(straight.transitions, stopped.transitions)
  assert step > max(stops)


def test_the_state_of_a_rollout_is_taken_up_by_another_bit_for_bit():
  policy = actor_policy('Hopper-v2')

  def make():
    env = environments.make_batch('Hopper-v2', 3, 4)
    return rollouts.Rollout(env, compiled([policy], 3, 4, rng.ACT))

  def advance(rollout, n):
    # Rows come and go, as the stretches of a collection do.
    return [rollout.advance(np.array([True, k % 2 == 0, k % 3 > 0])) for k in range(n)]

  a, b = make(), make()
  advance(a, 60)
  state = a.state
  b.state = state
  assert b.state == state
  for x, y in zip(advance(a, 60), advance(b, 60)):
    assert_equal(x, y)


# --- Evaluation -----------------------------------------------------------------------------------


def evaluate(policy, step, seed):
  return Evaluator('Pendulum-v1', {'main': policy}, 3, seed).run(step)['main']


def plain_returns(env_name, act, seed, step, n):
  """The returns of n episodes in single gym environments, in plain Python."""
  batch_seed = int(np.random.SeedSequence((seed, rng.EVALUATE, step)).generate_state(1)[0])
  returns = []
  for row_seed in environments.row_seeds(batch_seed, n):
    env = gym.make(env_name)
    s, done, total = env.reset(seed=row_seed), False, 0.0
    while not done:
      s, reward, done, _ = env.step(act(np.float32(s)[None])[0])
      total += float(np.float32(reward))
    returns.append(total)
  return returns


@pytest.mark.parametrize('env_name', ['Pendulum-v1', 'Hopper-v2'])
def test_returns_are_those_of_a_plain_loop(env_name):
  policy = spring(env_name)
  evaluator = Evaluator(env_name, {'main': policy, 'again': policy}, 4, seed=3)
  returns, again = evaluator.run(500).values()
  expect = plain_returns(env_name, lambda s: policy.act(s, Rng(0)).numpy(), 3, 500, 4)
  np.testing.assert_allclose(returns, expect, rtol=1e-12)
  np.testing.assert_array_equal(again, returns)  # for both had the same starts
  assert len(set(returns)) == 4


def test_returns_of_an_actor_are_those_of_a_plain_loop():
  policy = actor_policy('Pendulum-v1', mode=True)
  act = tf.function(lambda s: policy.act(s, Rng(0)), autograph=False)
  returns = evaluate(policy, 7, seed=0)
  expect = plain_returns('Pendulum-v1', lambda s: act(tf.constant(s)).numpy(), 0, 7, 3)
  # A product of another size may round in another way.
  np.testing.assert_allclose(returns, expect, rtol=1e-3)


@pytest.mark.parametrize('mode', [True, False])
def test_an_evaluation_is_a_function_of_seed_and_step(mode):
  policy = actor_policy('Pendulum-v1', mode)
  evaluator = Evaluator('Pendulum-v1', {'main': policy}, 3, seed=1)
  returns = evaluator.run(10)['main']
  assert returns.shape == (3,) and evaluator.n_steps == 600
  others = evaluator.run(20)['main'], evaluate(policy, 10, seed=2)
  # Asked again, after others and by another evaluator.
  np.testing.assert_array_equal(evaluator.run(10)['main'], returns)
  np.testing.assert_array_equal(evaluate(policy, 10, seed=1), returns)
  for other in others:
    assert not set(other) & set(returns)


def test_an_evaluation_sees_the_policy_as_it_is_now():
  policy = actor_policy('Pendulum-v1', mode=True)
  evaluator = Evaluator('Pendulum-v1', {'main': policy}, 3, seed=1)
  before = evaluator.run(0)['main']
  for variable in policy.variables():
    variable.assign(-2 * variable)
  assert np.all(evaluator.run(0)['main'] != before)


def test_policies_side_by_side_do_as_each_alone():
  policies = {'spring': spring('Hopper-v2'), 'random': random_policy('Hopper-v2')}
  together = Evaluator('Hopper-v2', policies, 5, seed=0).run(3)
  assert list(together) == ['spring', 'random']
  for name, policy in policies.items():
    alone = Evaluator('Hopper-v2', {name: policy}, 5, seed=0).run(3)[name]
    np.testing.assert_allclose(together[name], alone, rtol=1e-6)


# --- Online ---------------------------------------------------------------------------------------


def advance_online(rollout, policy, first, n):
  """n steps of a policy in a compiled loop, with the draws of training steps from `first` on."""

  def step(i):
    rollout.advance(policy, Rng(11, rng.TRAIN, i))
    return i + 1

  @tf.function(autograph=False)
  def loop(start, end):
    tf.while_loop(lambda i: i < end, step, [start])

  loop(tf.constant(first), tf.constant(first + n))


def held(rollout):
  data = rollout.data.held()
  return Transitions(*(getattr(data, '_' + name).numpy() for name in Transitions._fields))


@pytest.mark.parametrize('env_name', ['Pendulum-v1', 'Hopper-v2'])
def test_online_data_is_what_the_environment_did(env_name):
  rollout = OnlineRollout(env_name, capacity=1000, seed=5)
  rollout.explore(350)
  assert rollout.data.size == 350
  advance_online(rollout, actor_policy(env_name), 0, 300)
  t = held(rollout)
  assert len(t.reward) == 650
  goes_on = np.flatnonzero(t.end[:-1] == GOES_ON)
  np.testing.assert_array_equal(t.s2[goes_on], t.s1[goes_on + 1])
  np.testing.assert_array_equal(t.a2[goes_on], t.a1[goes_on + 1])
  np.testing.assert_array_equal(t.discount, t.end != TERMINAL)
  if env_name == 'Pendulum-v1':
    np.testing.assert_array_equal(np.flatnonzero(t.end == TIME_LIMIT), [199, 399, 599])
  else:
    assert np.count_nonzero(t.end == TERMINAL) > 5
  assert_replays(env_name, t, environments.row_seeds(5, 1)[0])


def test_explore_is_uniform_over_the_box_and_drawn_by_the_seed():
  def explored(seed, n):
    rollout = OnlineRollout('Pendulum-v1', capacity=1000, seed=seed)
    rollout.explore(n)
    return held(rollout)

  t = explored(0, 1000)
  counts = np.histogram(t.a1, 5, [-2, 2])[0]
  assert np.all(np.diff(t.a1[:, 0]) != 0)  # each is drawn by itself
  assert counts.sum() == 1000 and np.sum((counts - 200) ** 2 / 200) < 25
  assert_equal(t, explored(0, 1000))
  assert np.all(explored(1, 20).a1 != t.a1[:20])


def test_collections_and_evaluations_draw_their_actions_from_streams_of_their_own(monkeypatch):
  taken, real = [], rollouts.compiled

  def compiled(policies, n, seed, stream):
    taken.append(stream)
    return real(policies, n, seed, stream)

  monkeypatch.setattr(rollouts, 'compiled', compiled)
  policy = spring('Pendulum-v1')
  Evaluator('Pendulum-v1', {'main': policy}, 1, 0)
  Collection('Pendulum-v1', policy, Transitions.zeros(10, 3, 1), 0, n_envs=1)
  assert taken == [rng.EVALUATE, rng.ACT]


def test_online_actions_are_the_policys():
  policy = spring('Pendulum-v1')
  rollout = OnlineRollout('Pendulum-v1', capacity=500, seed=0)
  rollout.explore(10)
  advance_online(rollout, policy, 0, 300)
  t = held(rollout)
  # The first step takes the action that exploring had in hand.
  np.testing.assert_array_equal(t.a1[11:], policy.act(t.s1[11:], Rng(0)))
  np.testing.assert_array_equal(t.a2[10:], policy.act(t.s2[10:], Rng(0)))
  assert TIME_LIMIT in t.end


def test_an_environment_is_called_in_one_thread_alone(tmp_path):
  rollout = OnlineRollout('OneThread-v0', capacity=100, seed=0)
  rollout.explore(30)
  advance_online(rollout, random_policy('OneThread-v0'), 0, 50)
  checkpoints.save(str(tmp_path / 'a'), data=rollout.data.held(), rollout=rollout.hold())
  rollout.take_up(str(tmp_path / 'a'))
  rollout.explore(10)
  assert rollout.data.size == 90
  rollout.close()
  policies = {'a': random_policy('OneThread-v0'), 'b': random_policy('OneThread-v0')}
  assert Evaluator('OneThread-v0', policies, 2, seed=0).run(0)
  assert len(collect_to(tmp_path, 'OneThread-v0', 50).reward) == 50


def test_the_oldest_online_data_goes():
  rollout, all_of_it = (OnlineRollout('Pendulum-v1', capacity=n, seed=0) for n in (60, 500))
  for r in (rollout, all_of_it):
    r.explore(50)
    advance_online(r, spring('Pendulum-v1'), 0, 100)
  newest = [values[-60:] for values in held(all_of_it)]
  idx = int(rollout.data._current_idx)
  assert_equal(newest, [np.roll(values, -idx, axis=0) for values in held(rollout)])


@pytest.mark.parametrize('env_name', ['Pendulum-v1', 'Hopper-v2'])
@pytest.mark.parametrize('capacity', [90, 1000])
def test_an_online_rollout_is_taken_up_bit_for_bit(tmp_path, env_name, capacity):
  policy = actor_policy(env_name)

  def make():
    return OnlineRollout(env_name, capacity, seed=5)

  straight = make()
  straight.explore(70)
  advance_online(straight, policy, 0, 250)

  stopped = make()
  stopped.explore(70)
  step = 0
  for n in (1, 129, 100):
    advance_online(stopped, policy, step, n)
    step += n
    path = os.path.join(tmp_path, str(step))
    checkpoints.save(path, data=stopped.data.held(), rollout=stopped.hold())
    # The one that was saved is not touched by it.
    taken_up = make()
    checkpoints.restore(path, rollout=taken_up.variables)
    taken_up.take_up(path)
    assert_equal(held(taken_up), held(stopped))
    advance_online(stopped, policy, step, 5)
    stopped = taken_up
  advance_online(stopped, policy, step, 250 - step)

  assert_equal(held(straight), held(stopped))
  assert int(straight.data._current_idx) == int(stopped.data._current_idx)
  assert straight.hold().env.numpy() == stopped.hold().env.numpy()
  np.testing.assert_array_equal(straight.variables.a, stopped.variables.a)
  np.testing.assert_array_equal(straight.variables.s, stopped.variables.s)


# --- What strangers write -------------------------------------------------------------------------


def collect_to(folder, env_name, n, n_eval_episodes=2):
  """The rows that the experiment collects with uniform actions."""
  (folder / 'dcfg_r.py').write_text(
    "get_data_config = lambda *_: [['r', ['randwalk', '', ['none'], ()], 1.0]]"
  )
  given = str(folder / 'run'), env_name, str(folder), 'dcfg_r', None, n, n_eval_episodes, 0
  collection.collect(*given)
  return stored.load(str(folder / 'run' / 'data'), *(s.shape[0] for s in specs_of(env_name)))


@pytest.mark.parametrize('episode_steps, n_envs', [(5, 8), (None, 1)])
def test_environments_without_a_limit_are_as_many_as_episodes_fit(episode_steps, n_envs):
  name = 'TestShortPendulum-v0'
  room = room_for(40, name)
  collecting = Collection(name, random_policy(name), room, 0, 200, episode_steps)
  while collecting.advance():
    pass
  assert collecting._env.n == n_envs and collecting.n_episodes == 8
  np.testing.assert_array_equal(np.flatnonzero(room.end != GOES_ON), np.arange(4, 40, 5))
  assert set(room.end) == {GOES_ON, TIME_LIMIT}


def test_a_collection_learns_from_its_evaluation_how_long_episodes_are(tmp_path, caplog):
  with caplog.at_level(logging.WARNING, 'absl'):
    rows = collect_to(tmp_path, 'TestShortPendulum-v0', 40)
  np.testing.assert_array_equal(np.flatnonzero(rows.end != GOES_ON), np.arange(4, 40, 5))
  assert not caplog.messages


@pytest.mark.parametrize('env_name', ['Pendulum-v1', 'Endless-v0'])
def test_rows_without_an_episodes_end_are_warned_of(env_name, tmp_path, caplog, monkeypatch):
  monkeypatch.setattr(rollouts, 'LONGEST_EPISODE', 200)
  with caplog.at_level(logging.WARNING, 'absl'):
    rows = collect_to(tmp_path, env_name, 150)
  assert rows.end.tolist() == [GOES_ON] * 149 + [CUT_OFF]
  assert 'r: none of its 150 transitions ends an episode' in caplog.messages[-1]


def test_an_evaluation_without_a_time_limit_ends(monkeypatch, caplog):
  monkeypatch.setattr(rollouts, 'LONGEST_EPISODE', 30)
  evaluator = Evaluator('Endless-v0', {'main': random_policy('Endless-v0')}, 3, 0)
  with caplog.at_level(logging.WARNING, 'absl'):
    returns = evaluator.run(0)['main']
  assert evaluator.longest == 30 and evaluator.n_steps == 90
  assert np.all(returns < 0)
  (message,) = caplog.messages
  assert 'Endless-v0: 3 of 3 evaluated episodes have not ended after 30 steps' in message
  # An environment with a time limit, however long, reaches it.
  evaluator = Evaluator('Pendulum-v1', {'main': random_policy('Pendulum-v1')}, 2, 0)
  evaluator.run(0)
  assert evaluator.longest == 200 and len(caplog.messages) == 1


def test_an_evaluation_of_no_episodes_needs_no_environment():
  evaluator = Evaluator('nothing-v0', {'main': None, 'max_q': None}, 0, 0)
  returns = evaluator.run(5)
  assert list(returns) == ['main', 'max_q'] and all(len(r) == 0 for r in returns.values())


@pytest.mark.parametrize('env_name', ['Strict-v0', 'Strict64-v0', 'Strict16-v0'])
def test_actions_are_stored_as_they_were_taken_and_in_the_space(env_name):
  policy = GaussianPolicy(random_policy(env_name), 0.3)
  Strict.noted.clear()
  t = collect(env_name, policy, 500, n_envs=1)
  noted = np.float32(Strict.noted)
  tolerance = 1e-3 if env_name == 'Strict16-v0' else 0
  np.testing.assert_allclose(t.a1[:, 0], noted, atol=tolerance, rtol=0)
  spec = specs_of(env_name)[1]
  for edge in (spec.minimum, spec.maximum):
    assert np.count_nonzero(t.a1 == edge) > 50
  assert transitions.in_box(t, spec, 'refuse', 'the data') is t
  rollout = OnlineRollout(env_name, 100, 0)
  rollout.explore(20)
  advance_online(rollout, policy, 0, 80)
  assert rollout.data.size == 100


@pytest.mark.parametrize('stop', [7, 20, 33])
def test_a_collection_that_cannot_be_taken_up_is_cut_off_there(stop):
  name, n_envs = 'Unpicklable-v0', 3
  policy = random_policy(name)
  stopped = Collection(name, policy, room_for(150, name), 0, n_envs)
  stopped.advance(stop)
  n_done = stopped.n_done
  taken_up = Collection(name, policy, stopped.transitions, 0, 1)
  taken_up.state = stopped.state
  while taken_up.advance():
    pass
  t = taken_up.transitions
  assert_consecutive(t)
  lasts = np.arange(n_envs) * 50 + n_done // n_envs - 1
  assert set(t.end[lasts]) == {TIME_LIMIT if stop == 20 else CUT_OFF}
  starts = t.s1[np.concatenate([lasts + 1, np.arange(n_envs) * 50])]
  assert np.all(starts[:, 1] == 0) and len(np.unique(starts[:, 0])) == 2 * n_envs
  assert taken_up.n_episodes == np.count_nonzero(t.end == TIME_LIMIT)


def test_an_online_rollout_that_cannot_be_taken_up_is_cut_off_there(tmp_path, caplog):
  name, path = 'Unpicklable-v0', str(tmp_path / 'state')

  def make():
    return OnlineRollout(name, 100, 0)

  stopped = make()
  stopped.explore(33)
  checkpoints.save(path, data=stopped.data.held(), rollout=stopped.hold())
  taken_up = make()
  checkpoints.restore(path, rollout=taken_up.variables)
  caplog.clear()
  with caplog.at_level(logging.WARNING, 'absl'):
    taken_up.take_up(path)
  (message,) = caplog.messages
  assert 'Unpicklable-v0: 1 of the 1 episodes that were under way cannot be taken up' in message
  taken_up.explore(30)
  t = held(taken_up)
  np.testing.assert_array_equal(np.flatnonzero(t.end != GOES_ON), [19, 32, 52])
  assert t.end[32] == CUT_OFF and t.discount[32] == 1
  goes_on = np.flatnonzero(t.end[:-1] == GOES_ON)
  np.testing.assert_array_equal(t.s2[goes_on], t.s1[goes_on + 1])
  assert np.all(t.s1[[20, 33, 53], 1] == 0) and len(np.unique(t.s1[[0, 20, 33, 53], 0])) == 4


def test_what_goes_wrong_in_an_environment_arrives_as_one_line():
  line = '^Fragile-v0 cannot be stepped: FloatingPointError: it has blown up$'
  policy = random_policy('Fragile-v0')
  with pytest.raises(UserError, match=line):
    Evaluator('Fragile-v0', {'main': policy}, 2, 0).run(0)
  rollout = OnlineRollout('Fragile-v0', 100, 0)
  with pytest.raises(UserError, match=line):
    rollout.explore(30)
  rollout = OnlineRollout('Fragile-v0', 100, 0)
  rollout.explore(5)
  with pytest.raises(UserError, match=line), numpy_calls.errors():
    advance_online(rollout, policy, 0, 30)


# --- Stopping and closing -------------------------------------------------------------------------


class Stop:
  """Asks to stop when it was asked so many times."""

  def __init__(self, after):
    self.left = after

  def __call__(self):
    self.left -= 1
    return self.left < 0


def test_a_collection_stops_between_two_steps():
  policy = actor_policy('Pendulum-v1')
  straight = collect('Pendulum-v1', policy, 800, n_envs=4)
  stop = Stop(33)
  stopped = Collection(
    'Pendulum-v1', policy, room_for(800, 'Pendulum-v1'), 0, 4, stop_requested=stop
  )
  assert stopped.advance(1000) and stopped.n_done == 4 * 33
  stop.left = 1000
  assert not stopped.advance(1000)
  assert_equal(straight, stopped.transitions)


def test_an_evaluation_gives_up_between_two_steps():
  stop = Stop(10)
  evaluator = Evaluator('Opens-v0', {'main': random_policy('Opens-v0')}, 3, 0, stop)
  with pytest.raises(rollouts.Interrupted):
    evaluator.run(0)
  assert evaluator.n_steps == 30 and not Opens.held
  stop.left = 1000
  assert len(evaluator.run(0)['main']) == 3


def test_exploring_stops_in_between():
  stop = Stop(1)
  stopped, straight = (OnlineRollout('Pendulum-v1', 100, 0, s) for s in (stop, rollouts.never))
  stopped.explore(40)
  assert 0 < stopped.n_explored == stopped.data.size < 40
  stop.left = 1000
  stopped.explore(40 - stopped.n_explored)
  straight.explore(40)
  assert_equal(held(stopped), held(straight))


def test_nothing_is_left_open(tmp_path):
  collect_to(tmp_path, 'Opens-v0', 100)
  Evaluator('Opens-v0', {'main': random_policy('Opens-v0')}, 3, 0).run(0)
  rollout = OnlineRollout('Opens-v0', 100, 0)
  rollout.explore(30)
  assert len(Opens.held) == 1
  rollout.close()
  assert not Opens.held
