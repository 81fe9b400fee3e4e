"""What brac_primal and brac_dual share: the penalty, the warm start, the multipliers."""

from typing import Dict, List, Optional, Tuple

import tensorflow as tf

from brac.agents import agent
from brac.agents.actor_critic import ActorCritic
from brac.dataset import Batch
from brac.errors import check_bool, check_number, check_whole, warn_of_clipping
from brac.networks import TanhNormal
from brac.policies import MaxQPolicy, Policy
from brac.rng import Rng


class BRAC(ActorCritic):
  r"""Behavior regularized actor critic (arXiv 1911.11361, equations 4 to 6).

  - `V(s') = Q̄(s', a') - α_e log π(a'|s') - [value_penalty] α D(s')`, `a' ~ π(s')`
  - `J(π) = E[α_e log π(a|s) + α D(s) - 1{step > warm_start} Q(s, a)]`, `a ~ π(s)`
  - `J(α) = E[-α (D(s) - target_divergence)]`
  - `J(α_e) = E[-α_e (log π(a|s) + H)]`

  `D(s)` is the divergence of π from the behaviour policy, which the agent says.

  Args:
    alpha: α, the weight of the divergence (its start, if it is trained).
    alpha_max: α is clipped to [0, alpha_max].
    train_alpha: whether α is trained so that D approaches `target_divergence`.
    target_divergence: in D's own unit.
    alpha_entropy: α_e (its start, if it is trained).
    train_alpha_entropy: whether α_e is trained so that the entropy approaches `target_entropy`.
    target_entropy: H; minus the number of actions by default.
    value_penalty: whether the divergence also lowers the value of the next state.
    warm_start: steps in which the policy is trained without Q.
    ensemble_q_lambda: λ of the ensemble of critics.
  """

  OPTIMIZERS = ('q', 'policy', 'multipliers')

  def __init__(
    self,
    *,
    alpha: float,
    alpha_max: float,
    train_alpha: bool,
    target_divergence: float,
    alpha_entropy: float,
    train_alpha_entropy: bool,
    target_entropy: Optional[float],
    value_penalty: bool,
    warm_start: int,
    **common,
  ):
    super().__init__(**common)
    self.warm_start = check_whole(self.name, 0, warm_start=warm_start)
    self.alpha_max = check_number(self.name, 0, alpha_max=alpha_max)
    self.target_divergence = check_number(self.name, target_divergence=target_divergence)
    alpha, alpha_entropy = check_number(self.name, alpha=alpha, alpha_entropy=alpha_entropy)
    warn_of_clipping(self.name, 0, self.alpha_max, alpha=alpha)
    warn_of_clipping(self.name, 0, float('inf'), alpha_entropy=alpha_entropy)
    check_bool(
      self.name, train_alpha=train_alpha, train_alpha_entropy=train_alpha_entropy,
      value_penalty=value_penalty,
    )  # fmt: skip
    self.train_alpha, self.train_alpha_entropy = train_alpha, train_alpha_entropy
    self.value_penalty = value_penalty
    self.pi = self.make_actor(target_entropy)
    self.alpha_var = self.saved._alpha_var = tf.Variable(alpha)
    self.alpha_entropy_var = self.saved._alpha_entropy_var = tf.Variable(alpha_entropy)

  def make_updates(self) -> List[agent.Update]:
    updates = [
      self.update('q', self.q_loss, 'q', *self.q_nets),
      self.update('p', self.p_loss, 'policy', self.pi),
      *self.divergence_updates(),
    ]
    if self.train_alpha:
      updates.append(self.update_scalar('a', self.a_loss, 'multipliers', self.alpha_var))
    if self.train_alpha_entropy:
      updates.append(self.update_scalar('ae', self.ae_loss, 'multipliers', self.alpha_entropy_var))
    return updates

  def divergence_updates(self) -> List[agent.Update]:
    """What the divergence itself has to train."""
    return []

  def divergence(self, s: tf.Tensor, pi: TanhNormal, a_b: tf.Tensor, rng: Rng) -> tf.Tensor:
    """`D(s)`, `[B]`, of `π(s)`; `a_b` are the data's actions at s."""
    raise NotImplementedError

  @property
  def alpha(self) -> tf.Tensor:
    """α, in [0, alpha_max]."""
    return agent.bounded(self.alpha_var, 0.0, self.alpha_max)

  @property
  def alpha_entropy(self) -> tf.Tensor:
    """α_e, at least 0."""
    return agent.bounded(self.alpha_entropy_var, 0.0, float('inf'))

  def next_value(self, batch: Batch, rng: Rng) -> tf.Tensor:
    """`Q̄(s', a') - α_e log π(a'|s') - [value_penalty] α D(s')`."""
    pi = self.pi(batch.s2)
    a2, log_pi = pi.sample(rng)
    v = self.target_q(batch.s2, a2) - self.alpha_entropy * log_pi
    if self.value_penalty:
      v -= self.alpha * self.divergence(batch.s2, pi, batch.a2, rng)
    return v

  def p_loss(self, batch: Batch, rng: Rng) -> Tuple[tf.Tensor, agent.Info]:
    """`E[α_e log π(a|s) + α D(s) - 1{step > warm_start} Q(s, a)]`."""
    pi = self.pi(batch.s1)
    a, log_pi = pi.sample(rng)
    d = self.divergence(batch.s1, pi, batch.a1, rng)
    warm = tf.cast(self.global_step > self.warm_start, tf.float32)
    q = self.frozen_q(batch.s1, a)
    loss = tf.reduce_mean(self.alpha_entropy * log_pi + self.alpha * d - warm * q)
    return loss, {
      'div_mean': tf.reduce_mean(d),
      'div_std': tf.math.reduce_std(d),
      'alpha': self.alpha,
      'alpha_entropy': self.alpha_entropy,
    }

  def a_loss(self, batch: Batch, rng: Rng) -> Tuple[tf.Tensor, agent.Info]:
    """`E[-α (D(s) - target_divergence)]`."""
    d = self.divergence(batch.s1, self.pi(batch.s1), batch.a1, rng)
    return -self.alpha * (tf.reduce_mean(d) - self.target_divergence), {'alpha': self.alpha}

  def ae_loss(self, batch: Batch, rng: Rng) -> Tuple[tf.Tensor, agent.Info]:
    """`E[-α_e (log π(a|s) + H)]`."""
    return -self.alpha_entropy * self.entropy_gap(batch, rng), {'alpha_entropy': self.alpha_entropy}

  def policies(self) -> Dict[str, Policy]:
    specs = self.observation_spec, self.action_spec
    return {**super().policies(), 'max_q': MaxQPolicy(*specs, self.pi, self.q_nets[0])}
