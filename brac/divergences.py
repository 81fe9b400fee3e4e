"""The divergences between the policy π and the behavior policy b (section 4 of the paper).

Primal ones compare the two policies at states `[B, S]` from n of their actions, given the clone of
b. Dual ones need no clone: a critic `c(s, a)` is trained to tell the actions of π from the data's.
All give `[B]`. To add one, write its function and name it in `PRIMAL` or `DUAL`.
"""

from typing import Callable

import gin
import tensorflow as tf

from brac.errors import UserError, check_bool, check_number, nearest
from brac.networks import ACTION_MARGIN, Critic, TanhNormal
from brac.rng import Rng

_MIN_EXPONENT = -15.0
_MIN_SQUARE = 1e-6  # below it a root is taken as constant, for its slope grows without bound


def kl(pi: TanhNormal, b: TanhNormal, n: int, draws: Rng) -> tf.Tensor:
  """`KL(π, b) = E_π[log π(a|s) - log b(a|s)]`, the mean over n samples of π."""
  a, log_pi = pi.sample(draws, n)
  return tf.reduce_mean(log_pi - b.log_prob(a, ACTION_MARGIN), 0)


@gin.configurable(denylist=['x', 'y'])
def laplacian_kernel(x: tf.Tensor, y: tf.Tensor, sigma: float = 20.0) -> tf.Tensor:
  """`exp(-|x - y|₁ / σ)` over the last axis.

  Args:
    x, y: actions `[..., A]`.
    sigma: σ, in units of the actions.
  """
  sigma = check_number('laplacian_kernel', 1e-6, sigma=sigma)
  return tf.exp(-tf.reduce_sum(tf.abs(x - y), -1) / sigma)


@gin.configurable(denylist=['pi', 'b', 'n', 'draws'])
def mmd(
  pi: TanhNormal,
  b: TanhNormal,
  n: int,
  draws: Rng,
  use_sqrt: bool = False,
  unbiased: bool = False,
) -> tf.Tensor:
  """`k(π, π) + k(b, b) - 2 k(π, b)`, each the mean over n × n pairs; with `use_sqrt` its root.

  Of two equal policies that is not 0: `k(π, π)` has each action with itself, where k is 1.
  `unbiased` leaves these pairs out (Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012,
  equation 3), so that the mean over many draws is 0, and single values may be negative.

  Args:
    pi, b: the policy and the behavior policy, at states `[B, S]`.
    n: how many actions of each are drawn.
    draws: draws them.
    use_sqrt: whether D is the root, as in BEAR, and not the square.
    unbiased: whether the pairs of an action with itself are left out; it takes n of at least 2.
  """
  check_bool('mmd', use_sqrt=use_sqrt, unbiased=unbiased)
  if unbiased and n < 2:
    raise UserError('mmd.unbiased takes pairs of two actions: n_div_samples is at least 2, not 1')
  x, _ = pi.sample(draws, n)
  y, _ = b.sample(draws, n)

  def k(x, y):
    return tf.reduce_mean(laplacian_kernel(x[:, None], y[None]), [0, 1])

  def k_own(x):
    return (n * k(x, x) - 1) / (n - 1) if unbiased else k(x, x)

  square = k_own(x) + k_own(y) - 2 * k(x, y)
  return tf.sqrt(tf.maximum(square, _MIN_SQUARE)) if use_sqrt else square


def dual_kl(c_pi: tf.Tensor, c_b: tf.Tensor) -> tf.Tensor:
  """`log softplus(c(s, a_π)) + 1 - softplus(c(s, a_b))`, a lower bound of `KL(π, b)`."""
  # Far below 0, where softplus(c) = e^c underflows, its logarithm is c.
  log = tf.math.log(tf.nn.softplus(tf.maximum(c_pi, _MIN_EXPONENT)))
  return tf.where(c_pi < _MIN_EXPONENT, c_pi, log) + 1 - tf.nn.softplus(c_b)


def dual_w(c_pi: tf.Tensor, c_b: tf.Tensor) -> tf.Tensor:
  """`c(s, a_π) - c(s, a_b)`: Wasserstein's, where the critic's slope is at most 1."""
  return c_pi - c_b


@gin.configurable(denylist=['c', 's', 'a_pi', 'a_b', 'draws'])
def gradient_penalty(
  c: Critic, s: tf.Tensor, a_pi: tf.Tensor, a_b: tf.Tensor, draws: Rng, gamma: float = 5.0
) -> tf.Tensor:
  """`γ E[max(|∇ₐ c(s, â)| - 1, 0)²]`, â drawn uniformly between `a_π` and `a_b`; a scalar.

  Args:
    c: the critic of the dual divergence.
    s: states `[B, S]`.
    a_pi, a_b: the policy's actions and the data's, `[B, A]`.
    draws: draws the points between them.
    gamma: γ, the weight; 0 leaves the slopes free.
  """
  gamma = check_number('gradient_penalty', 0, gamma=gamma)
  u = draws.uniform([tf.shape(s)[0], 1])
  _, slope = c.gradient(c.hidden(s, a_b + u * (a_pi - a_b)))
  # The root has no slope at 0, which a dead ReLU network reaches; there the penalty is 0 anyway.
  norm = tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(slope), -1), _MIN_SQUARE))
  return gamma * tf.reduce_mean(tf.square(tf.nn.relu(norm - 1)))


PRIMAL: dict[str, Callable] = {'kl': kl, 'mmd': mmd}
DUAL: dict[str, Callable] = {'kl': dual_kl, 'w': dual_w}


def find(name: str, among: dict[str, Callable], parameter: str) -> Callable:
  """The divergence of that name.

  Raises:
    UserError: there is none; the message names the nearest, or whose it is.
  """
  if not isinstance(name, str) or name not in among:
    hint = nearest(str(name).lower(), among)
    for agent_name, others in (('brac_primal', PRIMAL), ('brac_dual', DUAL)):
      hint = f'; {name!r} is one of {agent_name}' if str(name) in others else hint
    raise UserError(
      f'{parameter}: unknown divergence {name!r}, there are {", ".join(map(repr, among))}{hint}'
    )
  return among[name]
