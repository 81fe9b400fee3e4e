"""What the machine itself can do: bare matrix products, bare physics."""

import concurrent.futures
import functools
import itertools
import os
import time
from typing import Tuple

import mujoco
import numpy as np
import tensorflow as tf

from brac import environments
from brac.data.transitions import GOES_ON, Transitions


@functools.lru_cache(maxsize=1)
def _products(shapes: Tuple):
  # Each product has matrices of its own, as in training; none waits for another, so no core does.
  operands = []
  for m, k, n, flip_a, flip_b in shapes:
    a, b = (k, m) if flip_a else (m, k), (n, k) if flip_b else (k, n)
    a, b = (tf.Variable(np.random.default_rng(0).standard_normal(x, np.float32)) for x in (a, b))
    operands.append((a, b, flip_a, flip_b))

  @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.int32)])
  def loop(n):
    def body(i):
      with tf.control_dependencies([tf.matmul(*operand) for operand in operands]):
        return i + 1

    return tf.while_loop(lambda i: i < n, body, [tf.constant(0)])

  loop(tf.constant(5))
  return loop


def multiply(shapes: Tuple, n: int) -> float:
  """Seconds of n times the products of these shapes: m, k, n, whether a and b are transposed."""
  loop = _products(shapes)
  start = time.perf_counter()
  loop(tf.constant(n))
  return time.perf_counter() - start


def simulate(
  env_name: str, rows: Transitions, n_envs: int, seed: int, in_step: bool = False
) -> float:
  """Seconds in which all cores redo the physics of a collection: its start states and actions.

  One environment after another, which the caches like best; or in step, as a policy needs them.
  """
  env = environments.make_batch(env_name, n_envs, seed)
  env.reset()
  simulation = env._simulation
  starts = np.arange(n_envs + 1) * len(rows.reward) // n_envs
  actions, goes_on = rows.a1.astype(np.float64), rows.end == GOES_ON

  def work(share):
    model, frames, step = simulation.model, simulation._task.frame_skip, mujoco.mj_step
    order = [[(k, row) for row in range(starts[k], starts[k + 1])] for k in share]
    for k, row in itertools.chain(*(zip(*order) if in_step else order)):
      data = simulation.datas[k]
      data.ctrl[:] = actions[row]
      step(model, data, frames)
      if not goes_on[row]:
        env.reset(np.array([k]))

  n_threads = len(os.sched_getaffinity(0))
  with concurrent.futures.ThreadPoolExecutor(n_threads) as pool:
    start = time.perf_counter()
    list(pool.map(work, np.array_split(np.arange(n_envs), n_threads)))
    return time.perf_counter() - start
