"""BRAC with a divergence in its primal form, against a cloned behaviour policy."""

import math
from typing import Optional

import gin
import tensorflow as tf

from brac import divergences, policy_loader
from brac.agents.agent import MOST_ROWS
from brac.agents.brac import BRAC
from brac.errors import UserError, check_whole
from brac.networks import TanhNormal
from brac.rng import Rng


@gin.configurable
class Agent(BRAC):
  r"""BRAC where `D(s)` is estimated from samples of π(s) and of a behaviour policy b(s).

  - `kl`: `E_π[log π(a|s) - log b(a|s)]`
  - `mmd`: `k(π, π) + k(b, b) - 2 k(π, b)`, k the mean of a Laplacian kernel over pairs of actions

  BEAR (arXiv 1906.00949) is `mmd` with `value_penalty=False` and a trained α.

  Args:
    divergence_name: one of `divergences.PRIMAL`.
    behavior_ckpt_file: the `agent_behavior` that `--agent_name=bc` left.
    n_div_samples: n, the actions of each policy that D is estimated from.
    alpha, ...: see `BRAC`.
  """

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
    behavior_ckpt_file: Optional[str] = None,
    warm_start: int = 20000,
    n_div_samples: int = 4,
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
    name = self.name + '.'
    self._d = divergences.find(divergence_name, divergences.PRIMAL, name + 'divergence_name')
    # mmd takes n × n pairs of actions, a hundredth of the size of as many rows of hidden units.
    most = max(1, math.isqrt(100 * MOST_ROWS // self.batch_size))
    self.n_div_samples = check_whole(self.name, 1, most, n_div_samples=n_div_samples)
    if behavior_ckpt_file is None:
      raise UserError(
        f'{name}behavior_ckpt_file is not set: clone the behavior policy first (--agent_name=bc), '
        f'then give its agent_behavior by --gin_bindings="{name}behavior_ckpt_file=\'...\'"'
      )
    self.behavior_ckpt_file = behavior_ckpt_file
    self.b = policy_loader.load_clone(behavior_ckpt_file, self.n_states, self.box)
    self.saved._b_net = self.b

  def divergence(self, s: tf.Tensor, pi: TanhNormal, a_b: tf.Tensor, rng: Rng) -> tf.Tensor:
    """`D(s)` of n samples of `π(s)` against `b(s)`."""
    return self._d(pi, self.b(s), self.n_div_samples, rng)
