"""What brac_primal and brac_dual share: the penalty, the warm start, the multipliers."""

from collections.abc import Callable
from typing import Optional

import tensorflow as tf

from brac import divergences
from brac.agents import agent
from brac.agents.actor_critic import ActorCritic
from brac.agents.loop import Info, Update
from brac.data.transitions import Batch
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

  `D(s)` is the divergence of π from the behavior policy, which the agent says.

  Args:
    alpha: α, the weight of the divergence (its start, if it is trained).
    alpha_max: α is clipped to [0, alpha_max].
    train_alpha: whether α is trained so that D approaches `target_divergence`.
    divergence_name: of `divergences.PRIMAL` for brac_primal, of `divergences.DUAL` for brac_dual.
    target_divergence: in D's own unit.
    alpha_entropy: α_e (its start, if it is trained).
    train_alpha_entropy: whether α_e is trained so that the entropy approaches `target_entropy`.
    target_entropy: H; minus the number of actions by default.
    value_penalty: whether the divergence also lowers the value of the next state.
    warm_start: the last step, counted from 0, in which the policy is trained without Q.
    ensemble_q_lambda: λ of the ensemble of critics.
  """

  OPTIMIZERS = ('q', 'policy', 'multipliers')
  DIVERGENCES: dict[str, Callable] = {}

  def __init__(
    self,
    *,
    alpha: float = 1.0,
    alpha_max: float = 500.0,
    train_alpha: bool = False,
    divergence_name: str = 'kl',
    target_divergence: float = 0.0,
    alpha_entropy: float = 0.0,
    train_alpha_entropy: bool = False,
    target_entropy: Optional[float] = None,
    value_penalty: bool = True,
    warm_start: int = 20000,
    **common,
  ):
    super().__init__(**common)
    self._divergence = divergences.find(
      divergence_name, self.DIVERGENCES, f'{self.name}.divergence_name'
    )
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
    self.divergence_name, self.value_penalty = divergence_name, value_penalty
    self.pi = self.make_actor(target_entropy)
    self.alpha_var = self.saved._alpha_var = tf.Variable(alpha)
    self.alpha_entropy_var = self.saved._alpha_entropy_var = tf.Variable(alpha_entropy)

  def make_updates(self) -> list[Update]:
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

  def divergence_updates(self) -> list[Update]:
    """What the divergence itself has to train."""
    return []

  def divergence(self, s: tf.Tensor, pi: TanhNormal, a_b: tf.Tensor, draws: Rng) -> tf.Tensor:
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

  def next_value(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, tf.Tensor]:
    """`Q̄(s', a') - α_e log π(a'|s') - [value_penalty] α D(s')`."""
    pi = self.pi(batch.s2)
    a2, log_pi = pi.sample(draws)
    target_q = self.target_q(batch.s2, a2)
    v = target_q - self.alpha_entropy * log_pi
    if self.value_penalty:
      v -= self.alpha * self.divergence(batch.s2, pi, batch.a2, draws)
    return v, target_q

  def p_loss(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, Info]:
    """`E[α_e log π(a|s) + α D(s) - 1{step > warm_start} Q(s, a)]`."""
    pi = self.pi(batch.s1)
    a, log_pi = pi.sample(draws)
    div = self.divergence(batch.s1, pi, batch.a1, draws)
    warm = tf.cast(tf.cast(self.global_step, tf.int64) > self.warm_start, tf.float32)
    q = self.frozen_q(batch.s1, a)
    loss = tf.reduce_mean(self.alpha_entropy * log_pi + self.alpha * div - warm * q)
    return loss, {
      'div_mean': tf.reduce_mean(div),
      'div_std': tf.math.reduce_std(div),
      'alpha': self.alpha,
      'alpha_entropy': self.alpha_entropy,
    }

  def a_loss(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, Info]:
    """`E[-α (D(s) - target_divergence)]`."""
    div = self.divergence(batch.s1, self.pi(batch.s1), batch.a1, draws)
    return -self.alpha * (tf.reduce_mean(div) - self.target_divergence), {'alpha': self.alpha}

  def ae_loss(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, Info]:
    """`E[-α_e (log π(a|s) + H)]`."""
    loss = -self.alpha_entropy * self.entropy_gap(batch, draws)
    return loss, {'alpha_entropy': self.alpha_entropy}

  def policies(self) -> dict[str, Policy]:
    specs = self.observation_spec, self.action_spec
    return {**super().policies(), 'max_q': MaxQPolicy(*specs, self.pi, self.q_nets[0])}

  def remarks(self, total_train_steps: int) -> list[str]:
    remarks = []
    if self.target_divergence and not self.train_alpha:
      remarks.append('target_divergence is bound, but train_alpha is False: α stays as it is')
    if self.warm_start >= total_train_steps - 1:  # the steps of a run begin with 0
      remarks.append(
        f'warm_start is {self.warm_start}, and the run ends at step {total_train_steps}: its '
        'policy never learns from Q'
      )
    return remarks
