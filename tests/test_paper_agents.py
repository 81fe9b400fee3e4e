"""The five agents of the paper against its formulas: losses, the order of a step, names, files.

What any agent has to do is in test_agents.py.
"""

import inspect
import itertools
import math
import os
import re

import numpy as np
import pytest
import tensorflow as tf
from agent_tools import (
  assert_same_bits,
  first_batch,
  scramble,
  step_uncompiled,
  take_step,
  variables,
  weights,
)

from brac import agents, checkpoints, policy_loader, rng
from brac.agents import loop
from brac.data.transitions import Batch
from brac.errors import UserError
from brac.networks import Box
from brac.optimizers import Adam
from brac.rng import Rng
from brac.tf_agents_bridge import BoundedTensorSpec

BRACS = ('brac_primal', 'brac_dual')

# The parameters that gin binds, with their defaults.
_BRAC = dict(
  alpha=1.0,
  alpha_max=500.0,
  train_alpha=False,
  divergence_name='kl',
  target_divergence=0.0,
  alpha_entropy=0.0,
  train_alpha_entropy=False,
  target_entropy=None,
  value_penalty=True,
  warm_start=20000,
  ensemble_q_lambda=1.0,
)
DEFAULTS = {
  'sac': dict(target_entropy=None, ensemble_q_lambda=1.0),
  'bc': dict(train_alpha_entropy=True, alpha_entropy=1.0, target_entropy=None),
  'bcq': dict(
    ensemble_q_lambda=0.75, n_action_samples=10, use_target_policy=True, paper_code=False
  ),
  'brac_primal': dict(_BRAC, behavior_ckpt_file=None, n_div_samples=4),
  'brac_dual': dict(_BRAC, c_iter=3),
}
NAMES = tuple(DEFAULTS)

# The updates of a step in their order, each with the entry of `optimizers` that it takes.
UPDATES = {
  'sac': dict(q=0, p=1, a=2),
  'bc': dict(p=0, ae=1),
  'bcq': dict(q=0, p=1, b=2),
  'brac_primal': dict(q=0, p=1, a=2, ae=2),
  'brac_dual': dict(q=0, p=1, c=2, a=3, ae=3),
}
N_OPTIMIZERS = {'sac': 3, 'bc': 2, 'bcq': 3, 'brac_primal': 3, 'brac_dual': 4}
DECAYS = {'sac': 'qp', 'bc': 'p', 'bcq': 'qpb', 'brac_primal': 'qp', 'brac_dual': 'qpc'}
# What each update moves, by its keys in a checkpoint.
OWN = {
  'q': r'agent/_q_nets/\d/0/',
  'p': r'policy/',
  'b': r'agent/_b_net/',
  'c': r'agent/_c_net/',
  'a': r'agent/(_log_alpha|_alpha_var)$',
  'ae': r'agent/_alpha_entropy_var$',
}
# Where the units of `model_params` go, in their order.
_Q, _PI = 'agent/_q_nets/0/0/_layers', 'policy/_layers'
UNITS = {
  'sac': [_Q, _PI],
  'bc': [_PI],
  'bcq': [_Q, _PI, 'agent/_b_net/_encoder_layers'],
  'brac_primal': [_Q, _PI],
  'brac_dual': [_Q, _PI, 'agent/_c_net/_layers'],
}

# Every update at work, Q in the policy's loss from the second step on.
BUSY = {
  'sac': {},
  'bc': {},
  'bcq': {},
  'brac_primal': dict(
    train_alpha=True, train_alpha_entropy=True, warm_start=0, alpha_entropy=0.1, alpha=0.5
  ),
  'brac_dual': dict(
    train_alpha=True, train_alpha_entropy=True, warm_start=0, alpha_entropy=0.1, alpha=0.5
  ),
}


# The losses.


class Formulas:
  """The losses of the method in float64 numpy, of weights by their keys in a checkpoint."""

  def __init__(self, name, given, batch, box, step):
    self.name, self.step = name, step
    self.given = dict(DEFAULTS[name], **given)
    self.batch = Batch(*(np.float64(x) for x in batch))
    self.middle, self.half = np.float64(box.means), np.float64(box.mags)

  def __call__(self, loss, w, draws):
    """The value of a loss and the numbers that go with it."""
    self.w, self.draws = w, draws
    return getattr(self, loss)()

  # Networks.

  def forward(self, layers, *inputs):
    x = np.concatenate(inputs, -1)
    for i in itertools.count():
      x = x @ self.w[f'{layers}/{i}/kernel'] + self.w[f'{layers}/{i}/bias']
      if f'{layers}/{i + 1}/kernel' not in self.w:
        return x
      x = np.maximum(x, 0)

  def normal(self, *shape):
    return np.float64(self.draws.normal(shape))

  def squash(self, z):
    return self.middle + self.half * np.tanh(z)

  def clip(self, a):
    return np.clip(a, self.middle - self.half, self.middle + self.half)

  def actor(self, s, key='policy'):
    mean, u = np.split(self.forward(key + '/_layers', s), 2, -1)
    return mean, -5 + 2.5 * (np.tanh(u) + 1)

  def sample(self, pi, *n):
    mean, log_std = pi
    z = mean + np.exp(log_std) * self.normal(*n, *mean.shape)
    return self.squash(z), self.log_density(pi, z)

  def log_density(self, pi, z):
    mean, log_std = pi
    normal = -(((z - mean) / np.exp(log_std)) ** 2) / 2 - log_std - math.log(2 * math.pi) / 2
    # 1 - tanh² = 1 / cosh², which unlike the left side has digits left far from 0.
    log_cosh = np.logaddexp(z, -z) - math.log(2)
    return np.sum(normal + 2 * log_cosh - np.log(self.half), -1)

  def log_prob(self, pi, a):
    x = np.clip((a - self.middle) / self.half, 1e-3 - 1, 1 - 1e-3)
    return self.log_density(pi, np.arctanh(x))

  def q(self, s, a, target):
    qs = [self.forward(f'agent/_q_nets/{k}/{int(target)}/_layers', s, a)[..., 0] for k in range(2)]
    λ = self.given['ensemble_q_lambda']
    return qs, λ * np.minimum(*qs) + (1 - λ) * np.maximum(*qs)

  def perturb(self, key, s, a):
    h = self.forward(key + '/_layers', s, a)
    return self.clip(a + 0.3 * self.half * np.tanh(h))

  def decode(self, s, z):
    return self.squash(self.forward('agent/_b_net/_decoder_layers', s, z))

  def vae(self, s):
    z = np.clip(self.normal(len(s), 2 * len(self.half)), -0.5, 0.5)
    return self.decode(s, z)

  # Multipliers.

  def is_inside(self, loss):
    """Whether the multiplier that a loss trains is inside its bounds."""
    if self.name == 'sac' or loss not in ('a', 'ae'):
      return True
    if loss == 'ae':
      return self.w['agent/_alpha_entropy_var'] > 0
    return 0 < self.w['agent/_alpha_var'] < self.given['alpha_max']

  @property
  def alpha(self):
    if self.name == 'sac':
      return np.exp(self.w['agent/_log_alpha'])
    return np.clip(self.w['agent/_alpha_var'], 0, self.given['alpha_max'])

  @property
  def alpha_entropy(self):
    return max(self.w['agent/_alpha_entropy_var'], 0)

  def entropy_gap(self):
    h = self.given['target_entropy']
    log_pi = self.sample(self.actor(self.batch.s1))[1]
    return np.mean(log_pi) + (-len(self.half) if h is None else h)

  # Divergences.

  def c(self, s, a):
    return self.forward('agent/_c_net/_layers', s, a)[:, 0]

  def dual(self, s, a_pi, a_b):
    c_pi, c_b = self.c(s, a_pi), self.c(s, a_b)
    if self.given['divergence_name'] == 'w':
      return c_pi - c_b
    return np.log(np.logaddexp(0, c_pi)) + 1 - np.logaddexp(0, c_b)

  def divergence(self, s, pi, a_b):
    if self.name == 'brac_dual':
      return self.dual(s, self.sample(pi)[0], a_b)
    n, b = self.given['n_div_samples'], self.actor(s, 'agent/_b_net')
    x, log_pi = self.sample(pi, n)
    if self.given['divergence_name'] == 'kl':
      return np.mean(log_pi - self.log_prob(b, x), 0)
    y, _ = self.sample(b, n)

    def k(x, y):
      return np.mean([np.exp(-np.abs(p - q).sum(-1) / 20) for p in x for q in y], 0)

    return k(x, x) + k(y, y) - 2 * k(x, y)

  # Losses.

  def q_loss(self):
    t = self.batch
    if self.name == 'bcq':
      n = self.given['n_action_samples']
      s2 = np.repeat(t.s2, n, 0)
      key = 'agent/_p_net_target' if self.given['use_target_policy'] else 'policy'
      a2 = self.perturb(key, s2, self.vae(s2))
      v = q2 = self.q(s2, a2, target=True)[1].reshape(-1, n).max(-1)
    else:
      pi = self.actor(t.s2)
      a2, log_pi = self.sample(pi)
      _, q2 = self.q(t.s2, a2, target=True)
      v = q2 - (self.alpha if self.name == 'sac' else self.alpha_entropy) * log_pi
      if self.given.get('value_penalty'):
        v = v - self.alpha * self.divergence(t.s2, pi, t.a2)
    y = t.r + 0.9 * t.d * v
    loss = sum(np.mean((q - y) ** 2) for q in self.q(t.s1, t.a1, target=False)[0])
    means = dict(r=t.r, dsc=t.d, q2_target=q2, v2_target=v, q1_target=y)
    return loss, {f'{name}_mean': values.mean() for name, values in means.items()}

  def p_loss(self):
    s, a_b = self.batch.s1, self.batch.a1
    if self.name == 'bcq':
      return -np.mean(self.q(s, self.perturb('policy', s, self.vae(s)), target=False)[0][0]), {}
    pi = self.actor(s)
    a, log_pi = self.sample(pi)
    if self.name == 'bc':
      loss = np.mean(self.alpha_entropy * log_pi - self.log_prob(pi, a_b))
      return loss, dict(alpha_entropy=self.alpha_entropy)
    _, q = self.q(s, a, target=False)
    if self.name == 'sac':
      return np.mean(self.alpha * log_pi - q), {}
    d = self.divergence(s, pi, a_b)
    warm = self.step > self.given['warm_start']
    loss = np.mean(self.alpha_entropy * log_pi + self.alpha * d - warm * q)
    return loss, dict(
      div_mean=d.mean(), div_std=d.std(), alpha=self.alpha, alpha_entropy=self.alpha_entropy
    )

  def a_loss(self):
    if self.name == 'sac':
      return -self.alpha * self.entropy_gap(), dict(alpha=self.alpha)
    s = self.batch.s1
    d = self.divergence(s, self.actor(s), self.batch.a1)
    return -self.alpha * (d.mean() - self.given['target_divergence']), dict(alpha=self.alpha)

  def ae_loss(self):
    return -self.alpha_entropy * self.entropy_gap(), {}

  def b_loss(self):
    s, a = self.batch.s1, self.batch.a1
    mean, log_std = np.split(self.forward('agent/_b_net/_encoder_layers', s, a), 2, -1)
    log_std = np.clip(log_std, -4, 15)
    z = mean + np.exp(log_std) * self.normal(*mean.shape)
    reconstruction = np.mean((self.decode(s, z) - a) ** 2)
    kl = np.mean((mean**2 + np.exp(log_std) ** 2 - 1) / 2 - log_std)
    return reconstruction + kl / 2, dict(recon_loss=reconstruction, kl_loss=kl)

  def c_loss(self):
    s, a_b = self.batch.s1, self.batch.a1
    a_pi, _ = self.sample(self.actor(s))
    d = self.dual(s, a_pi, a_b)
    u = np.float64(self.draws.uniform([len(s), 1]))
    a = a_b + u * (a_pi - a_b)
    # Central differences, which are exact where c is linear.
    steps = 1e-5 * np.eye(a.shape[1])
    slope = np.stack([(self.c(s, a + e) - self.c(s, a - e)) / 2e-5 for e in steps], -1)
    norm = np.linalg.norm(slope, axis=-1)
    assert norm.min() < 1 < norm.max()
    return -np.mean(d) + 5 * np.mean(np.maximum(norm - 1, 0) ** 2), {}


# Looked at after 5 steps.
SETTINGS = {
  'sac': ('sac', {}),
  'sac entropy of 0': ('sac', dict(target_entropy=0.0)),
  'sac mixed ensemble': ('sac', dict(ensemble_q_lambda=0.75, target_entropy=1.5)),
  'bc': ('bc', {}),
  'bc negative entropy weight': ('bc', dict(alpha_entropy=-0.5, target_entropy=1.5)),
  'bcq': ('bcq', {}),
  'bcq no target policy': (
    'bcq',
    dict(use_target_policy=False, n_action_samples=3, ensemble_q_lambda=1.0),
  ),
  'kl value penalty': ('brac_primal', dict(alpha=0.3, alpha_entropy=0.2, warm_start=4)),
  'kl policy penalty': (
    'brac_primal',
    dict(value_penalty=False, warm_start=4, n_div_samples=2, target_divergence=0.7),
  ),
  'kl warm start': ('brac_primal', dict(alpha=0.3, alpha_entropy=0.2, warm_start=5)),
  'kl alpha too large': ('brac_primal', dict(alpha=3.0, alpha_max=0.5, alpha_entropy=-2.0)),
  'mmd value penalty': (
    'brac_primal',
    dict(divergence_name='mmd', alpha=20.0, ensemble_q_lambda=0.75, warm_start=0),
  ),
  'mmd policy penalty': (
    'brac_primal',
    dict(divergence_name='mmd', alpha=20.0, value_penalty=False, target_entropy=1.5),
  ),
  'kl-dual value penalty': ('brac_dual', dict(alpha=0.3, alpha_entropy=0.2, warm_start=4)),
  'kl-dual alpha negative': ('brac_dual', dict(alpha=-1.0, alpha_entropy=-2.0, warm_start=4)),
  'w value penalty': (
    'brac_dual',
    dict(divergence_name='w', alpha=0.3, ensemble_q_lambda=0.75, target_divergence=0.7),
  ),
  'w policy penalty': (
    'brac_dual',
    dict(divergence_name='w', alpha=0.3, value_penalty=False, target_entropy=1.5, warm_start=4),
  ),
  'w warm start': ('brac_dual', dict(divergence_name='w', warm_start=5)),
}


@pytest.mark.parametrize(
  'setting, loss', [(s, loss) for s, (name, _) in SETTINGS.items() for loss in UPDATES[name]]
)
def test_loss_and_its_slope_are_those_of_the_formula(setting, loss, make_agent, transitions, box):
  name, given = SETTINGS[setting]
  model_params = (((8, 8),), 2, 0.3) if name == 'bcq' else (((8, 8),), 2)
  an_agent = make_agent(name, model_params=model_params, discount=0.9, **given)
  scramble(an_agent)
  an_agent.global_step.assign(5)
  if name == 'sac':
    an_agent.log_temperature.assign(-0.7)
  batch = first_batch(transitions)
  formulas = Formulas(name, given, batch, box, step=5)
  w = {key: np.float64(value) for key, value in weights(an_agent).items()}

  def formula(w):
    return formulas(loss + '_loss', w, Rng(3, rng.TRAIN, 5))

  moved = {key: v for key, v in variables(an_agent).items() if re.match(OWN[loss], key)}
  with tf.GradientTape() as tape:
    got, info = getattr(an_agent, loss + '_loss')(batch, Rng(3, rng.TRAIN, 5))
  gradients = tape.gradient(got, list(moved.values()), unconnected_gradients='zero')
  gradients = [np.float64(g) for g in gradients]

  want, numbers = formula(w)
  np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-5)
  for tag, value in numbers.items():
    np.testing.assert_allclose(info[tag], value, rtol=2e-5, atol=1e-5, err_msg=tag)

  # The slope along two directions, by central differences. Outside of its bounds the gradient of a
  # multiplier is not the formula's on purpose, see below.
  if not formulas.is_inside(loss):
    return
  random, h = np.random.default_rng(9), 1e-6
  size = math.sqrt(sum(np.sum(g**2) for g in gradients))
  assert size > 1e-4
  for _ in range(2):
    along = {key: random.normal(size=w[key].shape) for key in moved}
    ahead, behind = (
      formula({**w, **{key: w[key] + x * d for key, d in along.items()}})[0] for x in (h, -h)
    )
    slope = sum(np.sum(g * d) for g, d in zip(gradients, along.values()))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-3, atol=1e-3 * size)


def multiplier(an_agent, loss):
  name = '_alpha_var' if loss == 'a' else '_alpha_entropy_var'
  return getattr(an_agent.saved, name)


@pytest.mark.parametrize(
  'name, loss, start, bound, pull',
  [
    (name, loss, start, bound, pull)
    for name, loss, start, bound in (
      ('bc', 'ae', -0.3, 0.0),
      *((name, 'ae', -0.3, 0.0) for name in BRACS),
      *((name, 'a', -0.3, 0.0) for name in BRACS),
      *((name, 'a', 2.5, 2.0) for name in BRACS),
    )
    for pull in ('back', 'out')
  ],
)
def test_a_clipped_multiplier_moves_back_inside_and_not_further_out(
  name, loss, start, bound, pull, make_agent, transitions
):
  # Where D, or the entropy, is far from what it should be, the multiplier is pulled to one side.
  up = (pull == 'back') == (start < bound)
  parameters = dict(alpha_entropy=start) if loss == 'ae' else dict(alpha=start, alpha_max=2.0)
  if loss == 'ae':
    parameters.update(target_entropy=-1e4 if not up else 1e4)
  else:
    parameters.update(target_divergence=-1e4 if up else 1e4)
  if name != 'bc':
    parameters.update(train_alpha=True, train_alpha_entropy=True)
  an_agent = make_agent(name, **parameters)
  assert float(an_agent.alpha if loss == 'a' else an_agent.alpha_entropy) == bound
  update = next(u for u in an_agent.updates if u.name == loss)
  info = loop.apply(update, first_batch(transitions), Rng(0))
  if loss == 'a':
    assert float(info['alpha']) == bound
  moved = float(multiplier(an_agent, loss)) - np.float32(start)
  if pull == 'out':
    assert moved == 0
  else:
    assert moved * (bound - start) > 0


def test_a_trained_multiplier_comes_back_across_its_bound(make_agent):
  rates = (('adam', 1e-3), ('adam', 1e-3), ('adam', 0.2))
  an_agent = make_agent(
    'brac_primal', train_alpha=True, alpha=-0.5, target_divergence=-1e4, optimizers=rates
  )
  alphas = [float(step_uncompiled(an_agent)['alpha']) for _ in range(5)]
  assert alphas[0] == 0 and alphas[-1] > 0.1


# One step.


def make_busy(make_agent, name, **parameters):
  return make_agent(name, **{**BUSY[name], **parameters})


def pairs(an_agent, perturbation=True):
  """Each variable that a target follows, with the target's; `perturbation`: bcq's too."""
  nets = list(zip(an_agent.q_nets, an_agent.target_q_nets)) if hasattr(an_agent, 'q_nets') else []
  if perturbation and hasattr(an_agent, 'target_xi'):
    nets.append((an_agent.xi, an_agent.target_xi))
  return [(x, y) for net, target in nets for x, y in zip(net.variables, target.variables)]


class ByHand:
  """The steps of an agent as the spec has them, made of nothing but the agent's losses."""

  def __init__(self, name, an_agent, rates, decays):
    self.name, self.agent = name, an_agent
    self.decays = dict(zip(DECAYS[name], decays))
    everything = checkpoints.variables(policy=an_agent.policy, agent=an_agent.saved)
    self.own = {
      update: {key: v for key, v in everything.items() if re.match(OWN[update], key)}
      for update in UPDATES[name]
    }
    self.adams = {
      update: Adam(rates[entry], list(self.own[update].values()))
      for update, entry in UPDATES[name].items()
    }

  def norm(self, name):
    return sum(tf.reduce_sum(v * v) for k, v in self.own[name].items() if k.endswith('/kernel'))

  def norms(self):
    return {name + '_norm': float(self.norm(name)) for name in DECAYS[self.name]}

  def update(self, name, batch, draws):
    own = list(self.own[name].values())
    with tf.GradientTape() as tape:
      loss, info = getattr(self.agent, name + '_loss')(batch, draws)
      total = loss + self.decays.get(name, 0) * self.norm(name)
    gradients = tape.gradient(total, own, unconnected_gradients='zero')
    self.adams[name].apply(own, gradients)
    return {**info, name + '_loss': loss}

  def step(self, followed):
    extra_names = 'c' * (self.agent.c_iter - 1) if self.name == 'brac_dual' else ''
    return take_step(self.agent, UPDATES[self.name], extra_names, followed, self.update)


@pytest.mark.parametrize('name', NAMES)
def test_steps_are_those_taken_by_hand(name, make_agent):
  # Steps so large that their order shows, and other numbers for each entry of the parameters.
  rates = (0.02, 0.03, 0.025, 0.035)[: N_OPTIMIZERS[name]]
  decays = (0.01, 0.03, 0.02)[: len(DECAYS[name])]
  trained, taken = (
    make_busy(
      make_agent,
      name,
      seed=3,
      optimizers=tuple(('adam', rate) for rate in rates),
      weight_decays=decays,
      update_freq=2,
      update_rate=0.2,
    )
    for _ in range(2)
  )
  hand = ByHand(name, taken, rates, decays)
  for _ in range(4):
    before = hand.norms()
    got, want, after = trained.train(1), hand.step(pairs(taken)), hand.norms()
    assert got.keys() == want.keys() | after.keys()
    for tag, value in want.items():
      np.testing.assert_allclose(got[tag], value, rtol=1e-4, atol=1e-5, err_msg=tag)
    for tag in after:  # The spec does not say of which moment.
      assert np.isclose(got[tag], before[tag], 1e-4) or np.isclose(got[tag], after[tag], 1e-4)
  assert trained.step == 4
  w = weights(trained)
  for key, v in checkpoints.variables(policy=taken.policy, agent=taken.saved).items():
    np.testing.assert_allclose(w[key], v, rtol=1e-4, atol=1e-4, err_msg=key)


def test_bcq_with_paper_code_has_a_perturbation_target_that_stays_and_one_adam_for_two(make_agent):
  rates = (0.02, 0.03, 0.5)  # The last is not used.
  trained, taken = (
    make_agent(
      'bcq',
      paper_code=True,
      seed=3,
      update_rate=0.2,
      optimizers=tuple(('adam', rate) for rate in rates),
    )
    for _ in range(2)
  )
  start = [v.numpy() for v in trained.target_xi.variables]
  hand = ByHand('bcq', taken, rates, (0.0,) * 3)
  both = [*hand.own['p'].values(), *hand.own['b'].values()]
  hand.adams['p'] = hand.adams['b'] = Adam(0.03, both)
  for _ in range(3):
    trained.train(1)
    hand.step(pairs(taken, perturbation=False))
  w = weights(trained)
  for key, v in checkpoints.variables(policy=taken.policy, agent=taken.saved).items():
    np.testing.assert_allclose(w[key], v, rtol=1e-4, atol=1e-4, err_msg=key)
  assert all(np.any(x != y) for x, y in zip(trained.xi.variables, start))
  for x, y in zip(trained.target_xi.variables, start):
    np.testing.assert_array_equal(x, y)


def test_the_behavior_policy_of_brac_primal_stays_as_it_was_loaded(make_agent, box, behavior_files):
  an_agent = make_busy(make_agent, 'brac_primal')
  step_uncompiled(an_agent)
  loaded = policy_loader.load_actor(behavior_files[0], 4, box, 'behavior policy')
  for got, want in zip(an_agent.b.variables, loaded.variables):
    np.testing.assert_array_equal(got, want)


_Q_TAGS = (
  'q_loss q_norm r_mean dsc_mean q2_target_mean v2_target_mean q1_target_mean p_loss p_norm '
)
_BRAC_TAGS = _Q_TAGS + 'div_mean div_std a_loss alpha ae_loss alpha_entropy '
TAGS = {
  'sac': _Q_TAGS + 'a_loss alpha',
  'bc': 'p_loss p_norm ae_loss alpha_entropy',
  'bcq': _Q_TAGS + 'recon_loss kl_loss b_loss b_norm',
  'brac_primal': _BRAC_TAGS,
  'brac_dual': _BRAC_TAGS + 'c_loss c_norm',
}


@pytest.mark.parametrize('name', NAMES)
def test_training_tells_the_numbers_of_its_losses(name, make_agent):
  info = step_uncompiled(make_busy(make_agent, name))
  info.update({u.name + '_norm': u.norm() for u in make_agent(name).updates if u.kernels})
  assert sorted(info) == sorted(TAGS[name].split())


# The policies.


@pytest.mark.parametrize('name', ['sac', 'bc', *BRACS])
def test_main_is_the_mode_of_the_actor_and_online_training_acts_by_a_sample(
  name, make_agent, transitions
):
  an_agent = make_agent(name)
  scramble(an_agent)
  s = tf.constant(transitions.s1)
  main = an_agent.policies()['main'].act(s, Rng(9))
  np.testing.assert_array_equal(main, an_agent.pi(s).mode())
  acting = an_agent.acting_policy().act(s, Rng(9))
  np.testing.assert_array_equal(acting, an_agent.pi(s).sample(Rng(9))[0])


@pytest.mark.parametrize('name', BRACS)
def test_max_q_takes_the_actors_sample_with_the_largest_first_q(name, make_agent, transitions):
  an_agent = make_agent(name)
  scramble(an_agent)
  s = tf.constant(transitions.s1)
  a, _ = an_agent.pi(s).sample(Rng(9), 10)
  best = np.argmax([an_agent.q_nets[0](s, x) for x in a], 0)
  max_q = an_agent.policies()['max_q'].act(s, Rng(9))
  np.testing.assert_array_equal(max_q, a.numpy()[best, np.arange(len(best))])


def test_bcq_evaluates_and_acts_by_perturbed_samples_that_the_first_q_chooses_from(
  make_agent, transitions
):
  an_agent = make_agent('bcq', n_action_samples=4)
  scramble(an_agent)
  s = tf.repeat(transitions.s1, 4, 0)
  a = an_agent.xi(s, an_agent.vae.sample(s, Rng(9)))
  best = np.argmax(np.reshape(an_agent.q_nets[0](s, a), [-1, 4]), 1)
  expect = np.reshape(a, [-1, 4, 3])[np.arange(len(best)), best]
  for policy in (an_agent.policies()['main'], an_agent.acting_policy()):
    np.testing.assert_array_equal(policy.act(tf.constant(transitions.s1), Rng(9)), expect)


# What they say of themselves.


def test_brac_says_before_it_starts_that_its_policy_will_never_see_q(make_agent):
  for name, steps, says in (
    ('brac_dual', 100, ['warm_start is 100, and the run ends at step 100: its policy never']),
    ('brac_dual', 101, ['warm_start is 100, and the run ends at step 101: its policy never']),
    ('brac_dual', 102, []),
    ('bc', 1, []),
  ):
    given = {} if name == 'bc' else dict(warm_start=100)
    remarks = make_agent(name, **given).remarks(steps)
    assert [remark[: len(text)] for remark, text in zip(remarks, says)] == says
    assert len(remarks) == len(says)


def test_bear_is_judged_by_max_q_and_the_others_by_main(make_agent):
  bear = dict(divergence_name='mmd', value_penalty=False, train_alpha=True)
  assert make_agent('brac_primal', **bear).judged_by == 'max_q'
  for parameter, other in dict(divergence_name='kl', value_penalty=True, train_alpha=False).items():
    assert make_agent('brac_primal', **{**bear, parameter: other}).judged_by == 'main'


# The saved state.


def layers(prefix, n=3):
  return {f'{prefix}/_layers/{i}/{part}' for i in range(n) for part in ('kernel', 'bias')}


_Q_KEYS = set().union(*(layers(f'agent/_q_nets/{k}/{i}') for k in (0, 1) for i in (0, 1)))
_BRAC_KEYS = {'global_step', 'agent/_alpha_var', 'agent/_alpha_entropy_var'}
PUBLIC_KEYS = {
  'sac': layers('policy') | _Q_KEYS | {'agent/_log_alpha', 'global_step'},
  'bc': layers('policy') | {'agent/_alpha_entropy_var', 'global_step'},
  'bcq': layers('policy')
  | _Q_KEYS
  | layers('agent/_p_net_target')
  | {
    key.replace('_layers', f'_{x}_layers')
    for key in layers('agent/_b_net')
    for x in ('encoder', 'decoder')
  }
  | {'global_step'},
  'brac_primal': layers('policy') | _Q_KEYS | layers('agent/_b_net', 2) | _BRAC_KEYS,
  'brac_dual': layers('policy') | _Q_KEYS | layers('agent/_c_net') | _BRAC_KEYS,
}


@pytest.mark.parametrize('name', NAMES)
def test_the_state_has_the_public_keys(name, make_agent):
  an_agent = make_busy(make_agent, name)
  public = {
    key for key in variables(an_agent) if key.startswith(('policy', 'agent', 'global_step'))
  }
  assert public == PUBLIC_KEYS[name]
  assert [u.name for u in an_agent.updates] == list(UPDATES[name])


# The parameters.


@pytest.mark.parametrize('name', NAMES)
def test_gin_parameters_have_the_defaults_of_the_spec(name):
  parameters = inspect.signature(agents.load(name)).parameters.values()
  got = {p.name: p.default for p in parameters if p.kind != p.VAR_KEYWORD}
  assert got == DEFAULTS[name]


@pytest.mark.parametrize('name', NAMES)
def test_model_params_give_each_network_its_units(name, make_agent):
  units = ((5, 6), (7,), (9, 8, 4))[: len(UNITS[name])]
  an_agent = make_agent(name, model_params=units if name == 'bc' else (units, 3))
  shapes = {key: v.shape for key, v in weights(an_agent).items()}
  for prefix, hidden in zip(UNITS[name], units):
    there = [shapes[f'{prefix}/{i}/kernel'][1] for i in range(len(hidden))]
    assert (there, f'{prefix}/{len(hidden) + 1}/kernel' in shapes) == (list(hidden), False)
  assert ('agent/_q_nets/2/1/_layers/0/kernel' in shapes) == (name != 'bc')


def test_bc_reads_the_model_params_of_the_other_agents_too(make_agent):
  # They are the default of `train_eval_offline`.
  kernels = [
    layer.kernel.shape for layer in make_agent('bc', model_params=(((5, 6),), 2)).pi._layers
  ]
  assert kernels == [[4, 5], [5, 6], [6, 6]]


_READS = {
  'sac': ('(q units), (policy units)', 'n_q', '(q, policy, temperature)', '(q, p)'),
  'bc': ('(policy units)', '', '(policy, entropy weight)', '(p,)'),
  'bcq': (
    '(q units), (perturbation units), (vae units)',
    'n_q, max_perturbation',
    '(q, perturbation, vae)',
    '(q, p, b)',
  ),
  'brac_primal': ('(q units), (policy units)', 'n_q', '(q, policy, multipliers)', '(q, p)'),
  'brac_dual': (
    '(q units), (policy units), (dual critic units)',
    'n_q',
    '(q, policy, dual critic, multipliers)',
    '(q, p, c)',
  ),
}


@pytest.mark.parametrize('name', NAMES)
def test_parameters_of_a_wrong_length_say_what_they_list(name, make_agent):
  units, numbers, optimizers, decays = _READS[name]
  wrong_units = ((8,),) * (len(UNITS[name]) + 1)
  wrongs = [(wrong_units, 2), ((), 2), (((8,),), 2, 0.1, 4), (), ((8,), 2), (((8, 0),), 2), 200]
  wrongs += [(200, 200)] if name == 'bc' else [(((8,),),), (((8,),), 0), (((8,),), 1.5)]
  for wrong in wrongs:
    with pytest.raises(UserError) as error:
      make_agent(name, model_params=wrong)
    message = str(error.value)
    assert message.startswith(f'model_params of {name} reads ') and units in message
    assert all(number in message for number in numbers.split(', '))
    assert f'got {wrong!r}' in message
  for parameter, entry, reads, n in (
    ('optimizers', ('adam', 1e-3), optimizers, N_OPTIMIZERS[name]),
    ('weight_decays', 0.1, decays, len(DECAYS[name])),
  ):
    for wrong in ((entry,) * (n + 1), (), *([(entry,) * (n - 1)] if n > 2 else [])):
      with pytest.raises(UserError) as error:
        make_agent(name, **{parameter: wrong})
      assert f'{parameter} reads {reads}' in str(error.value)
      assert f'got {wrong!r}' in str(error.value)


_HUGE = (1e999, 1e39, -1e39)


@pytest.mark.parametrize(
  'name, parameter, values',
  [
    ('sac', 'batch_size', (0, 8.5, 1e30)),
    ('sac', 'update_freq', (0, 1.5, 1e30)),
    ('sac', 'update_rate', (-0.1, 1.1, True)),
    ('sac', 'discount', (-0.1, 1.1, '1')),
    ('sac', 'weight_decays', ((-1,), (1e999,), (1e39,), ('0.1',))),
    ('sac', 'optimizers', ((('adam', 1e39),), (('adam', 1e-60),), (('adam', '0.001'),))),
    ('sac', 'model_params', ((((True,),), 2), (((10**20,),), 2), (((8,),), True))),
    ('bcq', 'model_params', ((((8,),), 2, 1e999), (((8,),), 2, True), (((8,),), 2, -0.1))),
  ],
)
def test_a_wrong_value_of_what_an_experiment_binds_begins_the_message(
  name, parameter, values, make_agent
):
  # The program puts the experiment's selector before it.
  for value in values:
    with pytest.raises(UserError, match=f'^{parameter}\\b'):
      make_agent(name, **{parameter: value})


@pytest.mark.parametrize(
  'name, parameter, values',
  [
    ('sac', 'target_entropy', _HUGE),
    ('bc', 'alpha_entropy', _HUGE),
    ('bcq', 'n_action_samples', (0, 2.5, 10**8)),
    ('brac_primal', 'n_div_samples', (0, 2.5, 10**8)),
    ('brac_dual', 'c_iter', (0, 2.5, 10**8)),
    ('brac_primal', 'divergence_name', (['kl'], {'a': 1}, None)),
    *(
      (name, parameter, values)
      for name in BRACS
      for parameter, values in (
        ('warm_start', (-1, 0.5, 1e999)),
        ('alpha', _HUGE),
        ('alpha_max', (-1, 1e39)),
        ('alpha_entropy', _HUGE),
        ('target_divergence', _HUGE),
      )
    ),
  ],
)
def test_a_wrong_value_of_an_agent_is_refused_by_its_gin_name(name, parameter, values, make_agent):
  for value in values:
    with pytest.raises(UserError, match=f'^{name}_agent.Agent.{parameter}\\b'):
      make_agent(name, **{parameter: value})


@pytest.mark.parametrize(
  'name, parameters',
  [
    ('sac', dict(batch_size=8.0, update_freq=2.0, update_rate=1)),
    ('sac', dict(update_rate=0, discount=1, target_entropy=-3)),
    ('bcq', dict(n_action_samples=3.0, model_params=(((8, 8),), 2, 1))),
    ('bc', dict(alpha_entropy=2, weight_decays=(1,))),
    ('brac_primal', dict(warm_start=2e4, n_div_samples=2.0, alpha=1, alpha_max=500)),
    ('brac_dual', dict(warm_start=0.0, c_iter=2.0, target_divergence=1)),
  ],
)
def test_whole_floats_and_ints_are_numbers(name, parameters, make_agent):
  make_agent(name, **parameters).train(1)


@pytest.mark.parametrize(
  'name, parameters',
  [
    *(('brac_primal', dict(alpha=x)) for x in (1000.0, -1.0)),
    *((name, dict(alpha_entropy=-3)) for name in ('brac_dual', 'bc')),
  ],
)
def test_a_multiplier_outside_of_its_bounds_is_warned_of(name, parameters, make_agent, caplog):
  with caplog.at_level('WARNING', 'absl'):
    make_agent(name, **parameters)
  (parameter,) = parameters
  (message,) = caplog.messages
  assert message.startswith(f'{name}_agent.Agent.{parameter} is ') and 'clipped' in message


def test_brac_says_which_divergences_there_are(make_agent):
  with pytest.raises(UserError, match="brac_primal_agent.*'kll'.*'mmd'.*did you mean 'kl'"):
    make_agent('brac_primal', divergence_name='kll')
  with pytest.raises(UserError, match="brac_dual_agent.*'mmd'.*'kl', 'w'"):
    make_agent('brac_dual', divergence_name='mmd')


def test_brac_primal_asks_for_a_behavior_policy(make_agent):
  with pytest.raises(UserError, match='behavior_ckpt_file is not set: .*--agent_name=bc'):
    make_agent('brac_primal', behavior_ckpt_file=None)


# The checkpoints in the published format.


PUBLISHED = os.path.join(
  os.path.dirname(os.path.abspath(__file__)), '..', '..', 'shared', 'data', 'published_format'
)


@pytest.fixture
def published():
  """What the published policy must give; skips where its checkpoints are not."""
  if not os.path.isdir(PUBLISHED):
    pytest.skip(f'no checkpoints in the published format at {PUBLISHED}')
  return dict(np.load(os.path.join(PUBLISHED, 'expected.npz')))


@pytest.fixture
def published_parameters():
  """Specs of the published checkpoints."""
  return dict(
    observation_spec=BoundedTensorSpec([17], tf.float32, -10, 10),
    action_spec=BoundedTensorSpec([6], tf.float32, -1, 1),
    model_params=(((200, 200),), 2),
  )


def assert_published(actor, published):
  pi = actor(tf.constant(published['observations']))
  np.testing.assert_allclose(pi.mode(), published['bc/mode'], atol=1e-5)
  log_density = pi.log_prob(tf.constant(published['actions']))
  np.testing.assert_allclose(log_density, published['bc/log_density'], atol=1e-5, rtol=0)


def test_a_published_behavior_policy_gives_what_it_should(published, published_parameters):
  path = os.path.join(PUBLISHED, 'bc', 'agent_behavior')
  box = Box.of(published_parameters['action_spec'])
  assert_published(policy_loader.load_actor(path, 17, box, 'behavior policy'), published)


def test_a_published_agent_is_restored_without_its_optimizers(
  published, published_parameters, make_agent
):
  path = os.path.join(PUBLISHED, 'bc', 'agent')
  an_agent = make_agent('bc', seed=5, alpha_entropy=0.123, **published_parameters)
  slots = {k: v for k, v in weights(an_agent).items() if k.startswith('optimizers/')}
  an_agent.restore(path)
  assert_published(an_agent.pi, published)
  reader = checkpoints.Reader(path)
  assert an_agent.step == reader.read('global_step')
  np.testing.assert_array_equal(an_agent.alpha_entropy_var, reader.read('agent/_alpha_entropy_var'))
  after = weights(an_agent)
  assert_same_bits({key: after[key] for key in slots}, slots)


def test_brac_primal_takes_a_published_behavior_policy(published, published_parameters, make_agent):
  path = os.path.join(PUBLISHED, 'bc', 'agent_behavior')
  an_agent = make_agent('brac_primal', behavior_ckpt_file=path, **published_parameters)
  assert_published(an_agent.b, published)


@pytest.mark.parametrize('name', ['brac_primal', 'brac_dual'])
def test_a_policy_that_never_learns_from_q_is_said(name, make_agent):
  def trained(warm_start):
    an_agent = make_agent(name, warm_start=warm_start)
    for _ in range(4):
      step_uncompiled(an_agent)
    return an_agent.remarks(4), [v.numpy() for v in an_agent.pi.variables]

  _, without_q = trained(10**6)
  for warm_start in (1, 2, 3, 4):
    remarks, pi = trained(warm_start)
    is_without = all(map(np.array_equal, pi, without_q))
    assert is_without == (warm_start >= 3)
    assert any('never learns from Q' in remark for remark in remarks) == is_without


def test_a_target_of_a_divergence_whose_weight_is_not_trained_is_said(make_agent):
  for trained, target in ((False, 0.5), (False, 0.0), (True, 0.5)):
    an_agent = make_agent('brac_primal', train_alpha=trained, target_divergence=target)
    said = any('target_divergence' in remark for remark in an_agent.remarks(10**6))
    assert said == (target > 0 and not trained)
