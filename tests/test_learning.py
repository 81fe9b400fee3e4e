"""The agents learn the right answer: trained for seconds on made data whose answer is known.

A world here is a few states with one action. The data's actions in each are those of a tanh-normal
policy b that is known, so that the best policy of the agents' class, its value and its divergence
follow by quadrature over that action. The tests train through the agents' public API and compare.

The tolerances: a training leaves the policy and the critics swinging about their answers, by the
learning rate and by the noise of the batches, so what is compared is a mean over its second half.
How far that is from the answer was measured with four seeds for each test. The tolerances are about
twice the largest of these deviations or more, and a fraction of what is found where a loss has a
wrong sign, α or γ is forgotten, or a network is not trained or not moved.
"""

import functools
import statistics
from typing import Callable, NamedTuple, Optional

import numpy as np
import pytest
import tensorflow as tf

from brac import agents, checkpoints
from brac.data.replay import Dataset
from brac.data.transitions import Transitions, take
from brac.networks import Actor, Box
from brac.rng import Rng
from brac.tf_agents_bridge import BoundedTensorSpec

GAMMA = 0.8  # 1 / (1 - γ) = 5 is near within a few hundred steps
N_ROWS = 1024  # of data for each state
CHUNK = 36  # steps in a call: so short a call takes the loop that compiles fastest
NEVER = 1e-30  # a learning rate that moves nothing


# Policies of one action: `half tanh(z)`, `z ~ N(m, σ²)`, in a box of ±half.


class Normal(NamedTuple):
  """That of z; many of them where the fields are arrays."""

  m: np.ndarray
  log_std: np.ndarray

  @property
  def std(self):
    return np.exp(self.log_std)


_NODES = np.linspace(-5, 5, 81)  # of the quadrature over ε
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()


def expectation(f: Callable, normal: Normal, half: float):
  """`E[f(a)]`."""
  z = np.asarray(normal.m)[..., None] + np.asarray(normal.std)[..., None] * _NODES
  return f(half * np.tanh(z)) @ _WEIGHTS


def entropy(normal: Normal, half: float):
  """`E[-log π(a)]`."""
  tanh_part = expectation(lambda a: np.log(half * (1 - (a / half) ** 2) + 1e-12), normal, half)
  return normal.log_std + 0.5 * np.log(2 * np.pi * np.e) + tanh_part


def kl(p: Normal, q: Normal):
  """`KL(p, q)`: that of the normals, for the tanh is the same in both."""
  return q.log_std - p.log_std + (p.std**2 + (p.m - q.m) ** 2) / (2 * q.std**2) - 0.5


def mmd(p: Normal, q: Normal, half: float, n: int = 4, sigma: float = 20.0):
  """`E[k(π, π) + k(b, b) - 2 k(π, b)]` of n samples of each; a sample's pair with itself is 1."""

  def actions(normal):
    return half * np.tanh(
      np.asarray(normal.m)[..., None] + np.asarray(normal.std)[..., None] * _NODES
    )

  def k(p, q):
    distances = np.abs(actions(p)[..., :, None] - actions(q)[..., None, :])
    return np.exp(-distances / sigma) @ _WEIGHTS @ _WEIGHTS

  return (1 - 1 / n) * (k(p, p) + k(q, q)) + 2 / n - 2 * k(p, q)


def best(objective: Callable[[Normal], np.ndarray]) -> Normal:
  """The best member of the policy's class, log σ in [-5, 0], by a grid that narrows."""
  m, log_std, width = 0.0, -2.5, 2.5
  for _ in range(12):
    grid = np.meshgrid(np.linspace(-width, width, 25), np.linspace(-width, width, 25))
    normals = Normal(m + grid[0], np.clip(log_std + grid[1], -5, 0))
    found = np.argmax(objective(normals))
    m, log_std = normals.m.flat[found], normals.log_std.flat[found]
    width *= 0.4
  return Normal(m, log_std)


# The best critic of a dual divergence, on a grid over the action.


class Grid:
  """Two policies π and b on a grid; with the density of â, uniformly between their actions."""

  def __init__(self, pi: Normal, b: Normal, half: float, n: int = 80):
    ends = np.array([normal.m + sign * 4 * normal.std for normal in (pi, b) for sign in (-1, 1)])
    edges = np.linspace(ends.min(), ends.max(), n + 1)
    standard = statistics.NormalDist()

    def masses(normal):
      mass = np.diff([standard.cdf(x) for x in (edges - normal.m) / normal.std])
      return mass / mass.sum()

    self.pi, self.b = masses(pi), masses(b)
    x = half * np.tanh((edges[1:] + edges[:-1]) / 2)
    self.steps = np.diff(x)
    pairs = self.pi[:, None] * self.b / np.maximum(np.abs(x[:, None] - x), 1e-9)
    pairs = np.triu(pairs, 1) + np.tril(pairs, -1).T  # [lower, upper]
    self.between = self.steps * [pairs[: i + 1, i + 1 :].sum() for i in range(n - 1)]

  def wasserstein(self) -> float:
    """`W₁(π, b)`."""
    return np.abs(np.cumsum(self.b - self.pi)[:-1]) @ self.steps

  def best_w(self, gamma: float) -> float:
    """`E[c(a_π) - c(a_b)]` of the critic that maximizes it less the gradient penalty.

    With `p = P(a_π > x) - P(a_b > x)`, ρ the density of â and s the slope of c it is the integral
    of `p s`, and the penalty that of `γ ρ max(|s| - 1, 0)²`: s is p's sign times
    `1 + |p| / (2 γ ρ)`.
    """
    p = np.abs(np.cumsum(self.b - self.pi)[:-1])
    return (p * self.steps) @ (1 + p * self.steps / (2 * gamma * self.between))

  def best_kl(self, gamma: float) -> float:
    """`E[log softplus(c(a_π))] + 1 - E[softplus(c(a_b))]` of the critic that maximizes it less the
    gradient penalty, which is concave in c: by Newton's method."""
    n = len(self.pi)
    slope_of = np.diff(np.eye(n), axis=0) / self.steps[:, None]

    def value(c):
      s, slope = np.logaddexp(0, c), slope_of @ c
      d = self.pi @ np.log(s) + 1 - self.b @ s
      return d, d - gamma * self.between @ np.maximum(np.abs(slope) - 1, 0) ** 2

    c = np.full(n, np.log(np.e - 1))  # softplus(c) = 1, which is best where π = b
    for _ in range(400):
      s, sigmoid, slope = np.logaddexp(0, c), 1 / (1 + np.exp(-c)), slope_of @ c
      excess = np.sign(slope) * np.maximum(np.abs(slope) - 1, 0)
      first = self.pi * sigmoid / s - self.b * sigmoid
      first -= 2 * gamma * slope_of.T @ (self.between * excess)
      curve = sigmoid * (1 - sigmoid)
      second = np.diag(self.b * curve - self.pi * (curve / s - (sigmoid / s) ** 2))
      second += 2 * gamma * (slope_of.T * (self.between * (excess != 0))) @ slope_of
      step = np.linalg.solve(second + 1e-9 * np.eye(n), first)
      gain, size = first @ step, 1.0
      if gain < 1e-9:
        return value(c)[0]
      while value(c + size * step)[1] < value(c)[1] + 0.1 * size * gain and size > 1e-10:
        size /= 2
      c = c + size * step
    raise AssertionError('the best critic was not found')


# Worlds and the agents in them.


class State(NamedTuple):
  """What the data do in a state, and what follows; a terminal one is followed by nothing."""

  b: Normal
  reward: Callable = np.zeros_like
  following: Optional[int] = None


def draw(normal: Normal, half: float, random: np.random.Generator) -> np.ndarray:
  """Actions `[N_ROWS]` at the quantiles of a distribution, in a random order."""
  standard = statistics.NormalDist()
  quantiles = [standard.inv_cdf((i + 0.5) / N_ROWS) for i in range(N_ROWS)]
  return half * np.tanh(normal.m + normal.std * random.permutation(quantiles))


def transitions(states: list[State], half: float) -> Transitions:
  """`N_ROWS` rows for each state, in order; a state is its number as a one-hot vector."""
  random, n = np.random.default_rng(0), len(states)
  rows = Transitions.zeros(N_ROWS * n, n, 1)
  for i, (b, reward, following) in enumerate(states):
    here, after = slice(i * N_ROWS, (i + 1) * N_ROWS), i if following is None else following
    rows.s1[here, i] = rows.s2[here, after] = 1
    rows.a1[here, 0] = draw(b, half, random)
    rows.a2[here, 0] = draw(states[after].b, half, random)
    rows.reward[here] = reward(rows.a1[here, 0])
    rows.discount[here] = following is not None
  return rows


def make_table(actor: Actor, normals: list[Normal]) -> Actor:
  """Makes an actor with as many hidden units as there are states give each state a distribution."""
  table = [[normal.m, np.arctanh((normal.log_std + 5) / 2.5 - 1)] for normal in normals]
  for layer, kernel in zip(actor._layers, (np.eye(len(normals)), table)):
    layer.kernel.assign(np.float32(kernel))
    layer.bias.assign(np.zeros(layer.bias.shape))
  return actor


class World:
  """States in a box of ±half, and the agents that are made of them."""

  def __init__(self, states: list[State], half: float, folder):
    self.states, self.half, self.folder = states, half, folder
    self.rows = transitions(states, half)

  def agent(self, name: str, rates, units=((32, 32),), **parameters):
    """An agent of that name on the world's data; `rates`: of each of its optimizers."""
    n = len(self.states)
    given = dict(
      observation_spec=BoundedTensorSpec([n], tf.float32, 0, 1),
      action_spec=BoundedTensorSpec([1], tf.float32, -self.half, self.half),
      data=Dataset(self.rows),
      model_params=units if name == 'bc' else (units, 2),
      optimizers=tuple(('adam', rate) for rate in rates),
      batch_size=64 * n,
      update_rate=0.1,
      discount=GAMMA,
    )
    if name.startswith('brac'):
      given['warm_start'] = 0
    made = agents.load(name)
    if made.CLONE:
      given[made.CLONE.parameter] = path = str(self.folder / 'agent_behavior')
      b = Actor(n, (n,), Box.of(given['action_spec']), Rng(0))
      checkpoints.save(path, policy=make_table(b, [state.b for state in self.states]))
    return made(**{**given, **parameters})

  def at(self, i: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The data's states and actions in state i."""
    here = slice(i * N_ROWS, (i + 1) * N_ROWS)
    return tf.constant(self.rows.s1[here]), tf.constant(self.rows.a1[here])

  def q(self, an_agent, i: int) -> np.ndarray:
    """What each critic gives the data's actions in state i, `[k]`."""
    return np.array([np.mean(q(*self.at(i))) for q in an_agent.q_nets])

  def divergence(self, an_agent, i: int) -> float:
    """D in state i."""
    s, a = self.at(i)
    return np.mean(an_agent.divergence(s, an_agent.pi(s), a, Rng(1, step=an_agent.step)))

  def normals(self, an_agent) -> np.ndarray:
    """m and σ of the policy in each state, `[S, 2]`."""
    pi = an_agent.pi(tf.eye(len(self.states)))
    return np.concatenate([pi.mean, np.exp(pi.log_std)], -1)


def settle(an_agent, n_chunks: int, *numbers: Callable) -> list:
  """Trains; the means over the last half of the chunks of some numbers of the agent."""
  seen = []
  for i in range(n_chunks):
    an_agent.train(CHUNK)
    if i >= n_chunks // 2:
      seen.append([number(an_agent) for number in numbers])
  return [np.mean(column, 0) for column in zip(*seen)]


# What every agent with critics learns.

ONE, MINUS_ONE, TWO, TWO_STEPS, TIME_LIMIT, GROWING, BEFORE_GROWING = range(7)
WIDE = Normal(0.0, np.log(0.8))  # about uniform over the box
NARROW = Normal(-0.3, np.log(0.2))
SLOPE = 4.0
CHAIN = [
  State(WIDE, np.ones_like),
  State(WIDE, lambda a: np.full_like(a, -1)),
  State(WIDE, lambda a: np.full_like(a, 2)),
  State(WIDE, following=ONE),
  State(WIDE, np.ones_like, following=TIME_LIMIT),
  State(NARROW, lambda a: SLOPE * a),
  State(WIDE, following=GROWING),
]
PHI = 0.2  # how far bcq may move an action
# A name, rates, parameters. Each α holds π, for α times the steepest that D can be is more than
# `SLOPE`: a dual critic's slope is about 1, that of mmd with its kernel about 2 / 20. SAC's
# temperature stays 1.
CHAIN_AGENTS = {
  'sac': ('sac', (3e-3, 3e-3, NEVER), {}),
  'bcq': ('bcq', (3e-3,), dict(n_action_samples=4, model_params=(((32, 32),), 2, PHI))),
  'kl': ('brac_primal', (3e-3,), dict(alpha=10.0)),
  'mmd': ('brac_primal', (3e-3,), dict(alpha=100.0, divergence_name='mmd')),
  'kl dual': ('brac_dual', (3e-3,), dict(alpha=10.0, c_iter=1)),
  'w': ('brac_dual', (3e-3,), dict(alpha=10.0, c_iter=1, divergence_name='w')),
}


class Learned(NamedTuple):
  """What an agent learned in the chain of states."""

  agent: object
  q: np.ndarray  # [S, k], of each critic
  chosen: np.ndarray  # the actions that its policy takes where rewards grow, [N_ROWS]


@pytest.fixture(scope='module')
def chain(tmp_path_factory):
  return World(CHAIN, 1.0, tmp_path_factory.mktemp('chain'))


@pytest.fixture(scope='module')
def learned(chain):
  """`learned(name)`: what that agent learned, trained once for all tests."""

  @functools.cache
  def train(name):
    agent_name, rates, parameters = CHAIN_AGENTS[name]
    if 'alpha' in parameters:
      parameters = dict(parameters, value_penalty=False)
    an_agent = chain.agent(agent_name, rates, **parameters)
    s, _ = chain.at(GROWING)
    q, chosen = settle(
      an_agent,
      18,
      lambda x: [chain.q(x, i) for i in range(len(CHAIN))],
      lambda x: x.policies()['main'].act(s, Rng(0, step=x.step))[:, 0],
    )
    return Learned(an_agent, q, chosen)

  return train


@functools.cache
def max_entropy() -> float:
  """The most entropy that a policy has in the box of the chain, which SAC is paid for."""
  return entropy(best(lambda pi: entropy(pi, 1.0)), 1.0)


@pytest.mark.parametrize('name', CHAIN_AGENTS)
@pytest.mark.parametrize('state, reward', [(ONE, 1.0), (MINUS_ONE, -1.0), (TWO, 2.0)])
def test_before_a_terminal_q_is_the_reward(name, state, reward, learned):
  np.testing.assert_allclose(learned(name).q[state], reward, atol=0.03)


@pytest.mark.parametrize('name', CHAIN_AGENTS)
def test_two_steps_before_a_reward_q_is_gamma(name, learned):
  bonus = max_entropy() if name == 'sac' else 0.0
  np.testing.assert_allclose(learned(name).q[TWO_STEPS], GAMMA * (1 + bonus), atol=0.04)


@pytest.mark.parametrize('name', CHAIN_AGENTS)
def test_at_a_time_limit_q_goes_on(name, learned):
  bonus = max_entropy() if name == 'sac' else 0.0
  want = (1 + GAMMA * bonus) / (1 - GAMMA)
  np.testing.assert_allclose(learned(name).q[TIME_LIMIT], want, rtol=0.03)


@pytest.mark.parametrize('name', CHAIN_AGENTS)
def test_where_rewards_grow_outside_the_data_sac_leaves_and_the_others_stay(name, chain, learned):
  _, a = chain.at(GROWING)
  chosen = learned(name).chosen.mean()
  if name == 'sac':
    assert chosen > np.max(a)
  else:
    assert abs(chosen - np.mean(a)) < 2 * np.std(a)


def test_bcq_goes_as_far_from_its_model_of_the_data_as_it_may(chain, learned):
  an_agent, q, chosen = learned('bcq')
  s, a = chain.at(GROWING)
  # The cheapest VAE of data so narrow: its latent says nothing, its action is their mean.
  for numbers in an_agent.vae.encode(s, a):
    np.testing.assert_allclose(numbers, 0, atol=0.2)
  want = np.mean(a) + PHI
  np.testing.assert_allclose(chosen, want, atol=0.08)
  # Without Φ, as where its target network does not move, it would be 0.64 less.
  np.testing.assert_allclose(q[BEFORE_GROWING], GAMMA * SLOPE * want, atol=0.25)


def test_bcq_takes_the_best_of_its_models_samples(tmp_path):
  std, half, n = 2.0, 20.0, 4
  b = Normal(0.0, np.log(std / half))  # so narrow in its box that the tanh is about straight
  world = World([State(b, lambda a: a), State(b, following=LAST)], half, tmp_path)
  model_params = (((32, 32),), 2, 1e-6)  # Φ: the samples stay as they are
  an_agent = world.agent('bcq', (3e-3,), n_action_samples=n, model_params=model_params)
  # Which of its two latents says it takes long to settle: the second starts unread.
  an_agent.vae._decoder_layers[0].kernel[-1].assign(np.zeros(32, np.float32))
  q, chosen, stds = settle(
    an_agent,
    36,
    lambda x: world.q(x, BEFORE),
    lambda x: np.mean(x.policies()['main'].act(world.at(LAST)[0], Rng(0, step=x.step))),
    lambda x: np.sort(np.mean(np.exp(x.vae.encode(*world.at(LAST))[1]), 0)),
  )
  # J(VAE), the squares and a quarter of the KL of each of the two latents, is least (probabilistic
  # PCA) where the decoder is linear, one latent says all but a variance of 1/8, and the other
  # nothing. Latents are drawn within ±0.5; the largest of n is below z with probability P(z)ⁿ.
  np.testing.assert_allclose(stds, [np.sqrt(1 / 8) / std, 1], rtol=0.1)
  below = np.array([statistics.NormalDist().cdf(z) for z in np.linspace(-0.5, 0.5, 1001)])
  largest = np.sqrt(std**2 - 1 / 8) * (0.5 - np.mean(below**n))
  np.testing.assert_allclose(chosen, largest, rtol=0.15)
  np.testing.assert_allclose(q, GAMMA * largest, rtol=0.15)


@pytest.mark.parametrize('λ', [1.0, 0.75, 0.0])
def test_where_the_critics_disagree_v_is_of_their_ensemble(λ, tmp_path):
  world = World([State(WIDE, following=1), State(WIDE)], 1.0, tmp_path)
  an_agent = world.agent(
    'brac_primal',
    (3e-3,),
    alpha=10.0,
    value_penalty=False,
    ensemble_q_lambda=λ,
    discount=0.5,
    update_rate=1.0,
    data=Dataset(take(world.rows, np.arange(N_ROWS))),  # of state 1 only that it follows
  )
  for nets in (an_agent.q_nets, an_agent.target_q_nets):
    for q_net, weight in zip(nets, (0.4, -0.4)):
      q_net._layers[0].kernel[1].assign(np.full(32, weight, np.float32))
  q, (one, other) = settle(
    an_agent,
    12,
    lambda x: world.q(x, 0),
    lambda x: [np.mean(target_q(*world.at(1))) for target_q in x.target_q_nets],
  )
  assert abs(one - other) > 0.08
  want = 0.5 * (λ * min(one, other) + (1 - λ) * max(one, other))
  np.testing.assert_allclose(q, want, atol=0.01)


# BRAC's closed form: `π(a) ∝ b(a) exp(Q(a) / α)`, or what in the policy's class comes nearest.

LAST, BEFORE = 0, 1
BEHAVIOR = Normal(-0.2, np.log(0.6))
BEHAVIOR_BEFORE = Normal(0.1, np.log(0.45))  # another, for D in V is that of the next state
# So wide that no D here needs a critic much steeper than the gradient penalty lets it be: solved
# with the penalty for α = 0.3, the best policy is off by 0.0004 in m and 0.0017 in σ.
HALF = 20.0
ALPHAS = {'large': 5.0, 'middle': 1.0, 'small': 0.3}


def hill(a):
  """A reward with its best at 10, where few of the data's actions are."""
  return -(((a - 10) / 12) ** 2)


class Answer(NamedTuple):
  """The policy that maximizes `E[r] - α D + α_e E[-log π]`, and what it has of each."""

  pi: Normal
  reward: float
  d: float
  entropy: float


def best_regularized(
  alpha: float,
  alpha_entropy: float = 0.0,
  reward: Callable = hill,
  b: Normal = BEHAVIOR,
  divergence: Callable = kl,
) -> Answer:
  def parts(pi):
    return expectation(reward, pi, HALF), divergence(pi, b), entropy(pi, HALF)

  def objective(pi):
    r, d, h = parts(pi)
    return r - alpha * d + alpha_entropy * h

  pi = best(objective)
  return Answer(pi, *parts(pi))


@pytest.fixture
def one_step(tmp_path):
  """A terminal state with the hill's reward, and one with none that leads to it."""
  return World([State(BEHAVIOR, hill), State(BEHAVIOR_BEFORE, following=LAST)], HALF, tmp_path)


def settled(an_agent, one_step) -> list:
  """What it learns there: m and σ in both states, D in the last one, Q in the one before."""
  d, q = lambda x: one_step.divergence(x, LAST), lambda x: one_step.q(x, BEFORE)
  return settle(an_agent, 22, one_step.normals, d, q)


@pytest.mark.parametrize('size', ALPHAS)
@pytest.mark.parametrize(
  'name, rates, parameters, tolerance',
  [
    # The policy and the critic of the dual chase each other.
    ('brac_primal', (3e-3, 1e-3, NEVER), {}, 0.07),
    ('brac_dual', (3e-3, 1e-3, 3e-3, NEVER), dict(c_iter=2), 0.1),
  ],
)
def test_brac_finds_its_closed_form(name, rates, parameters, tolerance, size, one_step):
  alpha, penalized = ALPHAS[size], size != 'middle'
  want = best_regularized(alpha)
  an_agent = one_step.agent(name, rates, alpha=alpha, value_penalty=penalized, **parameters)
  normals, d, q = settled(an_agent, one_step)
  (m, std), (m_before, std_before) = normals
  np.testing.assert_allclose(m, want.pi.m, atol=0.05)
  np.testing.assert_allclose(std, want.pi.std, rtol=tolerance)
  np.testing.assert_allclose(d, want.d, rtol=tolerance, atol=0.02)
  # Where Q is the same for all actions, D alone says what is best.
  np.testing.assert_allclose(m_before, BEHAVIOR_BEFORE.m, atol=0.05)
  np.testing.assert_allclose(std_before, BEHAVIOR_BEFORE.std, rtol=0.15)
  # α D is 0.2 to 0.5 there.
  value = want.reward - penalized * alpha * want.d
  np.testing.assert_allclose(q, GAMMA * value, atol=0.06)


@pytest.mark.parametrize(
  'name, rates', [('brac_primal', (3e-3, 1e-3, NEVER)), ('brac_dual', (3e-3, 1e-3, 3e-3, NEVER))]
)
def test_in_the_warm_start_brac_clones_the_data_whatever_q_is(name, rates, one_step):
  an_agent = one_step.agent(name, rates, alpha=0.3, warm_start=10**6)
  normals, d, _ = settled(an_agent, one_step)
  for got, b in zip(normals, (BEHAVIOR, BEHAVIOR_BEFORE)):
    np.testing.assert_allclose(got[0], b.m, atol=0.05)
    np.testing.assert_allclose(got[1], b.std, rtol=0.15)
  np.testing.assert_allclose(d, 0, atol=0.03)


def test_brac_finds_the_best_policy_under_mmd(one_step):
  alpha, divergence = 5.0, functools.partial(mmd, half=HALF)
  want = best_regularized(alpha, divergence=divergence)
  before = best_regularized(alpha, 0.0, np.zeros_like, BEHAVIOR_BEFORE, divergence)
  rates, parameters = (3e-3, 1e-3, NEVER), dict(divergence_name='mmd', value_penalty=True)
  an_agent = one_step.agent('brac_primal', rates, alpha=alpha, **parameters)
  normals, d, q = settled(an_agent, one_step)
  np.testing.assert_allclose(normals[:, 0], [want.pi.m, before.pi.m], atol=0.05)
  np.testing.assert_allclose(normals[:, 1], [want.pi.std, before.pi.std], rtol=0.15)
  np.testing.assert_allclose(d, want.d, rtol=0.07)
  np.testing.assert_allclose(q, GAMMA * (want.reward - alpha * want.d), atol=0.06)


def test_brac_trains_its_multipliers_to_their_targets(one_step):
  alpha, alpha_entropy = 0.6, 0.3
  want = best_regularized(alpha, alpha_entropy)
  before = best_regularized(alpha, alpha_entropy, np.zeros_like, BEHAVIOR_BEFORE)
  an_agent = one_step.agent(
    'brac_primal',
    (3e-3, 2e-3, 3e-3),
    alpha=0.9,
    train_alpha=True,
    target_divergence=(want.d + before.d) / 2,  # the mean over the data's states
    alpha_entropy=0.5,
    train_alpha_entropy=True,
    target_entropy=(want.entropy + before.entropy) / 2,
  )
  normals, d, q, multipliers = settle(
    an_agent,
    30,
    one_step.normals,
    lambda x: one_step.divergence(x, LAST),
    lambda x: one_step.q(x, BEFORE),
    lambda x: [x.alpha, x.alpha_entropy],
  )
  np.testing.assert_allclose(multipliers, [alpha, alpha_entropy], rtol=0.15)
  np.testing.assert_allclose(normals[:, 0], [want.pi.m, before.pi.m], atol=0.05)
  np.testing.assert_allclose(normals[:, 1], [want.pi.std, before.pi.std], rtol=0.07)
  np.testing.assert_allclose(d, want.d, rtol=0.07)
  value = want.reward - alpha * want.d + alpha_entropy * want.entropy
  np.testing.assert_allclose(q, GAMMA * value, atol=0.1)


@pytest.mark.parametrize(
  'targets, want',
  [
    # D is below its target and the entropy above its own, whatever the multipliers are.
    (dict(target_divergence=1e3, target_entropy=-1e3), [0, 0]),
    (dict(target_divergence=-1e3, target_entropy=-1e3), [0.3, 0]),
  ],
)
def test_multipliers_whose_targets_are_out_of_reach_stop_at_their_bounds(targets, want, one_step):
  an_agent = one_step.agent(
    'brac_primal',
    (3e-3, 1e-3, 1e-2),
    alpha=0.1,
    alpha_max=0.3,
    train_alpha=True,
    alpha_entropy=0.1,
    train_alpha_entropy=True,
    **targets,
  )
  an_agent.train(3 * CHUNK)
  np.testing.assert_allclose([an_agent.alpha, an_agent.alpha_entropy], want)
  logged = an_agent.train(CHUNK)
  np.testing.assert_allclose([logged[x] for x in ('alpha', 'alpha_entropy')], want)


# The same of SAC and BC.


def test_sac_trains_its_temperature_to_the_target_entropy(tmp_path):
  temperature = 0.2

  def peak(a):
    return -4 * (a - 0.2) ** 2

  def best_soft(reward):
    return best(lambda pi: expectation(reward, pi, 1.0) + temperature * entropy(pi, 1.0))

  pi, before = best_soft(peak), best_soft(np.zeros_like)
  world = World([State(WIDE, peak), State(WIDE, following=LAST)], 1.0, tmp_path)
  target = (entropy(pi, 1.0) + entropy(before, 1.0)) / 2  # the mean over the data's states
  an_agent = world.agent('sac', (3e-3, 3e-3, 1e-2), target_entropy=target)
  (here, _), q, τ = settle(
    an_agent, 26, world.normals, lambda x: world.q(x, BEFORE), lambda x: x.temperature
  )
  np.testing.assert_allclose(τ, temperature, rtol=0.2)
  np.testing.assert_allclose(here[0], pi.m, atol=0.03)
  np.testing.assert_allclose(here[1], pi.std, rtol=0.15)
  value = expectation(peak, pi, 1.0) + temperature * entropy(pi, 1.0)
  np.testing.assert_allclose(q, GAMMA * value, atol=0.05)


def test_bc_finds_the_likeliest_policy_of_its_entropy(tmp_path):
  alpha_entropy = 0.3
  # Up to a constant `E_b[log π]` is -KL(b, π).
  pi = best(lambda pi: alpha_entropy * entropy(pi, 1.0) - kl(BEHAVIOR, pi))
  world = World([State(BEHAVIOR)], 1.0, tmp_path)
  an_agent = world.agent('bc', (3e-3, 1e-2), alpha_entropy=0.5, target_entropy=entropy(pi, 1.0))
  ((normal,),) = settle(an_agent, 40, world.normals)
  np.testing.assert_allclose(normal, [pi.m, pi.std], atol=0.025)


def test_bc_finds_the_likeliest_policy(tmp_path):
  world = World([State(BEHAVIOR)], 1.0, tmp_path)
  an_agent = world.agent('bc', (3e-3,), alpha_entropy=0.0, train_alpha_entropy=False)
  ((normal,),) = settle(an_agent, 20, world.normals)
  np.testing.assert_allclose(normal, [BEHAVIOR.m, BEHAVIOR.std], atol=0.02)


# The dual divergences of policies that are known.

COMPARED = [  # π, b
  (Normal(0.3, np.log(0.4)), BEHAVIOR),
  (Normal(-1.0, np.log(0.5)), BEHAVIOR),
  (Normal(0.1, np.log(0.1)), Normal(-0.05, np.log(0.1))),
  (Normal(0.0, np.log(0.05)), Normal(0.0, np.log(0.12))),
]


@pytest.mark.parametrize('name', ['kl', 'w'])
def test_a_dual_divergence_is_what_the_slope_of_its_critic_allows(name, tmp_path):
  half, n = 10.0, len(COMPARED)
  world = World([State(b) for _, b in COMPARED], half, tmp_path)
  rates, units = (NEVER, NEVER, 3e-3, NEVER), ((8,), (n,), (64, 64))
  an_agent = world.agent('brac_dual', rates, units, divergence_name=name, c_iter=1)
  make_table(an_agent.pi, [pi for pi, _ in COMPARED])
  (got,) = settle(an_agent, 24, lambda x: [world.divergence(x, i) for i in range(n)])
  grids = [Grid(pi, b, half) for pi, b in COMPARED]
  if name == 'kl':
    true = [kl(pi, b) for pi, b in COMPARED]
    want = [grid.best_kl(gamma=5.0) for grid in grids]
    # The first pair asks for no steeper slope, the others do, the last two for much steeper ones.
    assert np.all(np.divide(want, true) > [0.99, 0.9, 0.5, 0.5])
    assert np.all(np.divide(want, true) < [1, 0.95, 0.7, 0.7])
    np.testing.assert_allclose(got, want, rtol=0.05)
  else:
    # Its penalty, which is soft, lets it exceed Wasserstein's distance.
    true = [grid.wasserstein() for grid in grids]
    assert np.all(np.greater(got, true))
    np.testing.assert_allclose(got, [grid.best_w(gamma=5.0) for grid in grids], rtol=0.1)
