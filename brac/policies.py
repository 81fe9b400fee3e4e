"""Policies over batches of states, `[B, S] -> [B, A]`, as TF-Agents policies.

`act` is all that a policy has to say; TF-Agents' drivers and its `PolicySaver` take each of them as
any other `TFPolicy`.
"""

from typing import Sequence

import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts

from brac.networks import VAE, Actor, Box, Critic, Perturbation
from brac.rng import ACT, Rng

N_MAX_Q_SAMPLES = 10


class Policy(tf_policy.TFPolicy):
  """A policy without memory for states `[S]` and actions `[A]` in a box."""

  def __init__(self, observation_spec, action_spec, networks: Sequence[tf.Module] = ()):
    super().__init__(ts.time_step_spec(observation_spec), action_spec, name='policy')
    self.box = Box.of(action_spec)
    self._networks = list(networks)

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    """Actions `[B, A]` at states `[B, S]`, each row by itself."""
    raise NotImplementedError

  def _action(self, time_step, policy_state, seed):
    if seed is None:
      seed = tf.random.uniform([], 0, tf.int32.max, tf.int32)
    else:
      seed = tf.reshape(seed, [-1])[-1]
    action = self.act(tf.cast(time_step.observation, tf.float32), Rng(seed, ACT))
    return policy_step.PolicyStep(tf.cast(action, self.action_spec.dtype), policy_state)

  def _variables(self):
    return [v for network in self._networks for v in network.variables]


class RandomPolicy(Policy):
  """Actions drawn evenly from the box."""

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    u = rng.uniform([tf.shape(s)[0], self.box.n_actions], -1.0, 1.0)
    return self.box.mags * u + self.box.means


class ActorPolicy(Policy):
  """An actor's law: a sample of it, or its mode."""

  def __init__(self, observation_spec, action_spec, actor: Actor, mode: bool = False):
    super().__init__(observation_spec, action_spec, [actor])
    self._actor, self._mode = actor, mode

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    pi = self._actor(s)
    return pi.mode() if self._mode else pi.sample(rng)[0]

  def _distribution(self, time_step, policy_state):
    pi = self._actor(tf.cast(time_step.observation, tf.float32))
    if self._mode:
      law = tfp.distributions.Deterministic(pi.mode())
    else:
      normal = tfp.distributions.MultivariateNormalDiag(pi.mean, tf.exp(pi.log_std))
      squash = [tfp.bijectors.Shift(self.box.means), tfp.bijectors.Scale(self.box.mags)]
      squash = tfp.bijectors.Chain([*squash, tfp.bijectors.Tanh()])
      law = tfp.distributions.TransformedDistribution(normal, squash)
    return policy_step.PolicyStep(law, policy_state)


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
    self._vae, self._xi, self._q, self._n_samples = vae, xi, q, n_samples

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    repeated = tf.repeat(s, self._n_samples, 0)
    a = self._xi(repeated, self._vae.sample(repeated, rng))
    return best_of(tf.reshape(a, [-1, self._n_samples, self.box.n_actions]), s, self._q)


def best_of(a: tf.Tensor, s: tf.Tensor, q: Critic) -> tf.Tensor:
  """Of n actions for each state, `[B, n, A]`, the one with the largest `q(s, a)`: `[B, A]`."""
  n = a.shape[1]
  values = q(tf.repeat(s, n, 0), tf.reshape(a, [-1, a.shape[2]]))
  return tf.gather(a, tf.argmax(tf.reshape(values, [-1, n]), -1), batch_dims=1)


class GaussianPolicy(Policy):
  """Another policy's actions with noise of a standard deviation in the actions' unit, clipped."""

  def __init__(self, policy: Policy, std: float):
    super().__init__(policy.time_step_spec.observation, policy.action_spec, [policy])
    self._policy, self._std = policy, std

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    a = self._policy.act(s, rng)
    return self.box.clip(a + self._std * rng.normal(tf.shape(a)))


class EpsilonPolicy(Policy):
  """Another policy's actions, but with probability ε, row by row, drawn evenly from the box."""

  def __init__(self, policy: Policy, epsilon: float):
    super().__init__(policy.time_step_spec.observation, policy.action_spec, [policy])
    self._policy, self._epsilon = policy, epsilon
    self._random = RandomPolicy(policy.time_step_spec.observation, policy.action_spec)

  def act(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    explores = rng.uniform([tf.shape(s)[0], 1]) < self._epsilon
    return tf.where(explores, self._random.act(s, rng), self._policy.act(s, rng))
