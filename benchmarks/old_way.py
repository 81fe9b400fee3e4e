"""The agents' mathematics and rollouts run as the published code runs them, to be measured against.

One call of a compiled function a step, a batch gathered eagerly before it, Keras layers, Keras's
Adam, distribution objects, the gradient penalty through a nested tape, and every number read back.
It shares no code with the agents. A rollout is one environment behind TF-Agents' wrappers, and a
compiled policy.
"""

import functools
import importlib
import importlib.util
import time
from typing import Dict

import numpy as np
import ours
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.environments import suite_gym, tf_py_environment
from tf_agents.utils import common

from brac.data.transitions import Batch

tfd, tfb = tfp.distributions, tfp.bijectors
# Keras 2, as in the published code; from TensorFlow 2.16 on it has a package of its own.
keras = importlib.import_module('tf_keras') if importlib.util.find_spec('tf_keras') else tf.keras

DISCOUNT, RATE, MARGIN = 0.99, 0.005, 1e-3


def mlp(n_in, units, n_out):
  layers = [keras.layers.Dense(n, activation='relu') for n in units]
  net = keras.Sequential([*layers, keras.layers.Dense(n_out)])
  net.build([None, n_in])
  return net


def split(x):
  return tf.split(x, 2, axis=-1)


def value(net, s, a):
  return net(tf.concat([s, a], -1))[..., 0]


def distribution(net, s):
  """A tanh-normal over the box [-1, 1]^A as a distribution object."""
  mean, u = split(net(s))
  std = tf.exp(-5.0 + 2.5 * (tf.tanh(u) + 1.0))
  squash = tfb.Chain(
    [tfb.Shift(tf.zeros_like(mean[0])), tfb.Scale(tf.ones_like(mean[0])), tfb.Tanh()]
  )
  return tfd.TransformedDistribution(tfd.MultivariateNormalDiag(mean, std), squash)


def draw(p, n=()):
  a = p.sample(n)
  return a, p.log_prob(a)


def clip(a):
  return tf.clip_by_value(a, -1 + MARGIN, 1 - MARGIN)


class Trainer:
  """What every agent does: the step's call, the optimizers, the targets."""

  def __init__(self, data: Dict[str, np.ndarray], batch_size: int):
    self.data = [tf.Variable(x) for x in data.values()]
    self.n, self.batch_size = len(data['r']), batch_size
    self.n_states, self.n_actions = data['s1'].shape[1], data['a1'].shape[1]
    self.global_step = tf.Variable(0, dtype=tf.int64)
    self.adams = {}

  def train(self, n: int) -> None:
    """n training steps."""
    for _ in range(n):
      self.step()

  def step(self):
    rows = np.random.choice(self.n, self.batch_size)
    batch = Batch(*(tf.gather(field, rows) for field in self.data))
    info = self._optimize(batch)
    self.global_step.assign_add(1)
    return {name: x.numpy() for name, x in info.items()}

  @tf.function
  def _optimize(self, batch):
    return self.optimize(batch)

  def descend(self, name, loss, variables, rate=1e-3):
    """One step of Keras's Adam against the gradient of `loss()`."""
    if name not in self.adams:
      # The optimizer of Keras that the published code had, which is the faster of its two.
      self.adams[name] = keras.optimizers.legacy.Adam(rate)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
      tape.watch(variables)
      x = loss()
    self.adams[name].apply_gradients(zip(tape.gradient(x, variables), variables))
    norm = tf.add_n([tf.reduce_sum(tf.square(v)) for v in variables])
    return {name + '_loss': x, name + '_norm': norm}

  def follow(self, pairs):
    for source, target in pairs:
      for x, y in zip(source.variables, target.variables):
        y.assign((1 - RATE) * y + RATE * x)


class BC(Trainer):
  def __init__(self, data, batch_size=256):
    super().__init__(data, batch_size)
    self.pi = mlp(self.n_states, (200, 200), 2 * self.n_actions)
    self.alpha_e = tf.Variable(1.0)

  def optimize(self, batch):
    def p_loss():
      p = distribution(self.pi, batch.s1)
      _, log_pi = draw(p)
      return tf.reduce_mean(self.alpha_e * log_pi - p.log_prob(clip(batch.a1)))

    def ae_loss():
      _, log_pi = draw(distribution(self.pi, batch.s1))
      return tf.reduce_mean(-self.alpha_e * (log_pi - self.n_actions))

    info = self.descend('p', p_loss, self.pi.trainable_variables)
    return {**info, **self.descend('ae', ae_loss, [self.alpha_e])}


class Critics(Trainer):
  def __init__(self, data, batch_size=256):
    super().__init__(data, batch_size)
    n_in = self.n_states + self.n_actions
    self.qs = [mlp(n_in, (300, 300), 1) for _ in range(2)]
    self.target_qs = [mlp(n_in, (300, 300), 1) for _ in range(2)]
    self.pi = mlp(self.n_states, (200, 200), 2 * self.n_actions)
    self.tau = tf.Variable(0.0)

  def q(self, nets, s, a, weight=1.0):
    qs = [value(net, s, a) for net in nets]
    least, most = tf.reduce_min(qs, 0), tf.reduce_max(qs, 0)
    return weight * least + (1 - weight) * most

  def q_update(self, batch, next_value):
    info = {}

    def loss():
      v = next_value()
      y = tf.stop_gradient(batch.r + DISCOUNT * batch.d * v)
      info.update(
        r_mean=tf.reduce_mean(batch.r), dsc_mean=tf.reduce_mean(batch.d), v=tf.reduce_mean(v),
        y=tf.reduce_mean(y),
      )  # fmt: skip
      return tf.add_n(
        [tf.reduce_mean(tf.square(value(q, batch.s1, batch.a1) - y)) for q in self.qs]
      )

    variables = [v for q in self.qs for v in q.trainable_variables]
    return {**self.descend('q', loss, variables), **info}


class SAC(Critics):
  def optimize(self, batch):
    self.follow(zip(self.qs, self.target_qs))

    def next_value():
      a2, log_pi = draw(distribution(self.pi, batch.s2))
      return self.q(self.target_qs, batch.s2, a2) - tf.exp(self.tau) * log_pi

    def p_loss():
      a, log_pi = draw(distribution(self.pi, batch.s1))
      return tf.reduce_mean(tf.exp(self.tau) * log_pi - self.q(self.qs, batch.s1, a))

    def a_loss():
      _, log_pi = draw(distribution(self.pi, batch.s1))
      return tf.reduce_mean(-tf.exp(self.tau) * (log_pi - self.n_actions))

    return {
      **self.q_update(batch, next_value),
      **self.descend('p', p_loss, self.pi.trainable_variables),
      **self.descend('a', a_loss, [self.tau]),
    }


class BRAC(Critics):
  """With a value penalty, and fixed multipliers as in the paper's table."""

  alpha, alpha_entropy, warm_start = 1.0, 0.0, 0

  def __init__(self, data, divergence, batch_size=256):
    super().__init__(data, batch_size)
    self.divergence = getattr(self, divergence)

  def optimize(self, batch):
    self.follow(zip(self.qs, self.target_qs))

    def next_value():
      p = distribution(self.pi, batch.s2)
      a2, log_pi = draw(p)
      v = self.q(self.target_qs, batch.s2, a2) - self.alpha_entropy * log_pi
      return v - self.alpha * self.divergence(batch.s2, p, batch.a2)

    info = {}

    def p_loss():
      p = distribution(self.pi, batch.s1)
      a, log_pi = draw(p)
      d = self.divergence(batch.s1, p, batch.a1)
      info.update(div_mean=tf.reduce_mean(d), div_std=tf.math.reduce_std(d))
      warm = tf.cast(self.global_step > self.warm_start, tf.float32)
      q = self.q(self.qs, batch.s1, a)
      return tf.reduce_mean(self.alpha_entropy * log_pi + self.alpha * d - warm * q)

    return {
      **self.q_update(batch, next_value),
      **self.descend('p', p_loss, self.pi.trainable_variables),
      **info,
    }


class Primal(BRAC):
  def __init__(self, data, divergence, batch_size=256):
    super().__init__(data, divergence, batch_size)
    self.b = mlp(self.n_states, (200, 200), 2 * self.n_actions)

  def kl(self, s, p, _):
    a, log_pi = draw(p, 4)
    return tf.reduce_mean(log_pi - distribution(self.b, s).log_prob(clip(a)), 0)

  def mmd(self, s, p, _):
    x, y = p.sample(4), distribution(self.b, s).sample(4)

    def k(x, y):
      gap = tf.reduce_sum(tf.abs(x[:, None] - y[None]), -1)
      return tf.reduce_mean(tf.exp(-gap / 20.0), [0, 1])

    return k(x, x) + k(y, y) - 2 * k(x, y)


class Dual(BRAC):
  def __init__(self, data, divergence, batch_size=256):
    super().__init__(data, 'dual', batch_size)
    self.bound = getattr(self, divergence)
    self.c = mlp(self.n_states + self.n_actions, (300, 300), 1)

  def dual(self, s, p, a_b):
    return self.bound(value(self.c, s, p.sample()), value(self.c, s, a_b))

  def kl(self, c_pi, c_b):
    return tf.math.log(tf.nn.softplus(c_pi)) + 1 - tf.nn.softplus(c_b)

  def w(self, c_pi, c_b):
    return c_pi - c_b

  def c_update(self, batch):
    def loss():
      s, a_b = batch.s1, batch.a1
      a_pi = distribution(self.pi, s).sample()
      u = tf.random.uniform([tf.shape(s)[0], 1])
      a = a_b + u * (a_pi - a_b)
      with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(a)
        c = value(self.c, s, a)
      slope = tape.gradient(c, a)
      norm = tf.sqrt(tf.reduce_sum(tf.square(slope), -1) + 1e-6)
      penalty = 5.0 * tf.reduce_mean(tf.square(tf.nn.relu(norm - 1)))
      return -tf.reduce_mean(self.bound(value(self.c, s, a_pi), value(self.c, s, a_b))) + penalty

    return self.descend('c', loss, self.c.trainable_variables)

  def optimize(self, batch):
    return {**super().optimize(batch), **self.c_update(batch)}

  @tf.function
  def _extra(self, batch):
    return self.c_update(batch)

  def step(self):
    info = super().step()
    for _ in range(2):
      rows = np.random.choice(self.n, self.batch_size)
      self._extra(Batch(*(tf.gather(field, rows) for field in self.data)))
    return info


class BCQ(Critics):
  phi, n_samples = 0.05, 10

  def __init__(self, data, batch_size=100):
    super().__init__(data, batch_size)
    n_in, a = self.n_states + self.n_actions, self.n_actions
    self.xi, self.target_xi = mlp(n_in, (200, 200), a), mlp(n_in, (200, 200), a)
    self.encoder = mlp(n_in, (750, 750), 4 * a)
    self.decoder = mlp(self.n_states + 2 * a, (750, 750), a)

  def perturb(self, xi, s, a):
    h = xi(tf.concat([s, a], -1))
    return tf.clip_by_value(a + self.phi * tf.tanh(h), -1, 1)

  def imitate(self, s):
    z = tf.clip_by_value(tf.random.normal([tf.shape(s)[0], 2 * self.n_actions]), -0.5, 0.5)
    return tf.tanh(self.decoder(tf.concat([s, z], -1)))

  def optimize(self, batch):
    self.follow([*zip(self.qs, self.target_qs), (self.xi, self.target_xi)])

    def next_value():
      s = tf.repeat(batch.s2, self.n_samples, 0)
      a = self.perturb(self.target_xi, s, self.imitate(s))
      q = self.q(self.target_qs, s, a, 0.75)
      return tf.reduce_max(tf.reshape(q, [-1, self.n_samples]), -1)

    def xi_loss():
      a = self.perturb(self.xi, batch.s1, self.imitate(batch.s1))
      return -tf.reduce_mean(value(self.qs[0], batch.s1, a))

    def vae_loss():
      mean, log_std = split(self.encoder(tf.concat([batch.s1, batch.a1], -1)))
      z = tfd.MultivariateNormalDiag(mean, tf.exp(tf.clip_by_value(log_std, -4.0, 15.0)))
      a = tf.tanh(self.decoder(tf.concat([batch.s1, z.sample()], -1)))
      unit = tfd.MultivariateNormalDiag(tf.zeros_like(mean), tf.ones_like(mean))
      kl = tf.reduce_mean(tfd.kl_divergence(z, unit)) / (2 * self.n_actions)
      return tf.reduce_mean(tf.square(a - batch.a1)) + 0.5 * kl

    vae = self.encoder.trainable_variables + self.decoder.trainable_variables
    return {
      **self.q_update(batch, next_value),
      **self.descend('p', xi_loss, self.xi.trainable_variables),
      **self.descend('b', vae_loss, vae),
    }


_TRAINERS = {
  'bc': BC,
  'sac': SAC,
  'brac_primal kl': lambda data: Primal(data, 'kl'),
  'brac_primal mmd': lambda data: Primal(data, 'mmd'),
  'brac_dual kl': lambda data: Dual(data, 'kl'),
  'brac_dual w': lambda data: Dual(data, 'w'),
  'bcq': BCQ,
}


@functools.lru_cache(maxsize=1)
def _trainer(case: str) -> Trainer:
  rows = ours.transitions()
  columns = rows.s1, rows.a1, rows.s2, rows.a2, rows.reward, rows.discount
  made = _TRAINERS[case](dict(zip(Batch._fields, columns)))
  made.train(20)
  return made


def train(case: str, n: int) -> float:
  """Seconds of n training steps."""
  trainer = _trainer(case)
  start = time.perf_counter()
  trainer.train(n)
  return time.perf_counter() - start


@functools.lru_cache(maxsize=None)
def _driver(env_name: str, policy: str):
  env = tf_py_environment.TFPyEnvironment(suite_gym.load(env_name))
  return env, common.function(ours.policy(env_name, policy).action)


def rollout(env_name: str, policy: str, n: int) -> float:
  """Seconds of n steps of an environment with one of the policies of `ours`."""
  env, act = _driver(env_name, policy)
  now = env.reset()
  act(now)
  start = time.perf_counter()
  for _ in range(n):
    now = env.step(act(now).action)
  return time.perf_counter() - start
