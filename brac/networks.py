"""The networks of the paper: dense layers with ReLU, with the raw variables that a loop can update.

Shapes: states `[B, S]`, actions `[B, A]`, float32. Each network keeps its layers in `_layers`,
BCQ's VAE in two such lists: keys of the published checkpoints.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf

from brac.rng import Rng

# In half-widths of the box, at whose edge the density of a tanh-normal has no finite value.
ACTION_MARGIN = 1e-3
LOG_STD_MIN, LOG_STD_MAX = -5.0, 0.0


@dataclasses.dataclass(frozen=True)
class Box:
  """The actions that an environment takes: from `low` to `high`, both `[A]` arrays of float32."""

  low: np.ndarray
  high: np.ndarray

  @classmethod
  def of(cls, action_spec) -> 'Box':
    """The box of a bounded action spec `[A]`."""
    bounds = action_spec.minimum, action_spec.maximum
    return cls(*(np.broadcast_to(x, action_spec.shape).astype(np.float32) for x in bounds))

  @functools.cached_property
  def means(self) -> np.ndarray:
    """The middle, `[A]`."""
    return ((self.high.astype(np.float64) + self.low) / 2).astype(np.float32)

  @functools.cached_property
  def mags(self) -> np.ndarray:
    """The half-widths, `[A]`."""
    return ((self.high.astype(np.float64) - self.low) / 2).astype(np.float32)

  @property
  def n_actions(self) -> int:
    return len(self.low)

  def clip(self, a: tf.Tensor, margin: float = 0.0) -> tf.Tensor:
    """Moves actions `[..., A]` to at least `margin` half-widths inside the box."""
    return tf.clip_by_value(a, self.low + margin * self.mags, self.high - margin * self.mags)


class Dense(tf.Module):
  """`x W + b`, with Glorot's uniform start."""

  def __init__(self, n_in: int, n_out: int, draws: Rng):
    super().__init__()
    limit = math.sqrt(6 / (n_in + n_out))
    self.kernel = tf.Variable(draws.uniform([n_in, n_out], -limit, limit), name='kernel')
    self.bias = tf.Variable(tf.zeros([n_out]), name='bias')

  def __call__(self, x: tf.Tensor) -> tf.Tensor:
    return tf.nn.bias_add(tf.matmul(x, self.kernel), self.bias)


def dense_layers(n_in: int, units: Sequence[int], n_out: int, draws: Rng) -> list[Dense]:
  """The layers of a network from `n_in` numbers over hidden `units` to `n_out`."""
  sizes = [n_in, *units, n_out]
  return [Dense(a, b, draws) for a, b in zip(sizes[:-1], sizes[1:])]


def forward(layers: Sequence[Dense], x: tf.Tensor) -> tf.Tensor:
  """`[B, n_in] -> [B, n_out]`: ReLU after each layer but the last."""
  for layer in layers[:-1]:
    x = tf.nn.relu(layer(x))
  return layers[-1](x)


class TanhNormal(NamedTuple):
  """The distribution of `mags tanh(m + σε) + means`, `ε ~ N(0, 1)`, for each row of a batch.

  Its log-density is written in closed form, with the corrections for tanh and for the box's size.
  """

  mean: tf.Tensor  # m, [B, A]
  log_std: tf.Tensor  # log σ, [B, A]
  box: Box

  def mode(self) -> tf.Tensor:
    """`mags tanh(m) + means`, `[B, A]`."""
    return self.box.mags * tf.tanh(self.mean) + self.box.means

  def sample(self, draws: Rng, n: Optional[int] = None) -> tuple[tf.Tensor, tf.Tensor]:
    """Actions `[B, A]` and their log-densities `[B]`; with `n`, `[n, B, A]` and `[n, B]`."""
    shape = tf.shape(self.mean)
    noise = draws.normal(shape if n is None else tf.concat([[n], shape], 0))
    z = self.mean + tf.exp(self.log_std) * noise
    return self.box.mags * tf.tanh(z) + self.box.means, self._log_density(noise, z)

  def log_prob(self, a: tf.Tensor, margin: float = 0.0) -> tf.Tensor:
    """Log-density `[..., B]` of actions `[..., B, A]`; it is infinite at the edge of the box.

    Args:
      a: the actions.
      margin: actions nearer to the edge than so many half-widths are taken for those there.
    """
    x = (a - self.box.means) / self.box.mags
    if margin:
      # In half-widths, as in the actions' own unit a margin may be less than float32 resolves.
      x = tf.clip_by_value(x, margin - 1, 1 - margin)
    z = tf.atanh(x)
    return self._log_density((z - self.mean) * tf.exp(-self.log_std), z)

  def _log_density(self, noise, z):
    # log(1 - tanh² z) = 2 (log 2 - z - softplus(-2z)), which does not overflow. The sums over the
    # actions of what is constant in z are taken out, for they are a [B] or a scalar.
    per_action = 0.5 * tf.square(noise) - 2.0 * (z + tf.nn.softplus(-2.0 * z))
    size = math.log(2 * math.pi) / 2 + 2 * math.log(2) + np.log(self.box.mags)
    return -tf.reduce_sum(per_action, -1) - tf.reduce_sum(self.log_std, -1) - np.sum(size)


class Actor(tf.Module):
  """`s -> TanhNormal`: the last layer gives `m` and `u`, `log σ = -5 + 2.5 (tanh(u) + 1)`.

  With `log_std_clip`, two numbers, log σ is `u` clipped to between them, as in policies from
  elsewhere; they are saved with the layers.
  """

  def __init__(
    self,
    n_states: int,
    units: Sequence[int],
    box: Box,
    draws: Rng,
    log_std_clip: Optional[Sequence[float]] = None,
  ):
    super().__init__()
    self.box = box
    self._layers = dense_layers(n_states, units, 2 * box.n_actions, draws)
    if log_std_clip is not None:
      self._log_std_clip = tf.Variable(log_std_clip, trainable=False, dtype=tf.float32)

  def __call__(self, s: tf.Tensor) -> TanhNormal:
    mean, u = tf.split(forward(self._layers, s), 2, axis=-1)
    if hasattr(self, '_log_std_clip'):
      return TanhNormal(mean, tf.clip_by_value(u, *tf.unstack(self._log_std_clip)), self.box)
    log_std = LOG_STD_MIN + (LOG_STD_MAX - LOG_STD_MIN) / 2 * (tf.tanh(u) + 1)
    return TanhNormal(mean, log_std, self.box)


class Critic(tf.Module):
  """`(s, a) -> [B]`."""

  def __init__(self, n_states: int, n_actions: int, units: Sequence[int], draws: Rng):
    super().__init__()
    self._n_states = n_states
    self._layers = dense_layers(n_states + n_actions, units, 1, draws)

  def __call__(self, s: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
    return self.value(self.hidden(s, a))

  def hidden(self, s: tf.Tensor, a: tf.Tensor) -> list[tf.Tensor]:
    """The hidden layers `h₁, h₂, ...`, after their ReLUs."""
    layers = [tf.concat([s, a], -1)]
    for layer in self._layers[:-1]:
      layers.append(tf.nn.relu(layer(layers[-1])))
    return layers[1:]

  def value(self, hidden: Sequence[tf.Tensor]) -> tf.Tensor:
    """`[B]`, from the hidden layers."""
    return tf.squeeze(self._layers[-1](hidden[-1]), -1)

  def gradient(self, hidden: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """`∇ₛ`, `[B, S]`, and `∇ₐ`, `[B, A]`, from the hidden layers, in closed form.

    `∇ₐ = Wₐ (1{h₁>0} W₂ (1{h₂>0} ... w))`, and `∇ₛ` likewise; a graph computes what is used.
    """
    first, *middle, last = [layer.kernel for layer in self._layers]
    hidden = [tf.stop_gradient(h) for h in hidden]  # only where they are above 0 matters
    gradient = tf.sign(hidden[-1]) * tf.transpose(last)
    for h, kernel in zip(reversed(hidden[:-1]), reversed(middle)):
      gradient = tf.matmul(gradient, kernel, transpose_b=True)
      gradient = tf.raw_ops.ReluGrad(gradients=gradient, features=h)  # 1{h>0} in one pass
    parts = first[: self._n_states], first[self._n_states :]
    return tuple(tf.matmul(gradient, part, transpose_b=True) for part in parts)


def ensemble(qs: Sequence[tf.Tensor], λ: float) -> tf.Tensor:
  """`λ min + (1 - λ) max`, `[B]`, of several `[B]`."""
  least, most = (f(tf.stack(qs), axis=0) for f in (tf.reduce_min, tf.reduce_max))
  return least if λ == 1 else λ * least + (1 - λ) * most


def _shares(qs: Sequence[tf.Tensor], λ: float) -> list[tf.Tensor]:
  """The weight `[B]` that each of several `[B]` has in their ensemble."""
  least, most = (tf.one_hot(f(tf.stack(qs), 0), len(qs), axis=0) for f in (tf.argmin, tf.argmax))
  return tf.unstack(least if λ == 1 else λ * least + (1 - λ) * most)


def frozen_ensemble(
  critics: Sequence[Critic], s: tf.Tensor, a: tf.Tensor, λ: float = 1.0
) -> tf.Tensor:
  """`Q(s, a)`, `[B]`: the `ensemble` of critics, with a gradient for s and a, not for the critics.

  It is there for its speed, since most of a policy's loss is this. The tape would go back through
  every critic with every row; this goes back through a critic with those rows alone whose value in
  the ensemble is its own, which halves the work for the minimum of two.
  """

  @tf.custom_gradient
  def at(s, a):
    hidden = [q.hidden(s, a) for q in critics]
    qs = [q.value(h) for q, h in zip(critics, hidden)]

    def gradient(dy, variables):
      totals = [tf.zeros_like(s), tf.zeros_like(a)]
      for q, h, weight in zip(critics, hidden, _shares(qs, λ)):
        rows = tf.where(weight)[:, 0]
        scale = tf.gather(weight * dy, rows)[:, tf.newaxis]
        slopes = q.gradient([tf.gather(layer, rows) for layer in h])
        totals = [
          tf.tensor_scatter_nd_add(total, rows[:, tf.newaxis], slope * scale)
          for total, slope in zip(totals, slopes)
        ]
      return totals, [None] * len(variables)

    return ensemble(qs, λ), gradient

  return at(s, a)


class Perturbation(tf.Module):
  """BCQ's `ξ(s, a) = clip(a + Φ mags tanh(h), low, high)`, `[B, A]` (arXiv 1812.02900)."""

  def __init__(self, n_states: int, units: Sequence[int], box: Box, phi: float, draws: Rng):
    super().__init__()
    self.box, self.phi = box, phi
    n_actions = box.n_actions
    self._layers = dense_layers(n_states + n_actions, units, n_actions, draws)

  def __call__(self, s: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
    h = forward(self._layers, tf.concat([s, a], -1))
    return self.box.clip(a + self.phi * self.box.mags * tf.tanh(h))


class VAE(tf.Module):
  """BCQ's model of the data's actions, with a latent twice as wide as the action."""

  CLIP = 0.5  # of the latents that are sampled

  def __init__(self, n_states: int, units: Sequence[int], box: Box, draws: Rng):
    super().__init__()
    self.box = box
    n_actions = box.n_actions
    self.n_latents = 2 * n_actions
    self._encoder_layers = dense_layers(n_states + n_actions, units, 2 * self.n_latents, draws)
    self._decoder_layers = dense_layers(n_states + self.n_latents, units, n_actions, draws)

  def encode(self, s: tf.Tensor, a: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and log σ of the latent, `[B, 2A]` each."""
    mean, log_std = tf.split(forward(self._encoder_layers, tf.concat([s, a], -1)), 2, axis=-1)
    return mean, tf.clip_by_value(log_std, -4.0, 15.0)

  def decode(self, s: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
    """The action `[B, A]` of a latent."""
    h = forward(self._decoder_layers, tf.concat([s, z], -1))
    return self.box.mags * tf.tanh(h) + self.box.means

  def sample(self, s: tf.Tensor, draws: Rng) -> tf.Tensor:
    """An action for each state, its latent from a normal clipped to [-CLIP, CLIP]."""
    z = draws.normal([tf.shape(s)[0], self.n_latents])
    return self.decode(s, tf.clip_by_value(z, -self.CLIP, self.CLIP))


def kernels(*networks: tf.Module) -> list[tf.Variable]:
  """The weight matrices of networks, which weight decay is taken of."""
  return [v for network in networks for v in network.trainable_variables if v.shape.rank == 2]
