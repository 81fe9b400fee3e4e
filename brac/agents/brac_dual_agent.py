"""BRAC with a divergence in its dual form: a critic tells the policy's actions from the data's."""

from typing import List, Optional, Tuple

import gin
import tensorflow as tf

from brac import divergences
from brac.agents import agent
from brac.agents.brac import BRAC
from brac.dataset import Batch
from brac.errors import check_whole
from brac.networks import Critic, TanhNormal
from brac.rng import Rng


@gin.configurable
class Agent(BRAC):
  r"""BRAC where `D(s)` is a lower bound that a critic `c(s, a)` makes tight; `a_b` from the data.

  - `kl`: `D(s) = log softplus(c(s, a_π)) + 1 - softplus(c(s, a_b))`
  - `w`: `D(s) = c(s, a_π) - c(s, a_b)`
  - `J(c) = E[-D(s)] + γ_gp E[max(|∇ₐ c(s, â)| - 1, 0)²]`, â evenly between `a_π` and `a_b`

  Args:
    divergence_name: one of `divergences.DUAL`.
    c_iter: updates of c in a training step, each on a batch of its own.
    alpha, ...: see `BRAC`.
  """

  UNITS = ('q', 'policy', 'dual critic')
  OPTIMIZERS = ('q', 'policy', 'dual critic', 'multipliers')
  DECAYS = ('q', 'p', 'c')

  def __init__(
    self,
    *,
    alpha: float = 1.0,
    alpha_max: float = 500.0,
    train_alpha: bool = False,
    value_penalty: bool = True,
    target_divergence: float = 0.0,
    alpha_entropy: float = 0.0,
    train_alpha_entropy: bool = False,
    target_entropy: Optional[float] = None,
    divergence_name: str = 'kl',
    warm_start: int = 20000,
    c_iter: int = 3,
    ensemble_q_lambda: float = 1.0,
    **common,
  ):
    super().__init__(
      alpha=alpha,
      alpha_max=alpha_max,
      train_alpha=train_alpha,
      target_divergence=target_divergence,
      alpha_entropy=alpha_entropy,
      train_alpha_entropy=train_alpha_entropy,
      target_entropy=target_entropy,
      value_penalty=value_penalty,
      warm_start=warm_start,
      ensemble_q_lambda=ensemble_q_lambda,
      **common,
    )
    self._d = divergences.find(divergence_name, divergences.DUAL, self.name + '.divergence_name')
    self.c_iter = check_whole(self.name, 1, 1000, c_iter=c_iter)  # each is a part of the graph
    self.c = Critic(self.n_states, self.box.n_actions, self.units['dual critic'], self.init_rng)
    self.saved._c_net = self.c

  def divergence_updates(self) -> List[agent.Update]:
    return [self.update('c', self.c_loss, 'dual critic', self.c)]

  def extra_updates(self) -> List[agent.Update]:
    return [u for u in self.updates if u.name == 'c'] * (self.c_iter - 1)

  def divergence(self, s: tf.Tensor, pi: TanhNormal, a_b: tf.Tensor, rng: Rng) -> tf.Tensor:
    """`D(s)` of a sample of `π(s)` against the data's action."""
    a_pi, _ = pi.sample(rng)
    return self._d(self.c(s, a_pi), self.c(s, a_b))

  def c_loss(self, batch: Batch, rng: Rng) -> Tuple[tf.Tensor, agent.Info]:
    """`E[-D(s)] + γ_gp E[max(|∇ₐ c(s, â)| - 1, 0)²]`."""
    s, a_b = batch.s1, batch.a1
    a_pi, _ = self.pi(s).sample(rng)
    d = self._d(self.c(s, a_pi), self.c(s, a_b))
    return -tf.reduce_mean(d) + divergences.gradient_penalty(self.c, s, a_pi, a_b, rng), {}
