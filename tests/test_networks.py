"""The networks against TensorFlow Probability, gradient tapes and the formulas of the paper."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from brac import rng
from brac.networks import (
  ACTION_MARGIN,
  VAE,
  Actor,
  Box,
  Critic,
  Perturbation,
  TanhNormal,
  ensemble,
  frozen_ensemble,
  kernels,
)
from brac.rng import Rng


def random(*shape, seed=0, scale=1.0):
  return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def make_distribution(box, n=6, mean_scale=0.7):
  mean = random(n, box.n_actions, seed=1, scale=mean_scale)
  log_std = np.random.default_rng(2).uniform(-3, 0, mean.shape).astype(np.float32)
  return TanhNormal(tf.constant(mean), tf.constant(log_std), box)


def tfp_distribution(pi):
  """The same distribution in float64, by another's hand."""
  mean, std = (
    tf.cast(pi.mean, tf.float64),
    tf.exp(tf.cast(pi.log_std, tf.float64)),
  )
  b = tfp.bijectors
  means, mags = np.float64(pi.box.means), np.float64(pi.box.mags)
  return tfp.distributions.TransformedDistribution(
    tfp.distributions.MultivariateNormalDiag(mean, std),
    b.Chain([b.Shift(means), b.Scale(mags), b.Tanh()]),
  )


def set_last_bias(layers, values):
  """Makes a network give these numbers, whatever goes in."""
  layers[-1].kernel.assign(tf.zeros_like(layers[-1].kernel))
  layers[-1].bias.assign(values)


# The box.


def test_box_is_the_middle_and_the_half_width(action_spec):
  box = Box.of(action_spec)
  np.testing.assert_allclose(box.means - box.mags, action_spec.minimum)
  np.testing.assert_allclose(box.means + box.mags, action_spec.maximum)
  assert box.n_actions == 3


def test_box_clips_to_a_margin_inside(box, action_spec):
  far = np.float32([[-9, -9, -9], [9, 9, 9], [0.1, 0.1, 0.1]])
  low, high = action_spec.minimum, action_spec.maximum
  np.testing.assert_allclose(box.clip(far), [low, high, far[2]])
  inside = 0.01 * box.mags
  np.testing.assert_allclose(box.clip(far, 0.01), [low + inside, high - inside, far[2]], atol=1e-7)


@pytest.mark.parametrize(
  'low, high', [(-0.1, 0.7), (-3.3e38, 3.3e38), (1e-30, 3e-30), (-1e-3, 1.0), (1000.0, 1000.01)]
)
def test_box_clips_to_the_bounds_themselves(low, high):
  box = Box(np.float32([low]), np.float32([high]))
  np.testing.assert_array_equal(box.clip(np.float32([[-3.4e38], [3.4e38]])), [box.low, box.high])
  low, high = float(box.low[0]), float(box.high[0])
  np.testing.assert_allclose(box.means, (high + low) / 2, rtol=1e-7)
  np.testing.assert_allclose(box.mags, (high - low) / 2, rtol=1e-7)


# The distribution of the actor.


def test_log_prob_is_that_of_tensorflow_probability(box):
  pi = make_distribution(box)
  a = box.means + box.mags * np.random.default_rng(3).uniform(-0.99, 0.99, [5, 6, 3])
  want = tfp_distribution(pi).log_prob(a)
  assert np.ptp(want) > 10
  np.testing.assert_allclose(pi.log_prob(tf.cast(a, tf.float32)), want, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize('n', [None, 5])
def test_sample_is_drawn_from_the_distribution(box, n):
  pi = make_distribution(box)
  a, log_pi = pi.sample(Rng(3, rng.TRAIN, 7), n)
  shape = [6, 3] if n is None else [n, 6, 3]
  noise = Rng(3, rng.TRAIN, 7).normal(shape).numpy().astype(np.float64)
  z = pi.mean.numpy() + np.exp(pi.log_std.numpy().astype(np.float64)) * noise
  want = box.mags * np.tanh(z) + box.means
  np.testing.assert_allclose(a, want, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(log_pi, tfp_distribution(pi).log_prob(want), rtol=1e-5, atol=2e-5)


def test_log_prob_of_a_sample_is_its_log_density(box):
  pi = make_distribution(box)
  a, log_pi = pi.sample(Rng(0), 20)
  assert a.shape == [20, 6, 3] and log_pi.shape == [20, 6]
  np.testing.assert_allclose(pi.log_prob(a), log_pi, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
  'middle, half_width', [(0, 0.002), (0, 1e-6), (0, 1e-30), (0, 33e3), (0, 1e30), (1000, 0.01)]
)
def test_log_prob_takes_what_is_at_the_edge_a_thousandth_of_the_half_width_inside(
  middle, half_width
):
  box = Box(np.float32([middle - half_width]), np.float32([middle + half_width]))
  pi = TanhNormal(tf.fill([4, 1], 0.3), tf.fill([4, 1], -1.0), box)
  at = np.float32([box.low, box.high, middle + 0.5 * box.mags, 2 * box.high])
  want = []
  for x in (-0.999, 0.999, (at[2, 0] - np.float64(box.means[0])) / box.mags[0], 0.999):
    z = math.atanh(x)
    normal = -(((z - 0.3) / math.exp(-1)) ** 2) / 2 + 1 - math.log(2 * math.pi) / 2
    want.append(normal - math.log1p(-(x**2)) - math.log(box.mags[0]))
  a = tf.constant(at)
  with tf.GradientTape() as tape:
    tape.watch(a)
    log_prob = pi.log_prob(a, ACTION_MARGIN)
  np.testing.assert_allclose(log_prob, want, rtol=1e-4)
  if half_width > 1e-20:  # of a density in smaller units the slope is beyond float32
    assert np.all(np.isfinite(tape.gradient(log_prob, a)))


def test_log_density_is_finite_and_right_far_in_the_tails(box):
  mean = tf.constant([[40.0, -40.0, 15.0], [-300.0, 200.0, 0.0]])
  pi = TanhNormal(mean, tf.zeros_like(mean), box)
  with tf.GradientTape() as tape:
    tape.watch(mean)
    a, log_pi = pi._replace(mean=mean).sample(Rng(1))
  noise = Rng(1).normal([2, 3]).numpy().astype(np.float64)
  z = mean.numpy() + noise
  # log(1 - tanh² z) = -2 log cosh z.
  squash = -2 * (np.abs(z) + np.log1p(np.exp(-2 * np.abs(z))) - math.log(2))
  normal = -(noise**2) / 2 - math.log(2 * math.pi) / 2
  np.testing.assert_allclose(log_pi, np.sum(normal - squash - np.log(box.mags), -1), rtol=1e-6)
  assert np.all(np.isfinite(tape.gradient(log_pi, mean)))
  assert np.all(np.abs(a - box.means) <= box.mags)


def test_mode_is_the_squashed_mean(box):
  pi = make_distribution(box)
  np.testing.assert_allclose(
    pi.mode(),
    box.mags * np.tanh(pi.mean.numpy()) + box.means,
    rtol=1e-6,
    atol=1e-7,
  )


def test_actor_keeps_log_std_between_minus_5_and_0(box):
  actor = Actor(4, (8,), box, Rng(0))
  set_last_bias(actor._layers, [0.5, -1, 2, -30, 30, 0.4])
  pi = actor(random(2, 4))
  np.testing.assert_allclose(pi.mean, [[0.5, -1, 2]] * 2)
  middle = -5 + 2.5 * (math.tanh(0.4) + 1)
  np.testing.assert_allclose(pi.log_std, [[-5, 0, middle]] * 2, atol=1e-6)


# The layers.


def test_forward_is_dense_layers_with_relu(box):
  actor = Actor(4, (8, 5), box, Rng(0))
  for layer in actor._layers:
    layer.bias.assign(random(*layer.bias.shape, seed=4))
  s = x = random(6, 4).astype(np.float64)
  for layer in actor._layers[:-1]:
    x = np.maximum(x @ layer.kernel.numpy() + layer.bias.numpy(), 0)
  x = x @ actor._layers[-1].kernel.numpy() + actor._layers[-1].bias.numpy()
  pi = actor(tf.constant(s, tf.float32))
  np.testing.assert_allclose(pi.mean, x[:, :3], rtol=1e-4, atol=1e-5)


def test_layers_start_with_glorot_kernels_and_zero_biases():
  layers = Critic(30, 10, (60, 50), Rng(0))._layers
  for layer, (n_in, n_out) in zip(layers, [(40, 60), (60, 50), (50, 1)]):
    limit = math.sqrt(6 / (n_in + n_out))
    kernel = layer.kernel.numpy()
    assert kernel.shape == (n_in, n_out)
    assert -limit <= kernel.min() < -0.9 * limit and 0.9 * limit < kernel.max() < limit
    assert abs(kernel.std() / (limit / math.sqrt(3)) - 1) < 0.15
    assert not np.any(layer.bias)


def test_the_same_seed_gives_the_same_start_and_another_another(box):
  first, same, other = (Actor(4, (8,), box, Rng(seed, rng.INIT)) for seed in (1, 1, 2))
  for x, y, z in zip(kernels(first), kernels(same), kernels(other)):
    np.testing.assert_array_equal(x, y)
    assert np.all(x != z)


def test_networks_of_one_seed_start_different():
  draws = Rng(1, rng.INIT)
  first, second = Critic(4, 3, (8,), draws), Critic(4, 3, (8,), draws)
  assert np.all(first._layers[0].kernel != second._layers[0].kernel)


def test_kernels_are_the_matrices_alone(box):
  shapes = [
    k.shape.as_list() for k in kernels(Critic(4, 3, (8,), Rng(0)), VAE(4, (9,), box, Rng(0)))
  ]
  assert shapes[:2] == [[7, 8], [8, 1]]
  assert sorted(shapes[2:]) == sorted([[7, 9], [9, 12], [10, 9], [9, 3]])


# The critic.


@pytest.mark.parametrize('units', [(16,), (16, 12), (16, 12, 9)])
def test_the_gradient_in_closed_form_is_that_of_a_tape(units):
  c = Critic(4, 3, units, Rng(1))
  for layer in c._layers:
    layer.bias.assign(random(*layer.bias.shape, seed=4))
  s, a = tf.constant(random(10, 4)), tf.constant(random(10, 3, seed=1))
  with tf.GradientTape() as tape:
    tape.watch([s, a])
    q = c(s, a)
  assert q.shape == [10]
  for got, want in zip(c.gradient(c.hidden(s, a)), tape.gradient(q, [s, a])):
    assert np.linalg.norm(want, axis=1).min() > 0.01
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_the_gradient_in_closed_form_is_trained_through_as_through_a_second_tape():
  # The gradient penalty's own gradient: that of a gradient.
  c = Critic(4, 3, (16, 12), Rng(1))
  s, a = tf.constant(random(10, 4)), tf.constant(random(10, 3, seed=1))
  with tf.GradientTape() as tape:
    _, slope = c.gradient(c.hidden(s, a))
    ours = tf.reduce_sum(tf.square(slope))
  with tf.GradientTape() as outer:
    with tf.GradientTape() as inner:
      inner.watch(a)
      q = c(s, a)
    theirs = tf.reduce_sum(tf.square(inner.gradient(q, a)))
  for x, y in zip(tape.gradient(ours, kernels(c)), outer.gradient(theirs, kernels(c))):
    assert np.any(y)
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('λ', [1.0, 0.75, 0.0])
@pytest.mark.parametrize('compiled', [False, True])
def test_a_frozen_ensemble_has_the_value_and_the_slopes_of_the_ensemble(λ, compiled):
  draws = Rng(1)
  critics = [Critic(4, 3, (16, 12), draws) for _ in range(3)]

  def slopes(f, s, a):
    with tf.GradientTape() as tape:
      tape.watch([s, a])
      q = f(s, a)
    return q, *tape.gradient(q, [s, a], output_gradients=tf.range(1.0, 11.0))

  if compiled:
    slopes = tf.function(slopes, autograph=False)
  s, a = tf.constant(random(10, 4)), tf.constant(random(10, 3, seed=1))
  got = slopes(lambda s, a: frozen_ensemble(critics, s, a, λ), s, a)
  want = slopes(lambda s, a: ensemble([q(s, a) for q in critics], λ), s, a)
  assert len({int(i) for i in tf.argmin([q(s, a) for q in critics], 0)}) == 3
  for x, y in zip(got, want):
    assert np.abs(y).min() > 1e-4
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_a_frozen_ensemble_has_no_gradient_for_the_critics():
  critics, s = [Critic(4, 3, (8,), Rng(1))], tf.constant(random(10, 4))
  with tf.GradientTape() as tape:
    q = frozen_ensemble(critics, s, s[:, :3])
  assert tape.gradient(q, critics[0].trainable_variables) == [None] * 4


def test_kernels_are_found_inside_of_a_name_scope(box):
  plain = kernels(VAE(4, (9,), box, Rng(0)))
  with tf.name_scope('mine'):
    scoped = kernels(VAE(4, (9,), box, Rng(0)))
  assert len(plain) == 4 and scoped[0].name.startswith('mine/')
  for x, y in zip(plain, scoped):
    np.testing.assert_array_equal(x, y)


# BCQ's networks.


def test_perturbation_moves_an_action_by_at_most_phi_and_stays_in_the_box(box, action_spec):
  xi = Perturbation(4, (8,), box, 0.1, Rng(0))
  set_last_bias(xi._layers, [0.3, 50, -50])
  middle = tf.constant(np.tile(box.means, [2, 1]))
  want = middle + 0.1 * box.mags * np.float32([math.tanh(0.3), 1, -1])
  np.testing.assert_allclose(xi(random(2, 4), middle), want, rtol=1e-6)
  edges = tf.constant([action_spec.minimum, action_spec.maximum])
  moved = xi(random(2, 4), edges)
  np.testing.assert_allclose(moved[0, 2], action_spec.minimum[2])
  np.testing.assert_allclose(moved[1, :2], action_spec.maximum[:2])
  np.testing.assert_allclose(moved[0, 1], action_spec.minimum[1] + 0.1 * box.mags[1])


def test_perturbation_depends_on_state_and_action(box):
  xi = Perturbation(4, (8,), box, 0.5, Rng(0))
  s, a = random(2, 4), np.tile(box.means, [2, 1])
  assert np.all(np.abs(np.diff(xi(s, a), axis=0)) > 1e-4)
  moved = xi(s, a + 0.1 * box.mags) - a - 0.1 * box.mags
  assert np.all(np.abs(moved - (xi(s, a) - a)) > 1e-5)


def test_vae_has_a_latent_twice_as_wide_as_the_action(box):
  vae = VAE(4, (8,), box, Rng(0))
  mean, log_std = vae.encode(random(5, 4), random(5, 3))
  assert mean.shape == log_std.shape == [5, 6]
  assert vae.decode(random(5, 4), random(5, 6)).shape == [5, 3]


def test_vae_clips_its_log_std(box):
  vae = VAE(4, (8,), box, Rng(0))
  set_last_bias(vae._encoder_layers, [100, -100, 1, 2, 3, 4] + [-99, 99, -4.1, 15.1, 3, -3])
  mean, log_std = vae.encode(random(1, 4), random(1, 3))
  np.testing.assert_allclose(mean, [[100, -100, 1, 2, 3, 4]])
  np.testing.assert_allclose(log_std, [[-4, 15, -4, 15, 3, -3]])


def test_vae_decodes_into_the_box(box, action_spec):
  vae = VAE(4, (8,), box, Rng(0))
  set_last_bias(vae._decoder_layers, [50, -50, 0.2])
  a = vae.decode(random(1, 4), random(1, 6))[0]
  want = [action_spec.maximum[0], action_spec.minimum[1]]
  want.append(box.mags[2] * math.tanh(0.2) + box.means[2])
  np.testing.assert_allclose(a, want, rtol=1e-6)


def test_vae_samples_with_a_latent_clipped_to_half(box):
  vae, s = VAE(4, (8,), box, Rng(0)), random(50, 4)
  z = Rng(5, rng.TRAIN, 2).normal([50, 6]).numpy()
  assert np.abs(z).max() > 2
  want = vae.decode(s, np.clip(z, -0.5, 0.5))
  np.testing.assert_array_equal(vae.sample(s, Rng(5, rng.TRAIN, 2)), want)
  assert np.abs(want - vae.decode(s, z)).max() > 0.1
