"""Random numbers without hidden state: every draw is a function of (seed, stream, step, count).

A run that is stopped and started again needs only its step to go on with the same numbers, and no
order of execution can change them.
"""

from typing import Sequence, Union

import tensorflow as tf

# What the numbers are for. Two streams of one seed never share a draw.
INIT, TRAIN, ACT, EVALUATE, EXPLORE, VALIDATE, VALUE = range(7)
_STREAMS = 16
_DRAWS_PER_STEP = 4096

Int = Union[int, tf.Tensor]


class Rng:
  """The draws of one step of one stream, in the order in which they are asked for."""

  def __init__(self, seed: Int, stream: Int = 0, step: Int = 0):
    """Takes integers, or scalar integer tensors inside a compiled loop."""
    self._key = tf.stack([_int64(seed) * _STREAMS + _int64(stream), _int64(step) * _DRAWS_PER_STEP])
    self._count = 0

  def _next_key(self) -> tf.Tensor:
    self._count += 1
    return self._key + tf.constant([0, self._count], tf.int64)

  def normal(self, shape: Sequence[Int]) -> tf.Tensor:
    """Standard normal numbers of the given shape, float32."""
    return tf.random.stateless_normal(shape, self._next_key())

  def uniform(self, shape: Sequence[Int], low=0.0, high=1.0) -> tf.Tensor:
    """Numbers drawn uniformly from [low, high), float32."""
    return tf.random.stateless_uniform(shape, self._next_key()) * (high - low) + low

  def integers(self, shape: Sequence[Int], high: Int) -> tf.Tensor:
    """Integers drawn uniformly from [0, high), int32."""
    return tf.random.stateless_uniform(shape, self._next_key(), 0, high, tf.int32)


def _int64(x: Int) -> tf.Tensor:
  return tf.cast(x, tf.int64) if tf.is_tensor(x) else tf.constant(x, tf.int64)
