"""Behavior cloning: the policy `b` that the primal divergences compare with."""

from typing import Optional

import gin
import tensorflow as tf

from brac.agents import agent
from brac.agents.loop import Info, Update
from brac.data.transitions import Batch
from brac.errors import check_bool, check_number, warn_of_clipping
from brac.networks import ACTION_MARGIN
from brac.rng import Rng


@gin.configurable
class Agent(agent.Agent):
  r"""Maximum likelihood of the data's actions, with an entropy weight.

  - `J(π) = E[α_e log π(a|s) - log π(a_b|s)]`, `a ~ π(s)`, `(s, a_b)` from the data
  - `J(α_e) = E[-α_e (log π(a|s) + H)]`

  Args:
    train_alpha_entropy: whether α_e is trained.
    alpha_entropy: α_e at the start.
    target_entropy: H; minus the number of actions by default.
  """

  UNITS = ('policy',)
  NUMBERS = {}
  OPTIMIZERS = ('policy', 'entropy weight')
  DECAYS = ('p',)

  def __init__(
    self,
    *,
    train_alpha_entropy: bool = True,
    alpha_entropy: float = 1.0,
    target_entropy: Optional[float] = None,
    **common,
  ):
    super().__init__(**common)
    check_bool(self.name, train_alpha_entropy=train_alpha_entropy)
    alpha_entropy = check_number(self.name, alpha_entropy=alpha_entropy)
    warn_of_clipping(self.name, 0, float('inf'), alpha_entropy=alpha_entropy)
    self.train_alpha_entropy = train_alpha_entropy
    self.pi = self.make_actor(target_entropy)
    self.alpha_entropy_var = tf.Variable(alpha_entropy)
    self.saved._alpha_entropy_var = self.alpha_entropy_var

  def make_updates(self) -> list[Update]:
    updates = [self.update('p', self.p_loss, 'policy', self.pi)]
    if self.train_alpha_entropy:
      updates.append(
        self.update_scalar('ae', self.ae_loss, 'entropy weight', self.alpha_entropy_var)
      )
    return updates

  @property
  def alpha_entropy(self) -> tf.Tensor:
    """α_e, at least 0."""
    return agent.bounded(self.alpha_entropy_var, 0.0, float('inf'))

  def p_loss(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, Info]:
    """`E[α_e log π(a|s) - log π(a_b|s)]`."""
    pi = self.pi(batch.s1)
    _, log_pi = pi.sample(draws)
    log_pi_b = pi.log_prob(batch.a1, ACTION_MARGIN)
    loss = tf.reduce_mean(self.alpha_entropy * log_pi - log_pi_b)
    return loss, {'alpha_entropy': self.alpha_entropy}

  def ae_loss(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, Info]:
    """`E[-α_e (log π(a|s) + H)]`."""
    return -self.alpha_entropy * self.entropy_gap(batch, draws), {}

  def validate(self, batch: Batch, draws: Rng) -> Info:
    """Besides the losses `log_likelihood`, `E[log π(a_b|s)]` in nats."""
    log_pi_b = self.pi(batch.s1).log_prob(batch.a1, ACTION_MARGIN)
    return {**super().validate(batch, draws), 'log_likelihood': tf.reduce_mean(log_pi_b)}

  def leaves(self) -> dict[str, dict[str, object]]:
    return {'agent_behavior': {'policy': self.policy}}
