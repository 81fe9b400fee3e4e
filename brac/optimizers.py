"""Adam, written with TensorFlow's fused update so that it can sit inside a compiled loop."""

from typing import Sequence

import tensorflow as tf

from brac.errors import MOST, UserError, is_number

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7  # Keras's, which the published code used
_LEAST_RATE = 1e-37  # below it float32 loses digits, and has 0 in the end


class Adam:
  """Adam (arXiv 1412.6980) over a fixed set of variables; `slots` is its state."""

  def __init__(self, learning_rate: float, variables: Sequence[tf.Variable]):
    self.learning_rate = learning_rate
    self._rows = {x.ref(): i for i, x in enumerate(variables)}
    self.slots = tf.Module()
    self.slots.step = tf.Variable(0, dtype=tf.int64)
    self.slots.m = [tf.Variable(tf.zeros_like(x)) for x in variables]
    self.slots.v = [tf.Variable(tf.zeros_like(x)) for x in variables]

  def apply(self, variables: Sequence[tf.Variable], gradients: Sequence[tf.Tensor]) -> None:
    """Moves some of its variables one step against their gradients."""
    t = tf.cast(self.slots.step.assign_add(1), tf.float32)
    beta_1_power, beta_2_power = tf.pow(_BETA_1, t), tf.pow(_BETA_2, t)
    for x, gradient in zip(variables, gradients):
      row = self._rows[x.ref()]
      tf.raw_ops.ResourceApplyAdam(
        var=x.handle,
        m=self.slots.m[row].handle,
        v=self.slots.v[row].handle,
        beta1_power=beta_1_power,
        beta2_power=beta_2_power,
        lr=self.learning_rate,
        beta1=_BETA_1,
        beta2=_BETA_2,
        epsilon=_EPSILON,
        grad=gradient,
      )


def learning_rate(entry) -> float:
  """The learning rate of an entry of the gin parameter `optimizers`.

  Raises:
    UserError: the entry is not `('adam', learning rate)`.
  """
  try:
    name, rate = entry
  except (TypeError, ValueError):
    raise UserError(f"optimizers: an entry reads ('adam', learning rate), not {entry!r}") from None
  if name != 'adam':
    raise UserError(f"optimizers: unknown optimizer {name!r}; the one there is is 'adam'")
  if not is_number(rate) or not _LEAST_RATE <= rate <= MOST:
    raise UserError(f'optimizers: a learning rate is a number above 0 (in float32), not {rate!r}')
  return float(rate)
