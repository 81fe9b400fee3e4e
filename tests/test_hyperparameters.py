"""Values of parameters that are spelled in several ways."""

import gin
import pytest
import tensorflow as tf

from brac import checkpoints, divergences, runs
from brac.hyperparameters import same


@pytest.mark.parametrize(
  'one, other, is_same',
  [
    ([[64, 64]], ((64, 64),), True),
    (64.0, 64, True),
    ((('adam', 1e-3),), [['adam', 0.001]], True),
    (float('nan'), float('nan'), True),
    (-0.0, 0, True),
    (64.5, 64, False),
    ((64,), 64, False),
    (True, 1, False),
    ('64', 64, False),
    (float('inf'), -float('inf'), False),
  ],
)
def test_equal_values_are_the_same_however_they_are_spelled(one, other, is_same):
  assert same(one, other) == is_same


@pytest.mark.parametrize('value, is_same', [(20.0, True), (20, True), (21, False)])
def test_a_run_goes_on_with_a_setting_that_is_spelled_in_another_way(value, is_same, tmp_path):
  path, x = str(tmp_path / 'agent'), tf.zeros([2, 3])

  def settings(sigma):
    gin.clear_config()
    gin.bind_parameter('laplacian_kernel.sigma', sigma)
    divergences.laplacian_kernel(x, x)
    return runs.Settings(seed=3)

  checkpoints.save(path, settings=settings(20.0).variable)
  changes = settings(value).changes(path)
  assert changes.asked == ([] if is_same else ['laplacian_kernel.sigma was 20.0, is 21'])
  assert not changes.refused and not changes.warned
