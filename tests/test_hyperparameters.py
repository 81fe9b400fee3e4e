"""Values of parameters that are spelled in several ways."""

import gin
import numpy as np
import pytest
import tensorflow as tf

from brac import checkpoints, divergences, runs
from brac.errors import UserError, check_number, check_whole
from brac.hyperparameters import same
from brac.optimizers import learning_rate


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


@pytest.mark.parametrize('kind', [int, float, np.int64, np.float32, np.float64])
def test_a_number_is_one_whatever_made_it(kind):
  whole, number = check_whole('', 1, n=kind(8)), check_number('', 0, 10, x=kind(8))
  assert (whole, number) == (8, 8.0) and type(whole) is int and type(number) is float
  assert learning_rate(('adam', kind(1))) == 1.0


@pytest.mark.parametrize('wrong', [True, np.bool_(True), '8', None, [8], 8j, np.array([8])])
def test_what_is_no_number_is_an_error(wrong):
  for check in (check_whole, check_number):
    with pytest.raises(UserError, match='^n is a'):
      check('', 0, n=wrong)


@pytest.mark.parametrize(
  'n_q, phi, rule',
  [
    (2, 0.0, None),
    (2, 0, None),
    (2.0, 0.1, 'n_q whole'),
    (0, 0.1, 'at least 1'),
    (2, -1, 'max_perturbation at least 0'),
  ],
)
def test_model_params_are_refused_by_the_rule_that_is_told(n_q, phi, rule, make_agent):
  given = (((8,), (8,), (8,)), n_q, phi)
  if rule is None:
    assert make_agent('bcq', model_params=given).numbers['max_perturbation'] == phi
    return
  with pytest.raises(UserError, match=f'model_params of bcq reads .*{rule}'):
    make_agent('bcq', model_params=given)


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
