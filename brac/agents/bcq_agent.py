"""Batch-constrained Q-learning (Fujimoto, Meger, Precup, arXiv 1812.02900)."""

import gin
import tensorflow as tf

from brac.agents import agent
from brac.agents.actor_critic import ActorCritic
from brac.agents.loop import Info, Update
from brac.data.transitions import Batch
from brac.errors import check_bool, check_whole
from brac.networks import VAE, Perturbation
from brac.policies import BCQPolicy, Policy
from brac.rng import Rng


@gin.configurable
class Agent(ActorCritic):
  r"""BCQ: the value of the best of n perturbed samples of a model of the data's actions.

  - `V(s') = max_i Q̄(s', a_i)`, `a_i = ξ(s', b_i)`, `b_1 ... b_n ~ VAE(s')`
  - `J(ξ) = E[-Q_1(s, ξ(s, b))]`, `b ~ VAE(s)`
  - `J(VAE) = E[(a - â)²] + ½ E[KL(z | N(0, 1))]`, means over the coordinates too

  Args:
    ensemble_q_lambda: λ of the ensemble of critics.
    n_action_samples: n.
    use_target_policy: whether ξ in V is its target copy.
    paper_code: as in the published code the target copy of ξ stays as it was at the start, and the
      VAE is trained by the optimizer of ξ.
  """

  UNITS = ('q', 'perturbation', 'vae')
  NUMBERS = {'n_q': None, 'max_perturbation': 0.05}  # Φ as in BCQ's paper
  OPTIMIZERS = ('q', 'perturbation', 'vae')
  DECAYS = ('q', 'p', 'b')

  def __init__(
    self,
    *,
    ensemble_q_lambda: float = 0.75,
    n_action_samples: int = 10,
    use_target_policy: bool = True,
    paper_code: bool = False,
    **common,
  ):
    super().__init__(ensemble_q_lambda=ensemble_q_lambda, **common)
    most = max(1, agent.MAX_ROWS // self.batch_size)
    self.n_action_samples = check_whole(self.name, 1, most, n_action_samples=n_action_samples)
    check_bool(self.name, use_target_policy=use_target_policy, paper_code=paper_code)
    self.paper_code = paper_code
    self.xi, self.target_xi = self._make_perturbation(), self._make_perturbation()
    agent.copy(self.xi, self.target_xi)
    self.next_xi = self.target_xi if use_target_policy else self.xi
    self.vae = VAE(self.n_states, self.units['vae'], self.box, self.init_draws)
    self.saved._p_net_target, self.saved._b_net = self.target_xi, self.vae

  def _make_perturbation(self) -> Perturbation:
    phi = self.numbers['max_perturbation']
    return Perturbation(self.n_states, self.units['perturbation'], self.box, phi, self.init_draws)

  def targets(self) -> list[tuple[tf.Module, tf.Module]]:
    return super().targets() + ([] if self.paper_code else [(self.xi, self.target_xi)])

  def make_updates(self) -> list[Update]:
    q = self.update('q', self.q_loss, 'q', *self.q_nets)
    p = self.update('p', self.p_loss, 'perturbation', self.xi)
    b = self.update('b', self.b_loss, 'vae', self.vae)
    if self.paper_code:
      shared = self.make_optimizer('perturbation', [*p.variables, *b.variables])
      p, b = p._replace(optimizer=shared), b._replace(optimizer=shared)
    return [q, p, b]

  def next_value(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, tf.Tensor]:
    """`max_i Q̄(s', a_i)` of n perturbed samples; the Q̄ in it is that largest one."""
    n = self.n_action_samples
    s2 = tf.repeat(batch.s2, n, 0)
    qs = self.target_q(s2, self.next_xi(s2, self.vae.sample(s2, draws)))
    v = tf.reduce_max(tf.reshape(qs, [-1, n]), -1)
    return v, v

  def p_loss(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, Info]:
    """`E[-Q_1(s, ξ(s, b))]`."""
    s = batch.s1
    return -tf.reduce_mean(self.q_nets[0](s, self.xi(s, self.vae.sample(s, draws)))), {}

  def b_loss(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, Info]:
    """`E[(a - â)²] + ½ E[-½ (1 + log σ² - m² - σ²)]`, `z ~ N(m, σ²)`, `â = decode(s, z)`."""
    s, a = batch.s1, batch.a1
    mean, log_std = self.vae.encode(s, a)
    z = mean + tf.exp(log_std) * draws.normal(tf.shape(mean))
    reconstruction = tf.reduce_mean(tf.square(self.vae.decode(s, z) - a))
    kl = tf.reduce_mean(-0.5 * (1 + 2 * log_std - tf.square(mean) - tf.exp(2 * log_std)))
    return reconstruction + 0.5 * kl, {'recon_loss': reconstruction, 'kl_loss': kl}

  @property
  def policy(self) -> tf.Module:
    return self.xi

  def policies(self) -> dict[str, Policy]:
    specs = self.observation_spec, self.action_spec
    nets = self.vae, self.xi, self.q_nets[0]
    return {'main': BCQPolicy(*specs, *nets, self.n_action_samples)}

  def acting_policy(self) -> Policy:
    return self.policies()['main']
