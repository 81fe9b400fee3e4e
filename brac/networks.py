"""The networks of the paper: dense layers with ReLU, with the raw variables that a loop can update.

Shapes: states `[B, S]`, actions `[B, A]`, float32. Each network keeps its layers in `_layers`, a
key of the published checkpoints.
"""

import dataclasses
import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from brac.rng import Rng

ACTION_MARGIN = 1e-3  # at the edge of the box the density of a tanh-normal has no finite value
_LOG_STD_MIN, _LOG_STD_MAX = -5.0, 0.0


@dataclasses.dataclass(frozen=True)
class Box:
  """The actions that an environment takes: `means ± mags`, both `[A]` arrays."""

  means: np.ndarray
  mags: np.ndarray

  @classmethod
  def of(cls, action_spec) -> 'Box':
    """The box of a bounded action spec `[A]`."""
    low = np.broadcast_to(action_spec.minimum, action_spec.shape).astype(np.float32)
    high = np.broadcast_to(action_spec.maximum, action_spec.shape).astype(np.float32)
    return cls((high + low) / 2, (high - low) / 2)

  @property
  def n_actions(self) -> int:
    return len(self.mags)

  def clip(self, a: tf.Tensor, margin: float = 0.0) -> tf.Tensor:
    """Moves actions `[..., A]` to at least `margin` inside the box."""
    return tf.clip_by_value(a, self.means - self.mags + margin, self.means + self.mags - margin)


class Dense(tf.Module):
  """`x W + b`, with Glorot's uniform start."""

  def __init__(self, n_in: int, n_out: int, rng: Rng):
    super().__init__()
    limit = math.sqrt(6 / (n_in + n_out))
    self.kernel = tf.Variable(rng.uniform([n_in, n_out], -limit, limit), name='kernel')
    self.bias = tf.Variable(tf.zeros([n_out]), name='bias')

  def __call__(self, x: tf.Tensor) -> tf.Tensor:
    return tf.nn.bias_add(tf.matmul(x, self.kernel), self.bias)


def dense_layers(n_in: int, units: Sequence[int], n_out: int, rng: Rng) -> List[Dense]:
  """The layers of a network from `n_in` numbers over hidden `units` to `n_out`."""
  sizes = [n_in, *units, n_out]
  return [Dense(a, b, rng) for a, b in zip(sizes[:-1], sizes[1:])]


def forward(layers: Sequence[Dense], x: tf.Tensor) -> tf.Tensor:
  """`[B, n_in] -> [B, n_out]`: ReLU after each layer but the last."""
  for layer in layers[:-1]:
    x = tf.nn.relu(layer(x))
  return layers[-1](x)


class TanhNormal(NamedTuple):
  """The law of `mags tanh(m + σε) + means`, `ε ~ N(0, 1)`, for each row of a batch.

  Its log-density is written in closed form, with the corrections for tanh and for the box's size.
  """

  mean: tf.Tensor  # m, [B, A]
  log_std: tf.Tensor  # log σ, [B, A]
  box: Box

  def mode(self) -> tf.Tensor:
    """`mags tanh(m) + means`, `[B, A]`."""
    return self.box.mags * tf.tanh(self.mean) + self.box.means

  def sample(self, rng: Rng, n: Optional[int] = None) -> Tuple[tf.Tensor, tf.Tensor]:
    """Actions `[B, A]` and their log-densities `[B]`; with `n`, `[n, B, A]` and `[n, B]`."""
    shape = tf.shape(self.mean)
    noise = rng.normal(shape if n is None else tf.concat([[n], shape], 0))
    z = self.mean + tf.exp(self.log_std) * noise
    return self.box.mags * tf.tanh(z) + self.box.means, self._log_density(noise, z)

  def log_prob(self, a: tf.Tensor) -> tf.Tensor:
    """Log-density `[..., B]` of actions `[..., B, A]` strictly inside the box."""
    z = tf.atanh((a - self.box.means) * (1 / self.box.mags))
    return self._log_density((z - self.mean) * tf.exp(-self.log_std), z)

  def _log_density(self, noise, z):
    # log(1 - tanh² z) = 2 (log 2 - z - softplus(-2z)), which does not overflow. The sums over the
    # actions of what is constant in z are taken out, for they are a [B] or a scalar.
    per_action = 0.5 * tf.square(noise) - 2.0 * (z + tf.nn.softplus(-2.0 * z))
    size = math.log(2 * math.pi) / 2 + 2 * math.log(2) + np.log(self.box.mags)
    return -tf.reduce_sum(per_action, -1) - tf.reduce_sum(self.log_std, -1) - np.sum(size)


class Actor(tf.Module):
  """`s -> TanhNormal`: the last layer gives `m` and `u`, `log σ = -5 + 2.5 (tanh(u) + 1)`."""

  def __init__(self, n_states: int, units: Sequence[int], box: Box, rng: Rng):
    super().__init__()
    self.box = box
    self._layers = dense_layers(n_states, units, 2 * box.n_actions, rng)

  def __call__(self, s: tf.Tensor) -> TanhNormal:
    mean, u = tf.split(forward(self._layers, s), 2, axis=-1)
    log_std = _LOG_STD_MIN + (_LOG_STD_MAX - _LOG_STD_MIN) / 2 * (tf.tanh(u) + 1)
    return TanhNormal(mean, log_std, self.box)


class Critic(tf.Module):
  """`(s, a) -> [B]`."""

  def __init__(self, n_states: int, n_actions: int, units: Sequence[int], rng: Rng):
    super().__init__()
    self._layers = dense_layers(n_states + n_actions, units, 1, rng)

  def __call__(self, s: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
    return self.value(self.hidden(s, a))

  def hidden(self, s: tf.Tensor, a: tf.Tensor) -> List[tf.Tensor]:
    """The hidden layers `h₁, h₂, ...`, after their ReLUs."""
    layers = [tf.concat([s, a], -1)]
    for layer in self._layers[:-1]:
      layers.append(tf.nn.relu(layer(layers[-1])))
    return layers[1:]

  def value(self, hidden: Sequence[tf.Tensor]) -> tf.Tensor:
    """`[B]`, from the hidden layers."""
    return tf.squeeze(self._layers[-1](hidden[-1]), -1)

  def action_gradient(self, hidden: Sequence[tf.Tensor], n_actions: int) -> tf.Tensor:
    """`∇ₐ`, `[B, A]`, from the hidden layers, in closed form: `Wₐ (1{h₁>0} W₂ (1{h₂>0} ... w))`."""
    first, *middle, last = [layer.kernel for layer in self._layers]
    hidden = [tf.stop_gradient(h) for h in hidden]  # only where they are above 0 matters
    gradient = tf.sign(hidden[-1]) * tf.transpose(last)
    for h, kernel in zip(reversed(hidden[:-1]), reversed(middle)):
      gradient = tf.matmul(gradient, kernel, transpose_b=True)
      gradient = tf.raw_ops.ReluGrad(gradients=gradient, features=h)  # 1{h>0} in one pass
    return tf.matmul(gradient, first[-n_actions:], transpose_b=True)


class Perturbation(tf.Module):
  """BCQ's `ξ(s, a) = clip(a + Φ mags tanh(h), low, high)`, `[B, A]` (arXiv 1812.02900)."""

  def __init__(self, n_states: int, units: Sequence[int], box: Box, phi: float, rng: Rng):
    super().__init__()
    self.box, self.phi = box, phi
    n_actions = box.n_actions
    self._layers = dense_layers(n_states + n_actions, units, n_actions, rng)

  def __call__(self, s: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
    h = forward(self._layers, tf.concat([s, a], -1))
    return self.box.clip(a + self.phi * self.box.mags * tf.tanh(h))


class VAE(tf.Module):
  """BCQ's model of the data's actions, with a latent twice as wide as the action."""

  def __init__(self, n_states: int, units: Sequence[int], box: Box, rng: Rng):
    super().__init__()
    self.box = box
    n_actions = box.n_actions
    self.n_latents = 2 * n_actions
    self._encoder_layers = dense_layers(n_states + n_actions, units, 2 * self.n_latents, rng)
    self._decoder_layers = dense_layers(n_states + self.n_latents, units, n_actions, rng)

  def encode(self, s: tf.Tensor, a: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
    """Mean and log σ of the latent, `[B, 2A]` each."""
    mean, log_std = tf.split(forward(self._encoder_layers, tf.concat([s, a], -1)), 2, axis=-1)
    return mean, tf.clip_by_value(log_std, -4.0, 15.0)

  def decode(self, s: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    """The action `[B, A]` of a latent."""
    h = forward(self._decoder_layers, tf.concat([s, z], -1))
    return self.box.mags * tf.tanh(h) + self.box.means

  def sample(self, s: tf.Tensor, rng: Rng) -> tf.Tensor:
    """An action for each state, its latent from a normal clipped to [-0.5, 0.5]."""
    z = rng.normal([tf.shape(s)[0], self.n_latents])
    return self.decode(s, tf.clip_by_value(z, -0.5, 0.5))


def kernels(*networks: tf.Module) -> List[tf.Variable]:
  """The weight matrices of networks, which weight decay is taken of."""
  return [v for network in networks for v in network.trainable_variables if v.name == 'kernel:0']
