"""Fitted Q evaluation: what a policy is worth, told from data alone."""

import functools
import zlib
from collections.abc import Callable
from typing import Optional

import gin
import numpy as np
import tensorflow as tf
from absl import logging

from brac import networks, rng
from brac.agents import frozen
from brac.agents.actor_critic import ActorCritic
from brac.agents.loop import Update
from brac.data.transitions import Batch
from brac.errors import UserError
from brac.policies import Policy
from brac.rng import Rng

_ROWS = 4096  # states whose values are computed at a time
_REPETITIONS = 1000  # of the bootstrap


@gin.configurable
class Agent(ActorCritic):
  r"""Fitted Q evaluation (Le, Voloshin, Yue, arXiv 1903.08738) of the policy π of a checkpoint.

  - `J(Q) = Σ_k E[(Q_k(s, a) - (r + γ d Q̄(s', a')))²]`, `(s, a, r, s', d)` from the data,
    `a' ~ π(s')`
  - `V = E[Q(s₀, a₀)]`, `s₀` the first states of the data's episodes, `a₀ ~ π(s₀)`

  π is not trained. V is the estimate of its discounted return that hyper-parameters are chosen by
  without a simulator in Paine et al., arXiv 2007.09055; it is written down at each evaluation as
  `value`, with the 95 % bootstrap over episodes, `value_low` to `value_high`. That interval tells
  how much the first states differ, and nothing of how far Q is from the truth.

  Args:
    checkpoint: where π is: an `agent_behavior`, an `agent_partial_target`, or the `agent` of a run.
    policy_name: which of its policies, 'main', 'max_q' or 'sample'; by default the one that it is
      judged by.
    ensemble_q_lambda: λ of the ensemble of critics; 0.5 is the mean of two.
  """

  UNITS = ('q',)
  OPTIMIZERS = ('q',)
  DECAYS = ('q',)
  ESTIMATES = ('value', 'value_low', 'value_high')

  def __init__(
    self,
    *,
    checkpoint: Optional[str] = None,
    policy_name: Optional[str] = None,
    ensemble_q_lambda: float = 0.5,
    **common,
  ):
    super().__init__(ensemble_q_lambda=ensemble_q_lambda, **common)
    if not isinstance(checkpoint, str):
      raise UserError(
        f'{self.name}.checkpoint is not set: --gin_bindings="{self.name}.checkpoint=\'...\'" names '
        'the policy that is evaluated'
      )
    if checkpoint.endswith('.onnx'):
      raise UserError(f'{self.name}.checkpoint {checkpoint} is an ONNX file, and no checkpoint')
    if not len(self.data.first_states):
      raise UserError(
        f'{self.name} needs data that tell their episodes (data/_end), of whose first states it '
        'gives the value'
      )
    self.pi = frozen.load(checkpoint, policy_name, self.observation_spec, self.action_spec)
    self._networks = frozen.networks_of(self.pi)
    self._has_warned = False

  def make_updates(self) -> list[Update]:
    return [self.update('q', self.q_loss, 'q', *self.q_nets)]

  def next_value(self, batch: Batch, draws: Rng) -> tuple[tf.Tensor, tf.Tensor]:
    """`Q̄(s', a')`, `a' ~ π(s')`."""
    q = self.target_q(batch.s2, self.pi(batch.s2, draws))
    return q, q

  @property
  def policy(self) -> tf.Module:
    return self._networks

  def policies(self) -> dict[str, Policy]:
    return {'main': self.pi}

  def acting_policy(self) -> Policy:
    return self.pi

  def identity(self) -> dict[str, object]:
    checksum = 0
    for variable in self.policy.variables:
      checksum = zlib.crc32(variable.numpy().tobytes(), checksum)
    return {'frozen_policy': f'{checksum:08x}'}

  def estimate(self) -> dict[str, float]:
    """`value`, with its 95 % bootstrap over episodes."""
    s = self.data.first_states
    values = np.concatenate(
      [
        self._value(s[i : i + _ROWS], tf.constant(i // _ROWS, tf.int64)).numpy()
        for i in range(0, len(s), _ROWS)
      ]
    )
    value, (low, high) = float(values.mean()), self._possible
    if not low <= value <= high and not self._has_warned:
      self._has_warned = True
      logging.warning(
        '%s: no policy can be worth %.4g: rewards such as the data has give discounted returns '
        'from %.4g to %.4g; Q has diverged, as it does where a policy leaves the data',
        self.name, value, low, high,
      )  # fmt: skip
    return dict(zip(self.ESTIMATES, (value, *_interval(values))))

  @functools.cached_property
  def _possible(self) -> tuple[float, float]:
    """The least and the largest discounted return that rewards such as the data has may give."""
    return possible(self.data._reward.numpy()[: self.data.size], self.discount)

  @functools.cached_property
  def _value(self) -> Callable:
    """`(s₀ [B, S], the number of the part) -> Q(s₀, a₀) [B]`."""
    spec = tf.TensorSpec([None, self.n_states], tf.float32)

    def value(s, part):
      step = tf.cast(self.global_step.read_value(), tf.int64)
      a = self.pi(s, Rng(self.seed, rng.VALUE, step * _ROWS + part))
      return networks.ensemble([q(s, a) for q in self.q_nets], self.ensemble_q_lambda)

    return tf.function(value, autograph=False, input_signature=[spec, tf.TensorSpec([], tf.int64)])


def possible(rewards: np.ndarray, discount: float) -> tuple[float, float]:
  """The least and the largest discounted return that such rewards, `[n]`, may give."""
  horizon = 1 / (1 - discount) if discount < 1 else np.inf
  low, high = float(rewards.min()), float(rewards.max())
  return min(0.0, low * horizon) if low else 0.0, max(0.0, high * horizon) if high else 0.0


def _interval(values: np.ndarray) -> tuple[float, float]:
  """The 95 % bootstrap of a mean, `[n]` drawn with replacement."""
  random, n = np.random.default_rng(0), len(values)
  means = [values[random.integers(n, size=n)].mean() for _ in range(_REPETITIONS)]
  low, high = np.percentile(means, [2.5, 97.5])
  return float(low), float(high)
