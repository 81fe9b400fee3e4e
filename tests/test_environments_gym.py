"""What strangers write, in the suite of all that gym knows."""

import gc
import importlib.util
import inspect
import logging
import os
import pickle
import random
import re

import gym
import numpy as np
import pytest
from environment_helpers import assert_user_error, random_actions, roll
from odd_environments import FAULTS, Opens, Strict

from brac import collection, environments
from brac.environments import GOES_ON, TERMINAL, TIME_LIMIT, make_batch
from brac.environments import batch as batch_module

pytestmark = pytest.mark.filterwarnings('ignore:.*out of date')


def test_an_environment_seeded_in_the_old_way():
  batches = [make_batch('TestOldPendulum-v0', 2, seed) for seed in (0, 0, 1)]
  first = [batch.reset() for batch in batches]
  np.testing.assert_array_equal(first[0], first[1])
  assert (first[0] != first[2]).any()


def test_an_environment_that_tells_two_ends_apart():
  batch = make_batch('Newer-v0', 20, seed=0)
  x, seen = batch.reset()[:, 0], set()
  for t in range(1, 8):
    observations, _, ends = batch.step(np.ones([20, 1], np.float32))
    terminal = observations[:, 0] > 0.5
    np.testing.assert_allclose(observations[:, 0], x + 0.1 * t, atol=1e-6)
    expected = np.where(terminal, TERMINAL, TIME_LIMIT if t == 7 else GOES_ON)
    np.testing.assert_array_equal(ends, expected)
    seen |= set(ends)
  assert seen == {GOES_ON, TERMINAL, TIME_LIMIT}


@pytest.mark.parametrize('name', ['one', 'two', 'inner', 'outer', 'three', 'own'])
def test_a_time_limit_is_one_however_often_the_environment_has_it(name):
  batch = make_batch(f'Limit_{name}-v0', 20, seed=0)
  x, seen = batch.reset()[:, 0], set()
  for t in range(1, 8):
    ends = batch.step(np.ones([20, 1], np.float32))[2]
    expected = np.where(x + 0.1 * t > 0.6, TERMINAL, TIME_LIMIT if t == 7 else GOES_ON)
    np.testing.assert_array_equal(ends, expected)
    seen |= set(ends)
  assert seen == {GOES_ON, TERMINAL, TIME_LIMIT}


def flat(observation):
  """An observation's numbers, of a Dict in the order of its names."""
  if isinstance(observation, dict):
    observation = tuple(observation[key] for key in sorted(observation))
  if isinstance(observation, tuple):
    return np.concatenate([np.ravel(flat(part)) for part in observation])
  return np.array(observation)


ALONE = ('Point-v0', 'Strict-v0', 'EzPoint-v0', 'OldWrapped-v0', 'Goal-v0', 'SharedBuffer-v0')
ALONE += ('SharedKwargs-v0', 'ReadsLimit-v0', 'AnyReset-v0', 'OldAnyReset-v0', 'Numbers-v0')
ALONE += ('Pair-v0', 'PairWithDict-v0', 'EzCurriculum-v0')


@pytest.mark.parametrize('name', ALONE)
def test_a_row_does_what_the_environment_does_by_itself(name):
  batch = make_batch(name, 3, seed=0)
  first, actions = batch.reset(), random_actions(batch, 10)
  steps = [batch.step(a) for a in actions]
  for row, seed in enumerate(environments.row_seeds(0, 3)):
    env = gym.make(name).unwrapped
    if name == 'OldAnyReset-v0':
      env.seed(seed)
    start = env.reset(seed=seed)
    if name == 'OldWrapped-v0':  # a wrapper that hands no seed on resets again
      start = env.reset()
    np.testing.assert_allclose(first[row], flat(start), rtol=1e-6)
    for action, (observations, rewards, _) in zip(actions, steps):
      observation, reward, _, _ = env.step(action[row].copy())
      np.testing.assert_allclose(observations[row], flat(observation), rtol=1e-5, atol=1e-6)
      assert rewards[row] == pytest.approx(reward, rel=1e-5)


def test_a_time_limit_inside_the_environment():
  batch = make_batch('TestShortPendulum-v0', 1, seed=0)
  assert batch.max_episode_steps is None
  batch.reset()
  ends = [batch.step(actions)[2][0] for actions in random_actions(batch, 5)]
  assert ends == [GOES_ON] * 4 + [TIME_LIMIT]


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
  collect = inspect.unwrap(collection.collect)  # to whose errors gin adds lines
  assert_user_error(['cannot be stepped'], collect, *given, 'dcfg_r', None, 10, 1, 0)
  assert os.listdir(tmp_path) == ['dcfg_r.py']


# --- Seeds ----------------------------------------------------------------------------------------

# Each of them draws its starts from somewhere else.
SEEDED = ('Point-v0', 'Sampling-v0', 'SharedSpace-v0', 'GlobalRandom-v0', 'EzSampling-v0')
SEEDED += ('EzOwnGenerator-v0', 'OldWrapped-v0', 'Newer-v0')


def episodes(name, seed, disturb=lambda: None):
  """The bytes of some episodes of three environments; `disturb` is called in between."""
  batch = make_batch(name, 3, seed)
  seen = batch.reset().tobytes()
  for actions in random_actions(batch, 30):
    disturb()
    seen += roll(batch, actions[None])
  return seen


@pytest.mark.parametrize('name', SEEDED)
def test_equal_seeds_give_equal_numbers_whatever_else_draws(name):
  other = make_batch(name, 2, 9)

  def disturb():
    other.reset()
    other.step(random_actions(other, 1)[0])

  expected = episodes(name, 0)
  np.random.seed(7)
  random.seed(7)
  assert episodes(name, 0) == expected
  assert episodes(name, 0, disturb) == expected
  assert episodes(name, 1) != expected


@pytest.mark.parametrize('name', SEEDED)
def test_rows_and_episodes_start_differently(name):
  batch = make_batch(name, 3, seed=0)
  starts = np.concatenate([batch.reset() for _ in range(4)])
  assert len(np.unique(starts, axis=0)) == 12


def test_the_process_has_its_own_generators_back_when_a_batch_is_closed():
  np.random.seed(3)
  random.seed(3)
  expected = np.random.normal(), random.random()
  np.random.seed(3)
  random.seed(3)
  with make_batch('GlobalRandom-v0', 2, 0) as batch:
    batch.reset()
    batch.step(random_actions(batch, 1)[0])
  assert (np.random.normal(), random.random()) == expected


# --- State ----------------------------------------------------------------------------------------

RESTORED = ('Sampling-v0', 'SharedSpace-v0', 'GlobalRandom-v0', 'EzPoint-v0', 'EzScaling-v0')
RESTORED += ('EzSampling-v0', 'OldWrapped-v0', 'Newer-v0', 'Goal-v0')


@pytest.mark.parametrize('n_steps', (10, 50))
@pytest.mark.parametrize('name', RESTORED)
def test_state_goes_on_bit_for_bit_whatever_the_environment_draws_from(name, n_steps):
  batch = make_batch(name, 3, seed=0)
  batch.reset()
  actions = random_actions(batch, 50)
  roll(batch, actions[:n_steps])
  state = batch.state
  expected = roll(batch, actions)
  anew = make_batch(name, 3, seed=1)
  anew.reset()
  np.random.seed(8)
  anew.state = state
  assert not anew.cut.size
  assert anew.state == state
  assert roll(anew, actions) == expected


@pytest.mark.parametrize(
  'name, why',
  [
    ('Unpicklable-v0', 'AttributeError'),
    ('EzOwnGenerator-v0', 'come out otherwise'),
    ('EzNoisy-v0', 'come out otherwise'),
  ],
)
def test_an_episode_that_cannot_be_taken_up_is_cut(name, why):
  batch = make_batch(name, 3, seed=0)
  starts = [batch.reset() for _ in range(5)]
  actions = random_actions(batch, 10)
  roll(batch, actions)
  states = [batch.state]
  for _ in range(3):
    anew = make_batch(name, 3, seed=0)
    starts.append(anew.reset()[:0])
    anew.state = states[-1]
    np.testing.assert_array_equal(anew.cut, [0, 1, 2])
    assert why in anew.why_cut
    # What begins instead is as new as it can be, and the same for the same seed.
    starts += [anew.reset(), anew.reset()]
    states.append(anew.state)
  starts = np.concatenate(starts)
  assert len(np.unique(starts, axis=0)) == len(starts)
  again = make_batch(name, 3, seed=0)
  again.reset()
  again.state = states[-2]
  np.testing.assert_array_equal(again.reset(), starts[-6:-3])


def test_an_episode_whose_rewards_come_out_otherwise_is_cut():
  batch, anew = (make_batch('EzCurriculum-v0', 3, seed) for seed in (0, 1))
  for rows in (None, [0, 2], [0, 2]):  # the third episode of two of them
    batch.reset(rows)
  roll(batch, random_actions(batch, 10))
  anew.reset()
  anew.state = batch.state
  np.testing.assert_array_equal(anew.cut, [0, 2])
  assert 'come out otherwise' in anew.why_cut


def test_only_what_comes_out_otherwise_is_cut():
  batch = make_batch('EzOwnGenerator-v0', 3, seed=0)
  batch.reset()
  batch.reset([1])  # the others are in the episode that their seed began
  actions = random_actions(batch, 10)[:, :2]
  for a in actions:
    batch.step(a, [0, 2])
  anew = make_batch('EzOwnGenerator-v0', 3, seed=1)
  anew.reset()
  anew.state = batch.state
  np.testing.assert_array_equal(anew.cut, [1])
  for a in actions:
    np.testing.assert_array_equal(anew.step(a, [0, 2])[0], batch.step(a, [0, 2])[0])


def test_a_state_of_another_version_of_the_code_is_begun_anew():
  batch = make_batch('Point-v0', 2, seed=0)
  first = batch.reset()
  for state in (b'no pickle', batch.state[:40]):
    batch.state = state
    np.testing.assert_array_equal(batch.cut, [0, 1])
    assert batch.why_cut
    assert (batch.reset() != first).any()


# --- Trial ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  'name, saves, words',
  [
    *((name, True, None) for name in (*RESTORED, 'Pendulum-v1', 'Hopper-v2', 'Strict-v0')),
    ('Entropy-v0', True, 'does not give the same numbers'),
    ('Unpicklable-v0', False, 'cannot be saved (AttributeError'),
    ('Forgetful-v0', False, 'is not as it was'),
    ('EzOwnGenerator-v0', False, 'is not as it was'),
    ('EzNoisy-v0', False, 'is not as it was'),
  ],
)
def test_a_trial_says_in_a_line_what_cannot_be_had(name, saves, words, caplog):
  with caplog.at_level(logging.WARNING, 'absl'):
    assert environments.try_out(name, 0) == saves
  assert len(caplog.messages) == (words is not None)
  for message in caplog.messages:
    assert name in message and words in message and '\n' not in message


@pytest.mark.parametrize('fault', ('reset', 'step'))
def test_a_trial_raises_what_goes_wrong_at_once(fault):
  name = f'TestFault{list(FAULTS).index(fault)}-v0'
  assert_user_error([FAULTS[fault]], environments.try_out, name, 0)


def test_a_batch_that_does_not_save_is_begun_anew():
  batch = make_batch('Point-v0', 2, seed=0)
  batch.saves = False
  batch.reset()
  batch.state = batch.state
  np.testing.assert_array_equal(batch.cut, [0, 1])


# --- Closing --------------------------------------------------------------------------------------


@pytest.fixture
def n_open():
  """How many environments are open."""
  gc.collect()
  assert not Opens.held
  return lambda: len(Opens.held)


def test_a_batch_closes_what_it_opened(n_open):
  with make_batch('Opens-v0', 3, 0) as batch:
    assert n_open() == 3
  assert n_open() == 0
  batch.close()
  assert n_open() == 0


def test_a_batch_that_is_forgotten_closes(n_open):
  make_batch('Opens-v0', 3, 0).reset()
  gc.collect()
  assert n_open() == 0


def test_what_was_made_before_one_failed_is_closed(n_open):
  assert_user_error(
    ['OpensThree-v0 cannot be made here: MemoryError: no'], make_batch, 'OpensThree-v0', 4, 0
  )
  gc.collect()
  assert n_open() == 0


def test_a_batch_closes_what_a_restored_state_replaces(n_open):
  batch = make_batch('Opens-v0', 2, 0)
  batch.reset()
  batch.state = batch.state
  assert n_open() == 0 and not batch.cut.size


def test_what_fails_to_close_is_a_warning(n_open, caplog):
  with caplog.at_level(logging.WARNING, 'absl'):
    make_batch('Stuck-v0', 2, 0).close()
  assert caplog.messages == ['Stuck-v0 cannot be closed: RuntimeError: it is stuck'] * 2
  assert n_open() == 0


def test_a_look_and_a_trial_leave_nothing_open(n_open):
  assert environments.described('Opens-v0').max_episode_steps == 20
  environments.try_out('Opens-v0', 0)
  assert n_open() == 0


# --- Actions --------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ('Strict-v0', 'Strict64-v0', 'Strict16-v0', 'Point-v0'))
def test_the_edges_of_the_action_spec_are_in_the_space(name):
  batch = make_batch(name, 2, 0)
  batch.reset()
  spec = batch.action_spec
  Strict.noted.clear()
  for edge in (spec.minimum, spec.maximum):
    assert edge.dtype == np.float32
    batch.step(np.tile(edge, [2, 1]))
  # As far as float32 goes.
  space = batch._envs[0].action_space
  assert np.all(np.nextafter(spec.minimum, np.float32(-9)) < space.low)
  assert np.all(np.nextafter(spec.maximum, np.float32(9)) > space.high)


def test_a_state_is_the_same_bytes_whatever_dtypes_are_one_object():
  def make():
    batch = make_batch('Pendulum-v1', 1, seed=0)
    batch.reset()
    batch._envs[0].unwrapped.kept = np.ones([2, 3], order='F')  # and `state` is made in each step
    return batch

  batch, restored = make(), make()
  restored.state = batch.state
  actions = np.full([1, 1], 0.5, np.float32)
  for each in (batch, restored):
    each.step(actions)
  assert restored.state == batch.state
  kept = restored._envs[0].unwrapped.kept
  assert kept.flags.f_contiguous and kept.flags.writeable and kept.flags.owndata
  np.testing.assert_array_equal(kept, 1)


@pytest.mark.parametrize('kind', ['PCG64', 'PCG64DXSM', 'MT19937', 'Philox', 'SFC64'])
def test_a_random_generator_is_saved_by_its_name_and_numbers(kind):
  # For NumPy 2 saves its class, of a module that 1.26 does not load.
  generator = np.random.Generator(getattr(np.random, kind)(3))
  generator.random(), generator.spawn(1)
  generator.integers(9, dtype=np.uint32)  # half of a word is left over
  saved = batch_module._pickled({'generator': generator, 'its': generator.bit_generator})
  assert set(re.findall(rb'numpy\.random\._?\w*', saved)) == {b'numpy.random._generator'}
  loaded = pickle.loads(saved)
  assert loaded['its'] is loaded['generator'].bit_generator
  ours = loaded['generator']
  for draw in (
    lambda g: g.integers(9, size=5, dtype=np.uint32),
    lambda g: g.normal(size=3),
    lambda g: g.spawn(1)[0].random(2),
  ):
    np.testing.assert_array_equal(draw(ours), draw(generator))


@pytest.mark.parametrize(
  'unseeded',
  [lambda: np.random.RandomState(3), lambda: np.random.Generator(np.random.Philox(key=3))],
)
def test_a_generator_without_a_seed_sequence_has_the_same_bytes_each_time(unseeded):
  generator = unseeded()
  once, again = (batch_module.copied(generator) for _ in range(2))
  assert batch_module._pickled(once) == batch_module._pickled(again)
  np.testing.assert_array_equal(once.random(5), generator.random(5))


@pytest.mark.parametrize('kind', ['PCG64', 'PCG64DXSM', 'MT19937', 'Philox', 'SFC64'])
def test_a_random_generators_bytes_are_the_same_before_and_after_a_restore(kind):
  generator = np.random.Generator(getattr(np.random, kind)(3))
  # The words that stand in a generator's state, as names and values of an environment's own.
  state = {word: word for word in ('bit_generator', 'state', 'inc', 'entropy', 'key', kind)}
  once = batch_module._pickled({**state, 'of': kind, 'generator': generator, 'again': kind})
  loaded = pickle.loads(once)
  assert batch_module._pickled(loaded) == once
  for it in (generator, loaded['generator']):
    it.random(3)
    it.spawn(1)
  changed = batch_module._pickled({**state, 'of': kind, 'generator': generator, 'again': kind})
  assert batch_module._pickled(loaded) == changed
