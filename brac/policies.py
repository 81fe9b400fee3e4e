"""Policies over batches of states, `[B, S] -> [B, A]`.

`act` is all that a policy has to say. Where TF-Agents is installed, its drivers and its
`PolicySaver` take each of them as any other `TFPolicy`.
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from brac import tf_agents_bridge
from brac.errors import UserError, blaming
from brac.networks import VAE, Actor, Box, Critic, Perturbation
from brac.numpy_calls import numpy_call
from brac.rng import ACT, Rng

N_MAX_Q_SAMPLES = 10


class Policy(tf_agents_bridge.TFPolicy):
  """A policy without memory for states `[S]` and actions `[A]` in a box."""

  def __init__(self, observation_spec, action_spec, networks: Sequence[tf.Module] = ()):
    time_step_spec = tf_agents_bridge.time_step_spec(observation_spec)
    super().__init__(time_step_spec, action_spec, name='policy')
    self.box = Box.of(action_spec)
    self.networks = list(networks)

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    """Actions `[B, A]` at states `[B, S]`, each row by itself, but for rounding in the box."""
    raise NotImplementedError

  def __call__(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    """What `act` says, within the very bounds of the action spec, as an environment needs it."""
    return tf.clip_by_value(self.act(s, rng), self.action_spec.minimum, self.action_spec.maximum)

  def _action(self, time_step, policy_state, seed):
    if seed is None:
      seed = tf.random.uniform([], 0, tf.int32.max, tf.int32)
    else:
      seed = tf.reshape(seed, [-1])[-1]
    action = self(tf.cast(time_step.observation, tf.float32), Rng(seed, ACT))
    return tf_agents_bridge.PolicyStep(tf.cast(action, self.action_spec.dtype), policy_state)


class RandomPolicy(Policy):
  """Actions drawn uniformly from the box."""

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    u = rng.uniform([tf.shape(s)[0], self.box.n_actions], -1.0, 1.0)
    return self.box.mags * u + self.box.means


class ActorPolicy(Policy):
  """An actor's distribution: a sample of it, or its mode."""

  def __init__(self, observation_spec, action_spec, actor: Actor, mode: bool = False):
    super().__init__(observation_spec, action_spec, [actor])
    self._actor, self.mode = actor, mode

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    pi = self._actor(s)
    return pi.mode() if self.mode else pi.sample(rng)[0]

  def _distribution(self, time_step, policy_state):
    pi, box = self._actor(tf.cast(time_step.observation, tf.float32)), self.box
    if self.mode:
      distribution = tf_agents_bridge.deterministic(pi.mode())
    else:
      std = tf.exp(pi.log_std)
      distribution = tf_agents_bridge.tanh_normal(pi.mean, std, box.mags, box.means)
    return tf_agents_bridge.PolicyStep(distribution, policy_state)


class MaxQPolicy(Policy):
  """Of 10 samples of an actor the one with the largest Q (section 5 of the paper)."""

  def __init__(self, observation_spec, action_spec, actor: Actor, q: Critic):
    super().__init__(observation_spec, action_spec, [actor, q])
    self._actor, self._q = actor, q

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    a, _ = self._actor(s).sample(rng, N_MAX_Q_SAMPLES)
    return best_of(tf.transpose(a, [1, 0, 2]), s, self._q)


class BCQPolicy(Policy):
  """Of n perturbed samples of a VAE the one with the largest Q (arXiv 1812.02900, equation 11)."""

  def __init__(
    self, observation_spec, action_spec, vae: VAE, xi: Perturbation, q: Critic, n_samples: int
  ):
    super().__init__(observation_spec, action_spec, [vae, xi, q])
    self._vae, self._xi, self._q, self.n_samples = vae, xi, q, n_samples

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    repeated = tf.repeat(s, self.n_samples, 0)
    a = self._xi(repeated, self._vae.sample(repeated, rng))
    return best_of(tf.reshape(a, [-1, self.n_samples, self.box.n_actions]), s, self._q)


def best_of(a: tf.Tensor, s: tf.Tensor, q: Critic) -> tf.Tensor:
  """Of n actions for each state, `[B, n, A]`, the one with the largest `q(s, a)`: `[B, A]`."""
  n = a.shape[1]
  values = q(tf.repeat(s, n, 0), tf.reshape(a, [-1, a.shape[2]]))
  return tf.gather(a, tf.argmax(tf.reshape(values, [-1, n]), -1), batch_dims=1)


class PythonPolicy(Policy):
  """A function of Python: `observations [B, S], numpy.random.Generator -> actions [B, A]`.

  The generator is a function of the seed and the step, as all that policies draw with.
  """

  def __init__(self, observation_spec, action_spec, function: Callable, name: str, source: bytes):
    """Takes how the function is called in errors, and the source that it is of."""
    super().__init__(observation_spec, action_spec)
    self._function, self._function_name = function, name
    # What a collection that goes on compares, as it does the weights of other policies.
    self._checksum = tf.Variable(zlib.crc32(source), dtype=tf.int64)

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    seed = rng.integers([2], np.iinfo(np.int32).max)
    return tf.ensure_shape(
      numpy_call(self._call, [s, seed], tf.float32), [s.shape[0], self.box.n_actions]
    )

  def _call(self, s: np.ndarray, seed: np.ndarray) -> np.ndarray:
    with blaming(f'the policy {self._function_name} failed'):
      a = np.asarray(self._function(s.copy(), np.random.default_rng(seed)), np.float32)
    if a.shape != (len(s), self.box.n_actions):
      wanted = f'[{len(s)}, {self.box.n_actions}]'
      raise UserError(
        f'the policy {self._function_name} gave actions of shape {list(a.shape)} for states of '
        f'shape {list(s.shape)}, not {wanted}'
      )
    if not np.isfinite(a).all():
      raise UserError(f'the policy {self._function_name} gave an action that is not finite')
    return a


class GaussianPolicy(Policy):
  """Another policy's actions with noise of a standard deviation in the actions' unit, clipped."""

  def __init__(self, policy: Policy, std: float):
    super().__init__(policy.time_step_spec.observation, policy.action_spec, [policy])
    self._policy, self._std = policy, std

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    a = self._policy(s, rng)  # within the box, or noise would be lost beyond its edge
    return self.box.clip(a + self._std * rng.normal(tf.shape(a)))


class EpsilonPolicy(Policy):
  """Another policy's actions, but with probability ε, row by row, drawn uniformly from the box."""

  def __init__(self, policy: Policy, epsilon: float):
    super().__init__(policy.time_step_spec.observation, policy.action_spec, [policy])
    self._policy, self._epsilon = policy, epsilon
    self._random = RandomPolicy(policy.time_step_spec.observation, policy.action_spec)

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    explores = rng.uniform([tf.shape(s)[0], 1]) < self._epsilon
    return tf.where(explores, self._random.act(s, rng), self._policy.act(s, rng))
