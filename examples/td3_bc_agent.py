"""TD3+BC (Fujimoto and Gu, arXiv 2106.06860), the example of docs/add_an_agent.md.

From the folder of this file:

python -m brac.train_offline --agent_name=td3_bc_agent:Agent \
  --gin_bindings='train_eval_offline.update_freq=2'
"""

import gin
import tensorflow as tf

from brac.agents import agent
from brac.agents.actor_critic import ActorCritic
from brac.agents.loop import Info, Update
from brac.dataset import Batch
from brac.errors import check_number, check_whole
from brac.policies import GaussianPolicy, Policy
from brac.rng import Rng

_EXPLORATION = 0.1  # standard deviation in half-widths of the actions, online; TD3's


@gin.configurable
class Agent(ActorCritic):
  r"""TD3 whose policy is held to the data's actions; in half-widths of the actions.

  - `V(s') = Q̄(s', π̄(s') + ε)`, `ε ~ N(0, policy_noise²)` clipped to `± noise_clip`
  - `J(π) = E[(π(s) - a)²] - λ E[Q_1(s, π(s))]`, `λ = alpha / E|Q_1(s, π(s))|`

  π is the mode of an actor, whose scales are not used. The paper also normalizes the states; this
  does not. Its targets move with the policy: `update_freq` is `policy_freq` there.

  Args:
    alpha: the weight of Q.
    policy_noise: of the target policy.
    noise_clip: where that noise is clipped.
    policy_freq: training steps from one update of the policy to the next.
    ensemble_q_lambda: λ of the ensemble of critics.
  """

  OPTIMIZERS = ('q', 'policy')

  def __init__(
    self,
    *,
    alpha: float = 2.5,
    policy_noise: float = 0.2,
    noise_clip: float = 0.5,
    policy_freq: int = 2,
    **common,
  ):
    super().__init__(**common)
    self.alpha, self.policy_noise, self.noise_clip = check_number(
      self.name, 0, alpha=alpha, policy_noise=policy_noise, noise_clip=noise_clip
    )
    self.policy_freq = check_whole(self.name, 1, policy_freq=policy_freq)
    self.pi, self.target_pi = self.make_actor(), self.make_actor()
    agent.copy(self.pi, self.target_pi)
    self.saved._p_net_target = self.target_pi

  def make_updates(self) -> list[Update]:
    return [
      self.update('q', self.q_loss, 'q', *self.q_nets),
      self.update('p', self.p_loss, 'policy', self.pi, every=self.policy_freq),
    ]

  def targets(self) -> list[tuple[tf.Module, tf.Module]]:
    return [*super().targets(), (self.pi, self.target_pi)]

  def next_value(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, tf.Tensor]:
    """`Q̄(s', π̄(s') + ε)`."""
    noise = self.policy_noise * draws.normal(tf.shape(batch.a1))
    noise = tf.clip_by_value(noise, -self.noise_clip, self.noise_clip)
    a2 = self.box.clip(self.target_pi(batch.s2).mode() + self.box.mags * noise)
    q = self.target_q(batch.s2, a2)
    return q, q

  def p_loss(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, Info]:
    """`E[(π(s) - a)²] - λ E[Q_1(s, π(s))]`."""
    a = self.pi(batch.s1).mode()
    q = self.q_nets[0](batch.s1, a)
    weight = self.alpha / tf.stop_gradient(tf.reduce_mean(tf.abs(q)))
    distance = tf.reduce_mean(tf.square((a - batch.a1) / self.box.mags))
    return distance - weight * tf.reduce_mean(q), {'bc_loss': distance}

  def acting_policy(self) -> Policy:
    return GaussianPolicy(self.policies()['main'], _EXPLORATION * self.box.mags)
