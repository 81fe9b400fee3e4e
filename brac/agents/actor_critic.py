"""What sac, bcq, fqe and the two brac agents share: the ensemble of critics with their targets."""

import tensorflow as tf

from brac import networks
from brac.agents import agent
from brac.agents.loop import Info
from brac.data.transitions import Batch
from brac.errors import check_number
from brac.networks import Critic
from brac.rng import Rng


class ActorCritic(agent.Agent):
  r"""k critics, each with a target copy, trained to `y = r + γ d V(s')`:

  `J(Q) = Σ_k E[(Q_k(s, a) - y)²]`. The agent says what `V` is.

  Args:
    ensemble_q_lambda: λ of the ensemble `λ min_k Q_k + (1 - λ) max_k Q_k`.
  """

  def __init__(self, *, ensemble_q_lambda: float = 1.0, **common):
    super().__init__(**common)
    self.ensemble_q_lambda = check_number(self.name, 0, 1, ensemble_q_lambda=ensemble_q_lambda)
    self.q_nets = [self._make_critic() for _ in range(self.numbers['n_q'])]
    self.target_q_nets = [self._make_critic() for _ in self.q_nets]
    self.saved._q_nets = []
    for q, target_q in zip(self.q_nets, self.target_q_nets):
      agent.copy(q, target_q)
      self.saved._q_nets.append([q, target_q])

  def _make_critic(self) -> Critic:
    return Critic(self.n_states, self.box.n_actions, self.units['q'], self.init_draws)

  def targets(self) -> list[tuple[tf.Module, tf.Module]]:
    return list(zip(self.q_nets, self.target_q_nets))

  def frozen_q(self, s: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
    """`Q(s, a)`, `[B]`: the ensemble of the critics, with no gradient for the critics themselves.

    A loss that is to train the critics calls those in `q_nets`, as `q_loss` does.
    """
    return networks.frozen_ensemble(self.q_nets, s, a, self.ensemble_q_lambda)

  def target_q(self, s: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
    """`Q̄(s, a)`, `[B]`: the ensemble of the target critics."""
    return networks.ensemble([q(s, a) for q in self.target_q_nets], self.ensemble_q_lambda)

  def next_value(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, tf.Tensor]:
    """`V(s')`, and the `Q̄(s', a')` in it, `[B]` each, of the target critics."""
    raise NotImplementedError

  def q_loss(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, Info]:
    """`Σ_k E[(Q_k(s, a) - (r + γ d V(s')))²]`."""
    v, target_q = self.next_value(batch, draws)
    y = tf.stop_gradient(batch.r + self.discount * batch.d * v)
    qs = [q(batch.s1, batch.a1) for q in self.q_nets]
    loss = tf.add_n([tf.reduce_mean(tf.square(q - y)) for q in qs])
    return loss, {
      'r_mean': tf.reduce_mean(batch.r),
      'dsc_mean': tf.reduce_mean(batch.d),
      'q2_target_mean': tf.reduce_mean(target_q),
      'v2_target_mean': tf.reduce_mean(v),
      'q1_target_mean': tf.reduce_mean(y),
    }
