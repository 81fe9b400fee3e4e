"""Soft actor-critic (Haarnoja et al., arXiv 1812.05905), which BRAC is built upon."""

from typing import Optional

import gin
import tensorflow as tf

from brac.agents.actor_critic import ActorCritic
from brac.agents.loop import Info, Update
from brac.dataset import Batch
from brac.rng import Rng


@gin.configurable
class Agent(ActorCritic):
  r"""SAC with a trained temperature τ.

  - `V(s') = Q̄(s', a') - τ log π(a'|s')`, `a' ~ π(s')`
  - `J(π) = E[τ log π(a|s) - Q(s, a)]`, `a ~ π(s)`
  - `J(τ) = E[-τ (log π(a|s) + H)]`

  Args:
    target_entropy: H; minus the number of actions by default.
    ensemble_q_lambda: λ of the ensemble of critics.
  """

  OPTIMIZERS = ('q', 'policy', 'temperature')

  def __init__(self, *, target_entropy: Optional[float] = None, **common):
    super().__init__(**common)
    self.pi = self.make_actor(target_entropy)
    self.log_temperature = tf.Variable(0.0)
    self.saved._log_alpha = self.log_temperature

  def make_updates(self) -> list[Update]:
    return [
      self.update('q', self.q_loss, 'q', *self.q_nets),
      self.update('p', self.p_loss, 'policy', self.pi),
      self.update_scalar('a', self.a_loss, 'temperature', self.log_temperature),
    ]

  @property
  def temperature(self) -> tf.Tensor:
    """τ."""
    return tf.exp(self.log_temperature)

  def next_value(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, tf.Tensor]:
    """`Q̄(s', a') - τ log π(a'|s')`."""
    a2, log_pi = self.pi(batch.s2).sample(draws)
    target_q = self.target_q(batch.s2, a2)
    return target_q - self.temperature * log_pi, target_q

  def p_loss(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, Info]:
    """`E[τ log π(a|s) - Q(s, a)]`."""
    a, log_pi = self.pi(batch.s1).sample(draws)
    return tf.reduce_mean(self.temperature * log_pi - self.frozen_q(batch.s1, a)), {}

  def a_loss(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, Info]:
    """`E[-τ (log π(a|s) + H)]`."""
    return -self.temperature * self.entropy_gap(batch, draws), {'alpha': self.temperature}
