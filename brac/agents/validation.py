"""The losses of an agent on rows that it is not trained on: where they part, it over-fits."""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from brac import rng
from brac.agents.agent import Agent
from brac.data.transitions import Batch, Transitions
from brac.rng import Rng

N_ROWS = 2048  # on which losses are evaluated, of a million in the time of a few training steps


class Validation:
  """`validation()` evaluates an agent's losses, by their TensorBoard tags, and trains nothing.

  The rows are the same each time, from everywhere in those that are given, so that what changes is
  the agent; what its losses draw is a function of its seed and step, of a stream of its own.
  """

  def __init__(self, agent: Agent, rows: Transitions):
    n = len(rows.reward)
    some = np.linspace(0, n - 1, min(n, N_ROWS)).astype(int)
    self._agent = agent
    self.batch = Batch(*(tf.constant(values[some]) for values in rows[: len(Batch._fields)]))

  def __call__(self) -> dict[str, float]:
    return {tag: float(value) for tag, value in self._losses().items()}

  def compile(self) -> None:
    self._losses.get_concrete_function()

  @functools.cached_property
  def _losses(self) -> Callable:
    agent = self._agent

    def losses():
      draws = Rng(agent.seed, rng.VALIDATE, agent.global_step.read_value())
      return agent.validate(self.batch, draws)

    return tf.function(losses, autograph=False, input_signature=[])
