"""The ring of transitions, its files, and what is drawn from it."""

import logging
import os
import tempfile

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from reading import shared_data

from brac import checkpoints, rng
from brac.data import stored, transitions
from brac.data.replay import Dataset
from brac.data.transitions import CUT_OFF, GOES_ON, TERMINAL, TIME_LIMIT, UNKNOWN, Transitions
from brac.errors import UserError
from brac.rng import Rng
from brac.tf_agents_bridge import BoundedTensorSpec

_SETTINGS = hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
N_STATES, N_ACTIONS = 3, 2


def rows(numbers):
  """Transitions whose every number tells which they are."""
  k = np.array(numbers, np.float32)
  ends = np.array([GOES_ON, TERMINAL, TIME_LIMIT, CUT_OFF, UNKNOWN], np.int8)
  return Transitions(
    s1=np.repeat(k[:, None], N_STATES, 1),
    a1=np.repeat(k[:, None] + 0.125, N_ACTIONS, 1),
    s2=np.repeat(k[:, None] + 0.25, N_STATES, 1),
    a2=np.repeat(k[:, None] + 0.5, N_ACTIONS, 1),
    reward=-k,
    discount=k % 2,
    end=ends[k.astype(int) % 5],
  )


def row(k):
  return {name: values[0] for name, values in rows([k])._asdict().items()}


def empty(capacity):
  return Dataset(Transitions.zeros(capacity, N_STATES, N_ACTIONS), size=0)


def contents(data):
  """The transitions from the oldest to the newest, each as what `row` gives; as lists."""
  size, idx = data.size, int(data._current_idx)
  order = np.arange(size) if size < int(data._capacity) else (np.arange(size) + idx) % size
  fields = [getattr(data, '_' + name).numpy()[order].tolist() for name in Transitions._fields]
  return [dict(zip(Transitions._fields, values)) for values in zip(*fields)]


def expected(numbers):
  return [{name: x.tolist() for name, x in row(k).items()} for k in numbers]


def save(folder, data):
  path = os.path.join(folder, 'data')
  checkpoints.save(path, data=data)
  return path


# --- The ring -------------------------------------------------------------------------------------

_OPERATIONS = st.lists(
  st.one_of(st.integers(1, 6), st.sampled_from(['held', 'saved and restored'])), max_size=8
)


@_SETTINGS
@hypothesis.given(capacity=st.integers(1, 7), operations=_OPERATIONS)
def test_the_ring_is_a_list_that_forgets_its_oldest(capacity, operations):
  data, model, n = empty(capacity), [], 0
  with tempfile.TemporaryDirectory() as folder:
    for operation in operations:
      if operation == 'held':
        assert contents(data.held()) == expected(model)
        assert data.held().size == len(model)
      elif operation == 'saved and restored':
        if model:
          path = save(folder, data.held())
          data = empty(capacity)
          data.restore(path)
      else:
        for _ in range(operation):
          data.add(**row(n))
          model, n = [*model, n][-capacity:], n + 1
      assert data.size == len(model)
      assert contents(data) == expected(model)


def test_a_ring_that_was_written_over_is_read_from_its_oldest_row_on(tmp_path):
  data = empty(6)
  for k in range(9):  # of episodes of four steps
    data.add(**{**row(k), 'end': TERMINAL if k % 4 == 3 else GOES_ON})
  path = save(str(tmp_path), data.held())
  rows = stored.load(path, N_STATES, N_ACTIONS)
  assert rows.reward.tolist() == [row(k)['reward'] for k in range(3, 9)]
  assert rows.end.tolist() == [TERMINAL, GOES_ON, GOES_ON, GOES_ON, TERMINAL, GOES_ON]
  # Of the first episode that is there the beginning is gone.
  returns, steps = stored.episodes(path)
  assert steps.tolist() == [4] and returns.tolist() == [sum(row(k)['reward'] for k in range(4, 8))]
  assert not stored.is_first_whole(path)
  assert transitions.begins(rows.end, False).tolist() == [False, True, False, False, False, True]
  assert transitions.begins(rows.end).tolist() == [True, True, False, False, False, True]
  again = empty(6)  # the same ring
  again.restore(path)
  assert again._reward.numpy().tolist() == data._reward.numpy().tolist()
  assert int(again._current_idx) == int(data._current_idx)


def test_a_huge_reward_spoils_the_return_of_its_own_episode_alone():
  reward = np.array([1.0, -1e20, 0.1, 0.2, 0.3, 7.0], np.float32)
  returns, steps, codes = transitions.returns_of(np.array([0, 1, 0, 0, 2, 0], np.int8), reward)
  assert steps.tolist() == [2, 3] and codes.tolist() == [1, 2]
  assert returns[1] == pytest.approx(0.6)
  for no_end in (np.zeros(3, np.int8), np.zeros(0, np.int8)):
    assert not any(map(len, transitions.returns_of(no_end, reward[: len(no_end)])))


@_SETTINGS
@hypothesis.given(
  capacity=st.integers(1, 5), n=st.integers(1, 12), room=st.integers(1, 4), more=st.integers(0, 12)
)
def test_a_ring_goes_on_in_a_larger_one(capacity, n, room, more):
  data, larger = empty(capacity), empty(capacity + room)
  for k in range(n):
    data.add(**row(k))
  with tempfile.TemporaryDirectory() as folder:
    larger.restore(save(folder, data.held()))
  model = list(range(n))[-capacity:]
  for k in range(n, n + more):
    larger.add(**row(k))
    model = [*model, k][-capacity - room :]
  assert larger.size == len(model)
  held = [x['reward'] for x in contents(larger.held())]
  # No row but those that were stored, and of these the newest.
  assert sorted(-x for x in held) == model


def test_held_is_a_copy():
  data = empty(4)
  for k in range(3):
    data.add(**row(k))
  held = data.held()
  data.add(**row(3))
  assert contents(held) == expected([0, 1, 2])
  assert int(held._capacity) == 3


def test_a_restore_without_room_is_an_error_and_changes_nothing(tmp_path):
  path = save(str(tmp_path), Dataset(rows(range(5))))
  data = empty(4)
  data.add(**row(9))
  with pytest.raises(UserError, match='has 5 transitions, there is room for 4'):
    data.restore(path)
  assert contents(data) == expected([9])


def test_all_rows_hold_data_by_default():
  data = Dataset(rows(range(5)))
  assert data.size == 5 and contents(data) == expected(range(5))
  data.add(**row(5))
  assert contents(data) == expected(range(1, 6))


def test_a_dataset_can_be_filled_in_a_compiled_loop():
  data = empty(3)
  all_rows = [tf.constant(values) for values in rows(range(5))]

  @tf.function(autograph=False)
  def fill():
    def add(i):
      data.add(*(values[i] for values in all_rows))
      return i + 1

    tf.while_loop(lambda i: i < 5, add, [tf.constant(0)])

  fill()
  assert contents(data) == expected([2, 3, 4])


# --- Batches --------------------------------------------------------------------------------------


def drawn(data, n, draws):
  """Which transitions a batch has."""
  batch = data.sample(n, draws)
  numbers = -batch.r.numpy().astype(int)
  wanted = rows(numbers)
  got = (batch.s1, batch.a1, batch.s2, batch.a2, batch.r, batch.d)
  for values, want in zip(got, wanted):
    np.testing.assert_array_equal(values.numpy(), want)
  return numbers


@pytest.mark.parametrize('n_added', [4, 7, 11])
def test_sample_draws_uniformly_from_the_held_rows_alone(n_added):
  data = empty(7)
  for k in range(n_added):
    data.add(**row(k))
  held = range(max(0, n_added - 7), n_added)
  numbers = drawn(data, 20000, Rng(3))
  assert set(numbers) == set(held)
  counts = np.bincount(numbers)[list(held)]
  mean = 20000 / len(held)
  # Under even draws Σ (count - mean)² / mean is above 30 once in 25000 seeds, for 7 rows.
  assert np.sum((counts - mean) ** 2 / mean) < 30


def test_sample_draws_with_replacement():
  data = Dataset(rows(range(50)))
  # As many as there are: without replacement each would come once.
  n_different = len(set(drawn(data, 50, Rng(0))))
  assert 20 < n_different < 45
  assert len(drawn(data, 200, Rng(0))) == 200


def test_sample_is_a_function_of_the_rng():
  data = Dataset(rows(range(1000)))
  again = [drawn(data, 100, Rng(3, rng.TRAIN, 5)).tolist() for _ in range(2)]
  assert again[0] == again[1]
  others = Rng(4, rng.TRAIN, 5), Rng(3, rng.EXPLORE, 5), Rng(3, rng.TRAIN, 6)
  for other in others:
    assert drawn(data, 100, other).tolist() != again[0]
  draws = Rng(3, rng.TRAIN, 5)
  assert drawn(data, 100, draws).tolist() == again[0]
  assert drawn(data, 100, draws).tolist() != again[0]


def test_sample_in_a_graph_sees_what_was_added_since():
  data = empty(5)
  data.add(**row(0))
  sample = tf.function(lambda: data.sample(50, Rng(0)).r, autograph=False)
  assert set(sample().numpy()) == {0}
  data.add(**row(1))
  assert set(sample().numpy()) == {0, -1}


# --- The first of a dataset -----------------------------------------------------------------------


@pytest.fixture
def warnings(caplog):
  """The warnings that were logged so far."""
  with caplog.at_level(logging.WARNING, 'absl'):
    yield lambda: [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def numbers_of(transitions):
  numbers = -transitions.reward.astype(int)
  for values, want in zip(transitions, rows(numbers)):
    np.testing.assert_array_equal(values, want)
  return numbers.tolist()


def first(rows, n, block, seed, path):
  return transitions.take(rows, transitions.used(len(rows.reward), n, block, seed, path))


def test_first_takes_all_where_all_are_asked_for(warnings):
  assert numbers_of(first(rows(range(9)), 9, 0, 0, 'path')) == list(range(9))
  assert warnings() == []


@pytest.mark.parametrize('block', [0, 2])
def test_first_takes_all_where_more_are_asked_for_and_warns(warnings, block):
  taken = numbers_of(first(rows(range(9)), 10, block, 0, 'the/path'))
  assert sorted(taken) == list(range(9))
  (warning,) = warnings()
  assert 'n_train is 10' in warning and 'the/path has 9 transitions' in warning


def test_first_without_shuffle_keeps_the_order_and_warns(warnings):
  assert numbers_of(first(rows(range(9)), 4, 0, 0, 'path')) == [0, 1, 2, 3]
  (warning,) = warnings()
  assert 'first 4 of 9' in warning and 'shuffle_steps' in warning


def test_first_with_shuffle_takes_whole_blocks_from_everywhere(warnings):
  taken = numbers_of(first(rows(range(40)), 20, 5, 1, 'path'))
  assert warnings() == []
  starts = taken[::5]
  assert taken == [start + i for start in starts for i in range(5)]
  assert all(start % 5 == 0 for start in starts)
  assert sorted(starts) != [0, 5, 10, 15] and len(set(starts)) == 4


def test_first_warns_of_a_single_block(warnings):
  assert numbers_of(first(rows(range(9)), 9, 9, 0, 'the/path')) == list(range(9))
  (warning,) = warnings()
  assert 'shuffle_steps is 9' in warning and 'the/path' in warning and 'one block' in warning


@_SETTINGS
@hypothesis.given(
  n=st.integers(1, 60),
  block=st.integers(1, 70),
  seed=st.integers(0, 2**32),
  n_train=st.integers(1, 60),
)
def test_shuffled_blocks_keep_their_inner_order_and_cover_everything(n, block, seed, n_train):
  order = transitions.shuffled_blocks(n, block, seed).tolist()
  assert sorted(order) == list(range(n))
  for before, after in zip(order[:-1], order[1:]):
    assert after == before + 1 if after % block else before % block == block - 1 or before == n - 1
  assert order == transitions.shuffled_blocks(n, block, seed).tolist()
  taken = first(rows(range(n)), n_train, block, seed, 'path')
  assert numbers_of(taken) == order[:n_train]


def test_another_seed_gives_another_order():
  orders = {tuple(transitions.shuffled_blocks(100, 10, seed)) for seed in range(5)}
  assert len(orders) == 5


# --- Files ----------------------------------------------------------------------------------------


def test_a_saved_dataset_has_the_published_keys_and_its_own(tmp_path):
  reader = checkpoints.Reader(save(str(tmp_path), Dataset(rows(range(5)))))
  published = '_s1 _a1 _s2 _a2 _reward _discount _capacity _current_size _current_idx'
  assert set(reader.shapes) == {f'data/{key}' for key in [*published.split(), '_end']}
  for key in ('_capacity', '_current_size', '_current_idx'):
    assert reader.shapes['data/' + key] == [] and reader.read('data/' + key) == 5
    assert reader.read('data/' + key).dtype == np.int32
  for key, want in rows(range(5))._asdict().items():
    values = reader.read('data/_' + key)
    np.testing.assert_array_equal(values, want)
    assert values.dtype == want.dtype


def test_load_gives_what_was_saved(tmp_path):
  path = save(str(tmp_path), Dataset(rows(range(5))))
  for values, want in zip(stored.load(path, N_STATES, N_ACTIONS), rows(range(5))):
    np.testing.assert_array_equal(values, want)
    assert values.dtype == want.dtype


def test_load_leaves_out_the_room_for_more(tmp_path):
  data = empty(9)
  for k in range(4):
    data.add(**row(k))
  path = save(str(tmp_path), data)
  assert numbers_of(stored.load(path, N_STATES, N_ACTIONS)) == [0, 1, 2, 3]


def changed(**changes):
  """A dataset with other values in some of its variables."""
  data = Dataset(rows(range(5)))
  for name, values in changes.items():
    if values is None:
      delattr(data, name)
    else:
      setattr(data, name, tf.Variable(values))
  return data


def with_bad(k, value):
  s2 = rows(range(5)).s2.copy()
  s2[k, 1] = value
  return s2


@pytest.mark.parametrize(
  'data, error',
  [
    (lambda: empty(5), 'is empty: data/_current_size is 0'),
    (lambda: changed(_s2=with_bad(3, np.nan)), '1 numbers of _s2 are not finite, first in row 3'),
    (lambda: changed(_s2=with_bad(0, -np.inf)), '1 numbers of _s2 are not finite, first in row 0'),
    (
      lambda: changed(_reward=np.array([0, 1, np.nan, np.inf, 2], np.float32)),
      '2 numbers of _reward are not finite, first in row 2',
    ),
    (
      lambda: changed(_s1=np.zeros([5, 4], np.float32)),
      r'its _s1 is \[5, 4\], the environment has 3 states and 2 actions',
    ),
    (
      lambda: changed(_a2=np.zeros([5, 6], np.float32)),
      r'its _a2 is \[5, 6\], the environment has 3 states and 2 actions',
    ),
    (lambda: changed(_a1=None), 'has no data/_a1'),
    (lambda: changed(_discount=None), 'has no data/_discount'),
    (lambda: changed(_current_size=None), 'has no data/_current_size'),
    (lambda: changed(_reward=np.zeros(3, np.float32)), '_reward has 3 rows, _current_size is 5'),
    (
      lambda: changed(_reward=np.zeros([5, 1], np.float32)),
      r'_reward is of shape \[5, 1\], not \[5\]',
    ),
    (lambda: changed(_reward=np.float32(1)), r'_reward is of shape \[\], not \[5\]'),
    (lambda: changed(_s1=np.zeros([5], np.float32)), r'its _s1 is \[5\], the environment has'),
    (lambda: changed(_current_size=np.int32(-1)), '_current_size'),
    (
      lambda: changed(_discount=np.array([0, 1, 1.5, 1, -1], np.float32)),
      r'2 numbers of _discount are not in \[0, 1\], first in row 2',
    ),
    (
      lambda: changed(_end=np.array([0, 1, 4, 5, -1], np.int8)),
      r'2 numbers of _end are not in \[0, 4\], first in row 3',
    ),
    # What a cast to int8 would make codes of.
    (
      lambda: changed(_end=np.full(5, np.nan, np.float32)),
      r'5 numbers of _end are not in \[0, 4\], first in row 0',
    ),
    (lambda: changed(_end=np.array([0, 1, 0.5, 0, 1])), r'1 numbers of _end .* first in row 2'),
    (lambda: changed(_end=np.array([256, 1, 0, 257, 1], np.int32)), r'2 numbers of _end .* row 0'),
    (lambda: tf.Module(), 'has no data/_current_size'),
  ],
)  # fmt: skip
def test_a_dataset_that_cannot_be_used_is_an_error(tmp_path, data, error):
  path = save(str(tmp_path), data())
  with pytest.raises(UserError, match=error) as raised:
    stored.load(path, N_STATES, N_ACTIONS)
  assert path in str(raised.value) and '\n' not in str(raised.value)


def test_actions_outside_of_the_box_are_counted_clipped_or_refused(warnings):
  spec = BoundedTensorSpec([2], tf.float32, [-1, -1], [1, 2])
  inside = Transitions.zeros(5, 3, 2)
  for how in transitions.OUT_OF_BOX:
    assert transitions.in_box(inside, spec, how, 'x') is inside
  assert not warnings()

  outside = inside._replace(a1=inside.a1.copy(), a2=inside.a2.copy())
  outside.a2[2] = [1.5, 2]
  outside.a1[4] = [0, -7]
  with pytest.raises(UserError, match=r'^2 of the 5 transitions of dataset x .* first in row 2: '):
    transitions.in_box(outside, spec, 'refuse', 'x')
  assert transitions.in_box(outside, spec, 'count', 'x') is outside
  clipped = transitions.in_box(outside, spec, 'clip', 'x')
  assert clipped.a2[2].tolist() == [1, 2] and clipped.a1[4].tolist() == [0, -1]
  assert outside.a1[4].tolist() == [0, -7]
  count, clip = warnings()
  assert 'used as they are' in count and 'clipped' in clip
  assert 'from [-1.0, -1.0] to [1.0, 2.0]' in clip


def test_what_is_not_finite_in_the_room_for_more_does_not_count(tmp_path):
  data = Dataset(rows(range(5)), size=4)
  data._s1.assign(np.where(np.arange(5)[:, None] == 4, np.nan, data._s1.numpy()))
  path = save(str(tmp_path), data)
  assert numbers_of(stored.load(path, N_STATES, N_ACTIONS)) == [0, 1, 2, 3]


def test_a_missing_dataset_is_an_error(tmp_path):
  save(str(tmp_path), Dataset(rows(range(5))))
  with pytest.raises(UserError, match='no dataset at .*/date; in that folder there is: data$'):
    stored.load(str(tmp_path / 'date'), N_STATES, N_ACTIONS)


def test_a_policy_is_no_dataset(tmp_path):
  path = str(tmp_path / 'agent')
  checkpoints.save(path, policy=tf.Module(), global_step=tf.Variable(0))
  with pytest.raises(UserError, match='dataset .*/agent has no data/'):
    stored.load(path, N_STATES, N_ACTIONS)


@pytest.mark.parametrize(
  'end, returns, steps',
  [
    ([GOES_ON, TERMINAL, GOES_ON, GOES_ON, TIME_LIMIT], [3.0, 28.0], [2, 3]),
    ([GOES_ON, CUT_OFF, TIME_LIMIT, GOES_ON, CUT_OFF], [4.0], [1]),
    ([TERMINAL] * 5, [1.0, 2.0, 4.0, 8.0, 16.0], [1] * 5),
    ([UNKNOWN] * 5, [], []),
  ],
)
def test_only_whole_episodes_have_returns_and_steps(tmp_path, end, returns, steps):
  rewards = np.array([1, 2, 4, 8, 16], np.float32)
  path = save(str(tmp_path), changed(_reward=rewards, _end=np.array(end, np.int8)))
  assert [values.tolist() for values in stored.episodes(path)] == [returns, steps]


@pytest.mark.parametrize(
  'changes, error',
  [
    (dict(_end=np.array([0, 9, 0, 0, 1], np.int8)), r'1 numbers of _end are not in \[0, 4\]'),
    (dict(_end=np.array([0, 1, 0, 0, 1]), _current_size=np.int32(6)), '_current_size is 6'),
    (dict(_reward=np.array([0, 1, np.inf, 0, 1], np.float32)), '1 numbers of _reward are not fin'),
    (dict(_reward=np.array(['a'] * 5)), '_reward holds no numbers'),
    (dict(_current_size=np.array([5, 5], np.int32)), '_current_size is no whole number'),
    (dict(_reward=None), 'has no data/_reward'),
  ],
)
def test_the_episodes_of_bad_data_are_an_error(tmp_path, changes, error):
  path = save(str(tmp_path), changed(**changes))
  with pytest.raises(UserError, match=error):
    stored.episodes(path)


def test_a_dataset_that_does_not_tell_its_episodes_has_none(tmp_path):
  path = save(str(tmp_path), changed(_end=None))
  assert [values.tolist() for values in stored.episodes(path)] == [[], []]


@pytest.fixture(scope='module')
def published():
  shared = shared_data()
  if shared is None:
    pytest.skip('no ../shared/data with published checkpoints')
  return os.path.join(shared, 'published_format')


def test_a_published_dataset_loads(published):
  loaded = stored.load(os.path.join(published, 'data'), 17, 6)
  expect = np.load(os.path.join(published, 'expected.npz'))
  np.testing.assert_array_equal(loaded.reward, expect['data/rewards'])
  np.testing.assert_array_equal(loaded.s1, expect['data/s1'])
  np.testing.assert_array_equal(loaded.a2, expect['data/a2'])
  assert loaded.end.tolist() == [UNKNOWN] * 300 and loaded.end.dtype == np.int8
  assert loaded.discount.shape == (300,) and set(loaded.discount) <= {0, 1}


def test_a_published_dataset_of_another_environment_is_an_error(published):
  with pytest.raises(UserError, match=r'_s1 is \[300, 17\], the environment has 11 states'):
    stored.load(os.path.join(published, 'data'), 11, 3)


def test_a_ring_takes_up_a_published_dataset(published):
  data = Dataset(Transitions.zeros(400, 17, 6), size=0)
  data.restore(os.path.join(published, 'data'))
  loaded = stored.load(os.path.join(published, 'data'), 17, 6)
  data.add(*(values[0] for values in loaded[:-1]), TERMINAL)
  assert data.size == 301
  np.testing.assert_array_equal(data.held()._reward.numpy(), [*loaded.reward, loaded.reward[0]])
  assert data.held()._end.numpy()[-2:].tolist() == [UNKNOWN, TERMINAL]


def test_rows_that_the_machine_has_no_memory_for_are_not_made():
  # Without a word the system would give the room, and kill the process when it is filled.
  n = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // (4 * 2 * 25)
  with pytest.raises(MemoryError, match=rf'^{n} transitions take twice \d+ GB, this machine has '):
    Transitions.zeros(n, 17, 7)
