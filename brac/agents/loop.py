"""What a training step is, and the compiled loop that runs n of them.

A step, whatever the agent:

1. `before_step`, if there is one: online training acts in its environment here;
2. a batch is drawn, uniformly with replacement;
3. the targets move towards their sources, every `update_freq` steps;
4. the updates that are due, in the agent's order: each takes the gradient of its loss and lets its
   optimizer move its variables, which the updates after it see;
5. the step is counted;
6. the extra updates, each on a fresh batch.

Every random number is a function of the seed, the step and the count of draws in it, so that the
bits do not depend on how the steps are divided into calls.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional

import tensorflow as tf

from brac import rng
from brac.data.transitions import Batch
from brac.optimizers import Adam
from brac.rng import Rng

# Training steps in a turn of the compiled loop. Between turns a core waits for the other; within
# one, a step begins while the policy's update of the step before it is still at work.
_UNROLLED = 4
_SHORT = 100  # steps from which on such a turn is worth its compilation, as between summaries

Info = dict[str, tf.Tensor]
Loss = Callable[[Batch, Rng], tuple[tf.Tensor, Info]]


class Update(NamedTuple):
  """One gradient step on `loss + decay Σ‖kernel‖²`; TensorBoard has the loss as `{name}_loss`.

  Attributes:
    every: the steps from one time to the next: with 2 it is due in the second, the fourth, ...
  """

  name: str
  loss: Loss
  variables: Sequence[tf.Variable]
  optimizer: Adam
  kernels: Sequence[tf.Variable] = ()
  decay: float = 0.0
  every: int = 1

  def norm(self) -> tf.Tensor:
    """`Σ‖kernel‖²`, a scalar; TensorBoard has it as `{name}_norm`."""
    return tf.add_n([tf.reduce_sum(tf.square(kernel)) for kernel in self.kernels])


def apply(update: Update, batch: Batch, draws: Rng) -> Info:
  """Takes the gradient of an update's loss and lets its optimizer move its variables.

  Returns:
    The numbers of the update by their TensorBoard tags, scalars.

  Raises:
    ValueError: none of the variables has a gradient, as where a loss is of `frozen_q` alone.
  """
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(update.variables)
    loss, info = update.loss(batch, draws)
    decayed = loss + update.decay * update.norm() if update.decay else loss
  gradients = tape.gradient(decayed, update.variables)
  if all(gradient is None for gradient in gradients):
    raise ValueError(f'the loss of update {update.name!r} has no gradient for any of its variables')
  pairs = zip(update.variables, gradients)
  gradients = [tf.zeros_like(x) if gradient is None else gradient for x, gradient in pairs]
  update.optimizer.apply(update.variables, gradients)
  return {**info, update.name + '_loss': loss}


class Loop:
  """Trains an agent: `train(n)` runs n steps in one compiled call.

  Args:
    agent: an `agents.agent.Agent`; its state may be restored, or trained by another loop, in
      between.
    before_step: called in the graph before each step, with the draws of the step.
  """

  def __init__(self, agent, before_step: Optional[Callable[[Rng], None]] = None):
    self.agent, self._before_step = agent, before_step
    # Their variables cannot be made inside of a graph.
    self._updates, self._extra_updates = agent.updates, agent.extra_updates()
    self._targets = agent.targets()
    self._delayed: dict[str, dict[str, tf.TensorSpec]] = {}  # the numbers of updates not always due

  def train(self, n: int) -> dict[str, float]:
    """Runs n training steps.

    Returns:
      The numbers of the last by their TensorBoard tags, without those of an update that was not due
      in it; of no steps none.
    """
    info = {}
    for loop, turns in self._loops_of(n):
      info = loop(tf.constant(turns))
    step = int(self.agent.global_step)
    idle = {t for u in self._updates if step % u.every for t in self._delayed.get(u.name, ())}
    return {tag: float(x) for tag, x in info.items() if tag not in idle}

  def compile(self, n: int) -> None:
    """Builds the loops that `train(n)` runs, which it does itself otherwise."""
    for loop, _ in self._loops_of(n):
      loop.get_concrete_function()

  def _loops_of(self, n: int) -> list[tuple[Callable, int]]:
    """The compiled loops that n steps take, with the turns of each; the bits are one loop's."""
    turns, rest = divmod(n, _UNROLLED) if n >= _SHORT else (0, n)
    loops = [(self._unrolled_loop, turns)] if turns else []
    return loops + ([(self._plain_loop, rest)] if rest else [])

  @functools.cached_property
  def _plain_loop(self) -> Callable:
    return self._make_loop(1)

  @functools.cached_property
  def _unrolled_loop(self) -> Callable:
    return self._make_loop(_UNROLLED)

  def _make_loop(self, n_unrolled: int) -> Callable:
    """`(turns) -> the numbers of the last step`, compiled, of so many steps a turn."""

    def train(turns):
      tags = []  # known once a step is traced, which is done once: it takes seconds

      # Every step gives its numbers, which one alone needs: a step that did not would be optimized
      # in another way, and differ in the last bits.
      def turn(i, _):
        infos = [self._step() for _ in range(n_unrolled)]
        tags[:] = infos[-1]
        return i + 1, [tf.stack([tf.cast(x, tf.float32) for x in it.values()]) for it in infos]

      _, numbers = tf.while_loop(
        lambda i, _: i < turns,
        turn,
        (tf.constant(0), [tf.zeros([0])] * n_unrolled),
        (tf.TensorShape([]), [tf.TensorShape([None])] * n_unrolled),
      )
      info = dict(zip(tags, tf.unstack(numbers[-1], len(tags))))
      for update in self._updates:
        if update.kernels:
          info[update.name + '_norm'] = update.norm()
      return info

    return tf.function(train, autograph=False, input_signature=[tf.TensorSpec([], tf.int32)])

  def _step(self) -> Info:
    agent = self.agent
    now = tf.cast(agent.global_step.read_value(), tf.int64)
    draws = Rng(agent.seed, rng.TRAIN, now)
    if self._before_step:
      self._before_step(draws)
    batch = agent.data.sample(agent.batch_size, draws)
    self._move_targets(now)
    info = {}
    for update in self._updates:
      info.update(self._apply_if_due(update, batch, draws, now))
    agent.global_step.assign_add(1)
    for update in self._extra_updates:
      apply(update, agent.data.sample(agent.batch_size, draws), draws)
    return info

  def _move_targets(self, now: tf.Tensor) -> None:
    rate, freq = self.agent.update_rate, self.agent.update_freq

    def move():
      for source, target in self._targets:
        for x, y in zip(source.variables, target.variables):
          # y + rate (x - y), in one pass less than with assign_add.
          tf.raw_ops.ResourceApplyGradientDescent(var=y.handle, alpha=rate, delta=y - x)

    if freq == 1:
      move()
    elif self._targets:
      tf.cond(now % freq == 0, move, lambda: None)

  def _apply_if_due(self, update: Update, batch: Batch, draws: Rng, now: tf.Tensor) -> Info:
    if update.every == 1:
      return apply(update, batch, draws)

    def due():
      info = apply(update, batch, draws)
      self._delayed[update.name] = {t: tf.TensorSpec(x.shape, x.dtype) for t, x in info.items()}
      return info

    def not_due():
      return {tag: tf.zeros(x.shape, x.dtype) for tag, x in self._delayed[update.name].items()}

    return tf.cond((now + 1) % update.every == 0, due, not_due)
