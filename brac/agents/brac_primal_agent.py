"""BRAC with a divergence in its primal form, against a cloned behavior policy."""

import math
from typing import Optional

import gin
import tensorflow as tf

from brac import divergences, policy_loader
from brac.agents.agent import MAX_ROWS, Clone
from brac.agents.brac import BRAC
from brac.errors import UserError, check_whole
from brac.networks import TanhNormal
from brac.rng import Rng


@gin.configurable
class Agent(BRAC):
  r"""BRAC where `D(s)` is estimated from samples of π(s) and of a behavior policy b(s).

  - `kl`: `E_π[log π(a|s) - log b(a|s)]`
  - `mmd`: `k(π, π) + k(b, b) - 2 k(π, b)`, k the mean of a Laplacian kernel over pairs of actions

  BEAR (arXiv 1906.00949) is `mmd` with `value_penalty=False` and a trained α.

  Args:
    behavior_ckpt_file: the `agent_behavior` that `--agent_name=bc` left.
    n_div_samples: n, the actions of each policy that D is estimated from.
    alpha, ...: see `BRAC`.
  """

  CLONE = Clone(parameter='behavior_ckpt_file', agent='bc')
  DIVERGENCES = divergences.PRIMAL

  def __init__(self, *, behavior_ckpt_file: Optional[str] = None, n_div_samples: int = 4, **brac):
    super().__init__(**brac)
    # mmd takes n × n pairs of actions, a hundredth of the size of as many rows of hidden units.
    most = max(1, math.isqrt(100 * MAX_ROWS // self.batch_size))
    self.n_div_samples = check_whole(self.name, 1, most, n_div_samples=n_div_samples)
    if behavior_ckpt_file is None:
      raise UserError(
        f'{self.name}.behavior_ckpt_file is not set: clone the behavior policy first '
        '(--agent_name=bc), then give its agent_behavior by '
        f'--gin_bindings="{self.name}.behavior_ckpt_file=\'...\'"'
      )
    self.behavior_ckpt_file = behavior_ckpt_file
    self.b = policy_loader.load_clone(behavior_ckpt_file, self.n_states, self.box)
    self.saved._b_net = self.b

  def divergence(self, s: tf.Tensor, pi: TanhNormal, a_b: tf.Tensor, draws: Rng) -> tf.Tensor:
    """`D(s)` of n samples of `π(s)` against `b(s)`."""
    return self._divergence(pi, self.b(s), self.n_div_samples, draws)

  @property
  def judged_by(self) -> str:
    """BEAR tests the sample with the largest Q (its paper, algorithm 1)."""
    is_bear = self.divergence_name == 'mmd' and not self.value_penalty and self.train_alpha
    return 'max_q' if is_bear else super().judged_by
