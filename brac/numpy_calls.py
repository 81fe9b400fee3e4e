"""Functions of Python in compiled loops, whose errors arrive as they were raised."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

_raised: list[Exception] = []


def numpy_call(function: Callable, inputs: Sequence[tf.Tensor], types: Sequence[tf.DType]):
  """`tf.numpy_function`, for a call of the compiled loop within `errors`."""

  def call(*arrays):
    try:
      return function(*arrays)
    except Exception as error:
      _raised.append(error)
      raise

  return tf.numpy_function(call, inputs, types)


@contextlib.contextmanager
def errors() -> Iterator[None]:
  """Raises what a function raised, where TensorFlow would raise an error that tells of it."""
  _raised.clear()
  try:
    yield
  except tf.errors.OpError:
    if _raised:
      raise _raised.pop() from None
    raise
