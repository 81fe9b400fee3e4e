"""What sac, bcq and the two brac agents share: the ensemble of critics with their targets."""

from typing import List, Tuple

import tensorflow as tf

from brac.agents import agent
from brac.dataset import Batch
from brac.errors import check_number
from brac.networks import Critic
from brac.rng import Rng


class ActorCritic(agent.Agent):
  r"""k critics, each with a target copy, trained to `y = r + γ d V(s')`:

  `J(Q) = Σ_k E[(Q_k(s, a) - y)²]`. The agent says what `V` is.

  Args:
    ensemble_q_lambda: λ of the ensemble `λ min_k Q_k + (1 - λ) max_k Q_k`.
  """

  def __init__(self, *, ensemble_q_lambda: float, **common):
    super().__init__(**common)
    self.ensemble_q_lambda = check_number(self.name, 0, 1, ensemble_q_lambda=ensemble_q_lambda)
    self.q_nets = [self._make_critic() for _ in range(self.numbers['n_q'])]
    self.target_q_nets = [self._make_critic() for _ in self.q_nets]
    self.saved._q_nets = []
    for q, target_q in zip(self.q_nets, self.target_q_nets):
      agent.copy(q, target_q)
      self.saved._q_nets.append([q, target_q])

  def _make_critic(self) -> Critic:
    return Critic(self.n_states, self.box.n_actions, self.units['q'], self.init_rng)

  def targets(self) -> List[Tuple[tf.Module, tf.Module]]:
    return list(zip(self.q_nets, self.target_q_nets))

  def frozen_q(self, s: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
    """`Q(s, a)`, `[B]`: the ensemble of the critics, with a gradient for the actions alone.

    A loss that is to train the critics calls those in `q_nets` themselves, as `q_loss` does.
    """

    @tf.custom_gradient
    def ensemble_at(a):
      hidden = [q.hidden(s, a) for q in self.q_nets]
      qs = [q.value(h) for q, h in zip(self.q_nets, hidden)]

      def gradient(dy, variables):
        da = tf.zeros_like(a)
        for q, h, weight in zip(self.q_nets, hidden, self.shares(qs)):
          # Back through a critic go those rows alone whose value is its.
          rows = tf.where(weight)[:, 0]
          slope = q.action_gradient([tf.gather(layer, rows) for layer in h], self.box.n_actions)
          slope *= tf.gather(weight * dy, rows)[:, tf.newaxis]
          da = tf.tensor_scatter_nd_add(da, rows[:, tf.newaxis], slope)
        return da, [None] * len(variables)

      return self.ensemble(qs), gradient

    return ensemble_at(a)

  def target_q(self, s: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
    """`Q̄(s, a)`, `[B]`: the ensemble of the target critics."""
    return self.ensemble([q(s, a) for q in self.target_q_nets])

  def ensemble(self, qs: List[tf.Tensor]) -> tf.Tensor:
    """`λ min + (1 - λ) max` of a list of `[B]`."""
    λ = self.ensemble_q_lambda
    least, most = (f(tf.stack(qs), axis=0) for f in (tf.reduce_min, tf.reduce_max))
    return least if λ == 1 else λ * least + (1 - λ) * most

  def shares(self, qs: List[tf.Tensor]) -> List[tf.Tensor]:
    """The weight `[B]` that each of a list of `[B]` has in their ensemble."""
    λ, n = self.ensemble_q_lambda, len(qs)
    least, most = (tf.one_hot(f(tf.stack(qs), 0), n, axis=0) for f in (tf.argmin, tf.argmax))
    return tf.unstack(least if λ == 1 else λ * least + (1 - λ) * most)

  def next_value(self, batch: Batch, rng: Rng) -> tf.Tensor:
    """`V(s')`, `[B]`, of the target critics."""
    raise NotImplementedError

  def q_loss(self, batch: Batch, rng: Rng) -> Tuple[tf.Tensor, agent.Info]:
    """`Σ_k E[(Q_k(s, a) - (r + γ d V(s')))²]`."""
    v = self.next_value(batch, rng)
    y = tf.stop_gradient(batch.r + self.discount * batch.d * v)
    qs = [q(batch.s1, batch.a1) for q in self.q_nets]
    loss = tf.add_n([tf.reduce_mean(tf.square(q - y)) for q in qs])
    return loss, {
      'r_mean': tf.reduce_mean(batch.r),
      'dsc_mean': tf.reduce_mean(batch.d),
      'q2_target_mean': tf.reduce_mean(v),
      'q1_target_mean': tf.reduce_mean(y),
    }
