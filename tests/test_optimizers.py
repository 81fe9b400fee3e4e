"""Adam against Keras's, which the published code used."""

import numpy as np
import pytest
import tensorflow as tf

from brac.errors import UserError
from brac.optimizers import Adam, learning_rate

_SHAPES = ([4, 3], [3], [])


def make_variables():
  random = np.random.default_rng(0)
  return [tf.Variable(random.normal(size=shape).astype(np.float32)) for shape in _SHAPES]


def make_gradients(step):
  """Gradients of many sizes, down to where Adam's ε matters."""
  random = np.random.default_rng(step + 1)
  sizes = [10.0 ** random.uniform(-8, 3, shape) for shape in _SHAPES]
  return [tf.constant(x * random.choice([-1, 1], np.shape(x)), tf.float32) for x in sizes]


def assert_close(variables, others):
  for x, y in zip(variables, others):
    np.testing.assert_allclose(x, y, rtol=2e-6, atol=2e-7)


def test_adam_is_keras_adam():
  ours, theirs = make_variables(), make_variables()
  adam, keras = Adam(0.01, ours), tf.keras.optimizers.Adam(0.01)
  for step in range(6):
    adam.apply(ours, make_gradients(step))
    keras.apply_gradients(zip(make_gradients(step), theirs))
    assert_close(ours, theirs)
  assert np.abs(ours[0] - make_variables()[0]).max() > 0.02


def test_a_part_of_the_variables_is_applied_as_by_keras():
  # As bcq with paper_code does: one optimizer for two networks, whose steps it counts together.
  ours, theirs = make_variables(), make_variables()
  adam, keras = Adam(0.01, ours), tf.keras.optimizers.Adam(0.01)
  keras.build(theirs)
  for step in range(4):
    for part in (slice(0, 1), slice(1, 3)):
      adam.apply(ours[part], make_gradients(step)[part])
      keras.apply_gradients(zip(make_gradients(step)[part], theirs[part]))
      assert_close(ours, theirs)
  assert int(adam.slots.step) == 8


def test_only_the_variables_applied_and_their_slots_move():
  ours, bystander = make_variables(), tf.Variable([1.0, 2.0])
  adam = Adam(0.01, ours)
  before = [x.numpy() for x in ours]
  adam.apply(ours[1:2], make_gradients(0)[1:2])
  assert [bool(np.any(x != y)) for x, y in zip(ours, before)] == [False, True, False]
  for slots in (adam.slots.m, adam.slots.v):
    assert [bool(np.any(slot)) for slot in slots] == [False, True, False]
  np.testing.assert_array_equal(bystander, [1.0, 2.0])


def test_a_learning_rate_is_read():
  assert learning_rate(('adam', 5e-4)) == 5e-4
  assert learning_rate(['adam', 1]) == 1.0


@pytest.mark.parametrize(
  'entry, says',
  [
    (('sgd', 1e-3), "unknown optimizer 'sgd'"),
    (('adam', 0), 'above 0'),
    (('adam', float('nan')), 'above 0'),
    (('adam', True), 'above 0 .*, not True'),
    (('adam', '0.001'), "above 0 .*, not '0.001'"),
    (('adam', 1e39), 'above 0'),
    (('adam', 1e-60), 'above 0'),
    (('adam',), 'an entry reads'),
    (1e-3, 'an entry reads'),
  ],
)
def test_a_wrong_entry_says_what_would_be_right(entry, says):
  with pytest.raises(UserError, match=says):
    learning_rate(entry)
