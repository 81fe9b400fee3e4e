"""BRAC with a divergence in its dual form: a critic tells the policy's actions from the data's."""

import gin
import tensorflow as tf

from brac import divergences
from brac.agents.brac import BRAC
from brac.agents.loop import Info, Update
from brac.data.transitions import Batch
from brac.errors import check_whole
from brac.networks import Critic, TanhNormal
from brac.rng import Rng


@gin.configurable
class Agent(BRAC):
  r"""BRAC where `D(s)` is as large as a critic `c(s, a)` can make it; `a_b` from the data.

  - `kl`: `D(s) = log softplus(c(s, a_π)) + 1 - softplus(c(s, a_b))`
  - `w`: `D(s) = c(s, a_π) - c(s, a_b)`
  - `J(c) = E[-D(s)] + γ_gp E[max(|∇ₐ c(s, â)| - 1, 0)²]`, â uniformly between `a_π` and `a_b`

  Args:
    c_iter: updates of c in a training step, the first on the batch of q and p, the others each on
      one of its own.
    alpha, ...: see `BRAC`.
  """

  UNITS = ('q', 'policy', 'dual critic')
  OPTIMIZERS = ('q', 'policy', 'dual critic', 'multipliers')
  DECAYS = ('q', 'p', 'c')
  DIVERGENCES = divergences.DUAL

  def __init__(self, *, c_iter: int = 3, **brac):
    super().__init__(**brac)
    self.c_iter = check_whole(self.name, 1, 1000, c_iter=c_iter)  # each is a part of the graph
    self.c = Critic(self.n_states, self.box.n_actions, self.units['dual critic'], self.init_draws)
    self.saved._c_net = self.c

  @property
  def reads_next_actions(self) -> bool:
    return self.value_penalty

  def divergence_updates(self) -> list[Update]:
    return [self.update('c', self.c_loss, 'dual critic', self.c)]

  def extra_updates(self) -> list[Update]:
    return [u for u in self.updates if u.name == 'c'] * (self.c_iter - 1)

  def divergence(self, s: tf.Tensor, pi: TanhNormal, a_b: tf.Tensor, draws: Rng) -> tf.Tensor:
    """`D(s)` of a sample of `π(s)` against the data's action."""
    a_pi, _ = pi.sample(draws)
    return self._divergence(self.c(s, a_pi), self.c(s, a_b))

  def c_loss(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, Info]:
    """`E[-D(s)] + γ_gp E[max(|∇ₐ c(s, â)| - 1, 0)²]`."""
    s, a_b = batch.s1, batch.a1
    a_pi, _ = self.pi(s).sample(draws)
    div = self._divergence(self.c(s, a_pi), self.c(s, a_b))
    return -tf.reduce_mean(div) + divergences.gradient_penalty(self.c, s, a_pi, a_b, draws), {}
