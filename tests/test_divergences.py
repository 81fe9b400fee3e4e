"""Each divergence against its formula in float64 numpy, on the same samples drawn again."""

import itertools
import pathlib
import re

import gin
import numpy as np
import pytest
import tensorflow as tf
from agent_tools import step_uncompiled

from brac import divergences, rng
from brac.errors import UserError
from brac.networks import Critic, TanhNormal
from brac.rng import Rng

_N, _B = 5, 6


def draws():
  return Rng(3, rng.TRAIN, 11)


def make_distribution(box, seed, log_std=(-2, 0)):
  random = np.random.default_rng(seed)
  mean = random.normal(size=[_B, box.n_actions])
  log_std = random.uniform(*log_std, mean.shape)
  return TanhNormal(tf.constant(mean, tf.float32), tf.constant(log_std, tf.float32), box)


def samples(pi, draws):
  """The actions and log-densities of n samples, `[n, B, A]` and `[n, B]`, in float64."""
  noise = draws.normal([_N, *pi.mean.shape]).numpy().astype(np.float64)
  z = pi.mean.numpy() + np.exp(pi.log_std.numpy().astype(np.float64)) * noise
  return pi.box.mags * np.tanh(z) + pi.box.means, log_density(pi, z)


def log_density(pi, z):
  log_std = pi.log_std.numpy().astype(np.float64)
  normal = -(((z - pi.mean.numpy()) / np.exp(log_std)) ** 2) / 2 - log_std - np.log(2 * np.pi) / 2
  return np.sum(normal - np.log(pi.box.mags * (1 - np.tanh(z) ** 2)), -1)


# Primal.


def kl_by_hand(pi, b):
  a, log_pi = samples(pi, draws())
  middle, half = np.float64(pi.box.means), np.float64(pi.box.mags)
  x = np.clip((a - middle) / half, 1e-3 - 1, 1 - 1e-3)
  return np.mean(log_pi - log_density(b, np.arctanh(x)), 0), x


def test_kl_is_the_mean_of_the_difference_of_log_densities(box):
  pi, b = make_distribution(box, 0), make_distribution(box, 1)
  got = divergences.kl(pi, b, _N, draws())
  assert got.shape == [_B]
  np.testing.assert_allclose(got, kl_by_hand(pi, b)[0], rtol=1e-4)


def test_kl_takes_the_density_of_b_at_a_margin_inside_the_box(box):
  # Samples that tanh rounds to the edge, where the density of b has no finite value.
  pi, b = make_distribution(box, 0), make_distribution(box, 1)
  pi = pi._replace(mean=pi.mean + tf.constant([12.0, -12.0, 0.0]))
  want, x = kl_by_hand(pi, b)
  np.testing.assert_allclose(x[..., 0], 0.999)
  np.testing.assert_allclose(divergences.kl(pi, b, _N, draws()), want, rtol=1e-4)


def test_kl_is_zero_between_a_distribution_and_itself(box):
  pi = make_distribution(box, 0, log_std=(-2, -1))
  np.testing.assert_allclose(divergences.kl(pi, pi, _N, draws()), 0, atol=2e-3)


def mmd_by_hand(pi, b, sigma=20.0, unbiased=False):
  shared = draws()
  x, y = samples(pi, shared)[0], samples(b, shared)[0]

  def k(x, y):
    pairs = itertools.permutations(x, 2) if unbiased and x is y else itertools.product(x, y)
    return np.mean([np.exp(-np.abs(p - q).sum(-1) / sigma) for p, q in pairs], 0)

  return k(x, x) + k(y, y) - 2 * k(x, y)


@pytest.mark.parametrize('sigma', [20.0, 0.5])
def test_mmd_is_the_mean_of_the_kernel_over_pairs(box, sigma):
  pi, b = make_distribution(box, 0), make_distribution(box, 1)
  if sigma != 20:
    gin.parse_config(f'laplacian_kernel.sigma = {sigma}')
  got, want = divergences.mmd(pi, b, _N, draws()), mmd_by_hand(pi, b, sigma)
  assert got.shape == [_B] and np.all(want > 0)
  np.testing.assert_allclose(got, want, atol=1e-6)


def test_mmd_takes_the_root_with_use_sqrt(box):
  gin.parse_config('mmd.use_sqrt = True')
  pi, b = make_distribution(box, 0), make_distribution(box, 1)
  want = mmd_by_hand(pi, b)
  assert np.all(want > 1e-3)
  np.testing.assert_allclose(divergences.mmd(pi, b, _N, draws()), np.sqrt(want), rtol=1e-3)


@pytest.mark.parametrize('use_sqrt', [False, True])
def test_mmd_leaves_out_the_pairs_of_an_action_with_itself_where_it_is_unbiased(box, use_sqrt):
  gin.parse_config(['mmd.unbiased = True', f'mmd.use_sqrt = {use_sqrt}'])
  pi, b = make_distribution(box, 0), make_distribution(box, 1)
  want = mmd_by_hand(pi, b, unbiased=True)
  assert np.any(want > 0) and np.all(want < mmd_by_hand(pi, b))
  want = np.sqrt(np.maximum(want, 1e-6)) if use_sqrt else want
  np.testing.assert_allclose(divergences.mmd(pi, b, _N, draws()), want, atol=2e-6, rtol=1e-3)


@pytest.mark.parametrize('unbiased', [False, True])
def test_the_mmd_of_equal_policies_is_zero_where_it_is_unbiased(box, unbiased):
  """Else each action with itself counts, of 1 / n of the pairs: 2 (1 - k) / n, k that of others."""
  gin.parse_config(f'mmd.unbiased = {unbiased}')
  # One state, many times.
  pi = TanhNormal(tf.zeros([4000, 3]), tf.zeros([4000, 3]), box)
  x, y = (pi.sample(Rng(seed, rng.TRAIN, 0), 1)[0][0] for seed in (1, 2))
  k = np.mean(divergences.laplacian_kernel(x, y))
  values = divergences.mmd(pi, pi, _N, draws()).numpy()
  want, error = 0 if unbiased else 2 * (1 - k) / _N, values.std() / np.sqrt(values.size)
  assert 4 * error < (1 - k) / _N
  np.testing.assert_allclose(values.mean(), want, atol=4 * error)


def test_an_unbiased_mmd_takes_pairs(box):
  gin.parse_config('mmd.unbiased = True')
  pi = make_distribution(box, 0)
  with pytest.raises(UserError, match='n_div_samples is at least 2, not 1'):
    divergences.mmd(pi, pi, 1, draws())


def test_root_of_a_vanishing_mmd_has_a_finite_slope(box):
  gin.parse_config('mmd.use_sqrt = True')
  mean = tf.zeros([_B, 3])
  pi = TanhNormal(mean, tf.fill([_B, 3], -30.0), box)
  with tf.GradientTape() as tape:
    tape.watch(mean)
    d = divergences.mmd(pi._replace(mean=mean), pi, _N, draws())
  assert np.all(d < 2e-3) and np.all(np.isfinite(tape.gradient(d, mean)))


# Dual.


def test_dual_divergences_are_their_formulas():
  c_pi, c_b = np.random.default_rng(0).normal(scale=3, size=[2, _B])
  softplus_pi, softplus_b = np.log1p(np.exp(c_pi)), np.log1p(np.exp(c_b))
  given = tf.constant(c_pi, tf.float32), tf.constant(c_b, tf.float32)
  want = np.log(softplus_pi) + 1 - softplus_b
  np.testing.assert_allclose(divergences.dual_kl(*given), want, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(divergences.dual_w(*given), c_pi - c_b, rtol=1e-5, atol=1e-6)


def test_dual_kl_and_its_slope_are_finite_for_a_very_low_critic():
  # log softplus(c) is c there, although softplus(c) is too small for float32.
  c_pi = tf.constant([-50.0, -90.0, -300.0])
  with tf.GradientTape() as tape:
    tape.watch(c_pi)
    d = divergences.dual_kl(c_pi, tf.zeros([3]))
  np.testing.assert_allclose(d, c_pi + 1 - np.log(2), rtol=1e-6)
  np.testing.assert_allclose(tape.gradient(d, c_pi), [1, 1, 1], rtol=1e-6)


def steep_critic(scale):
  """A critic whose slope varies around `scale`."""
  c = Critic(4, 3, (16,), Rng(0))
  for i, layer in enumerate(c._layers):
    values = np.random.default_rng(i).normal(size=layer.kernel.shape)
    layer.kernel.assign(values * (scale / 3 if i else 1.0))
  return c


def penalty_by_hand(c, s, a_pi, a_b, gamma):
  """By central differences, which are exact where the critic is linear; and the slopes."""
  u = draws().uniform([_B, 1]).numpy().astype(np.float64)
  a = u * a_pi + (1 - u) * a_b
  w = [(x.kernel.numpy().astype(np.float64), x.bias.numpy()) for x in c._layers]

  def value(a):
    hidden = np.maximum(np.concatenate([s, a], 1) @ w[0][0] + w[0][1], 0)
    return (hidden @ w[1][0] + w[1][1])[:, 0]

  h = 1e-6 * np.eye(3)
  slope = np.stack([(value(a + e) - value(a - e)) / 2e-6 for e in h], 1)
  norm = np.linalg.norm(slope, axis=1)
  return gamma * np.mean(np.maximum(norm - 1, 0) ** 2), norm


def penalty_inputs():
  random = np.random.default_rng(1)
  return [random.normal(size=[_B, k]).astype(np.float32) for k in (4, 3, 3)]


@pytest.mark.parametrize('gamma', [5.0, 0.25])
def test_gradient_penalty_is_gamma_times_the_square_of_the_slope_above_1(gamma):
  if gamma != 5:
    gin.parse_config(f'gradient_penalty.gamma = {gamma}')
  c, inputs = steep_critic(0.7), penalty_inputs()
  want, norm = penalty_by_hand(c, *inputs, gamma)
  assert norm.min() < 1 < norm.max()  # below 1 there is no penalty: it is one-sided
  got = divergences.gradient_penalty(c, *map(tf.constant, inputs), draws())
  np.testing.assert_allclose(got, want, rtol=1e-4)


def test_gradient_penalty_of_a_dead_critic_is_zero_with_a_finite_slope():
  c = Critic(4, 3, (16,), Rng(0))
  c._layers[0].bias.assign(tf.fill([16], -100.0))
  with tf.GradientTape() as tape:
    penalty = divergences.gradient_penalty(c, *map(tf.constant, penalty_inputs()), draws())
  assert float(penalty) == 0
  gradients = tape.gradient(penalty, c.trainable_variables, unconnected_gradients='zero')
  assert all(np.all(g == 0) for g in gradients)


# Names.


@pytest.mark.parametrize(
  'among, wrong, hint',
  [
    ('PRIMAL', 'mdd', "; did you mean 'mmd'?"),
    ('PRIMAL', 'KL', "; did you mean 'kl'?"),
    ('DUAL', 'W', "; did you mean 'w'?"),
    ('DUAL', 'mmd', "; 'mmd' is one of brac_primal"),
    ('PRIMAL', 'w', "; 'w' is one of brac_dual"),
    *(('PRIMAL', wrong, '') for wrong in (None, ['kl'], {'a': 1}, 5)),
  ],
)
def test_an_unknown_name_says_which_there_are(among, wrong, hint):
  with pytest.raises(UserError) as error:
    divergences.find(wrong, getattr(divergences, among), 'some_agent.Agent.divergence_name')
  message = str(error.value)
  assert message.startswith(f'some_agent.Agent.divergence_name: unknown divergence {wrong!r}')
  there = ', '.join(map(repr, getattr(divergences, among)))
  assert message.endswith(f', there are {there}{hint}')


@pytest.mark.parametrize(
  'binding, name',
  [(f'laplacian_kernel.sigma = {x}', 'laplacian_kernel.sigma') for x in ('1e999', '1e39', '0')]
  + [(f'gradient_penalty.gamma = {x}', 'gradient_penalty.gamma') for x in ('1e999', '1e39', '-1')],
)
def test_a_wrong_number_is_refused_by_its_gin_name(binding, name):
  gin.parse_config(binding)
  x = tf.zeros([2, 3])
  with pytest.raises(UserError, match=f'^{name} is a number from '):
    if name == 'laplacian_kernel.sigma':
      divergences.laplacian_kernel(x, x)
    else:
      divergences.gradient_penalty(steep_critic(0.7), *map(tf.constant, penalty_inputs()), draws())


@pytest.mark.parametrize(
  'name', ['mmd.n', 'mmd.pi', 'laplacian_kernel.x', 'gradient_penalty.c', 'gradient_penalty.draws']
)
def test_what_the_program_passes_is_not_for_gin(name):
  with pytest.raises(ValueError, match='denylisted'):
    gin.parse_config(f'{name} = 3')


def test_the_dual_kl_and_its_slope_are_smooth_where_softplus_is_small():
  c = np.linspace(-20, 3, 93)
  with tf.GradientTape() as tape:
    c_pi = tf.Variable(c, dtype=tf.float32)
    d = divergences.dual_kl(c_pi, tf.zeros_like(c_pi))
  softplus = np.log1p(np.exp(c))
  np.testing.assert_allclose(d, np.log(softplus) + 1 - np.log(2), rtol=1e-4, atol=1e-5)
  slope = 1 / (1 + np.exp(-c)) / softplus
  np.testing.assert_allclose(tape.gradient(d, c_pi), slope, rtol=1e-3)


# Training, of each that there is and of those on the page that says how to add one.


def check_it_is_trained(make_agent, agent_name, name):
  agent = make_agent(agent_name, divergence_name=name, warm_start=0)
  for _ in range(2):
    info = step_uncompiled(agent)
  assert np.isfinite([float(x) for x in info.values()]).all() and info['div_mean'] != 0


@pytest.mark.parametrize(
  'agent_name, name',
  [('brac_primal', name) for name in divergences.PRIMAL]
  + [('brac_dual', name) for name in divergences.DUAL],
)
def test_each_divergence_is_trained(agent_name, name, make_agent):
  check_it_is_trained(make_agent, agent_name, name)


@pytest.mark.parametrize('agent_name, name', [('brac_primal', 'jeffreys'), ('brac_dual', 'chi2')])
def test_the_divergences_of_the_docs_page_are_trained(agent_name, name, make_agent, monkeypatch):
  page = pathlib.Path(__file__).parent.parent / 'docs' / 'add_a_divergence.md'
  for table, added in ((divergences.PRIMAL, 'jeffreys'), (divergences.DUAL, 'chi2')):
    monkeypatch.setitem(table, added, None)  # taken out again in the end
  exec(''.join(re.findall('```python\n(.*?)```', page.read_text(encoding='utf-8'), re.S)), {})
  check_it_is_trained(make_agent, agent_name, name)
