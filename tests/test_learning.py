"""The agents learn the right answer: trained for seconds on made data whose answer is known.

Each world below is a handful of states with one action, in which the data's actions are those of a
tanh-normal policy b that is known. What the best policy of the agents' class and its value are
follows from quadrature over that one action. The tests train through the agents' public API, and
compare.

The tolerances: what is compared is a mean over the second half of a training, in which the policy
and the critics swing about their answers, by the learning rate and by the noise of the batches.
Each tolerance is at least four times the largest deviation that three seeds had, or, where that
would be narrower than what a change of the machine's arithmetic may do, wider. All are far from
what a wrong loss gives: with a sign flipped, α or γ forgotten, or a network that is never trained
or moved, the numbers are off by several tolerances.
"""

import functools
import statistics
from typing import Callable, NamedTuple, Optional

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from brac import checkpoints
from brac.agents import AGENTS
from brac.dataset import Dataset, Transitions
from brac.networks import Actor, Box
from brac.rng import Rng

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
  """Two policies π and b on a grid, with the density of â, drawn uniformly between their actions."""

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
    """`E[c(a_π) - c(a_b)]` of the critic that maximises it less the gradient penalty.

    With `p = P(a_π > x) - P(a_b > x)`, ρ the density of â and s the slope of c it is the integral
    of `p s`, and the penalty that of `γ ρ max(|s| - 1, 0)²`: s is p's sign times
    `1 + |p| / (2 γ ρ)`.
    """
    p = np.abs(np.cumsum(self.b - self.pi)[:-1])
    return (p * self.steps) @ (1 + p * self.steps / (2 * gamma * self.between))

  def best_kl(self, gamma: float) -> float:
    """`E[log softplus(c(a_π))] + 1 - E[softplus(c(a_b))]` of the critic that maximises it less the
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
    """An agent of that name on the world's data; `rates`: of each of its optimisers."""
    n = len(self.states)
    given = dict(
      observation_spec=tensor_spec.BoundedTensorSpec([n], tf.float32, 0, 1),
      action_spec=tensor_spec.BoundedTensorSpec([1], tf.float32, -self.half, self.half),
      data=Dataset(self.rows),
      model_params=units if name == 'bc' else (units, 2),
      optimizers=tuple(('adam', rate) for rate in rates),
      batch_size=64 * n,
      update_rate=0.1,
      discount=GAMMA,
    )
    if name.startswith('brac'):
      given['warm_start'] = 0
    if name == 'brac_primal':
      given['behavior_ckpt_file'] = path = str(self.folder / 'agent_behavior')
      b = Actor(n, (n,), Box.of(given['action_spec']), Rng(0))
      checkpoints.save(path, policy=make_table(b, [state.b for state in self.states]))
    return AGENTS[name](**{**given, **parameters})

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
  State(WIDE, lambda a: np.full_like(a, 1.0)),
  State(WIDE, lambda a: np.full_like(a, -1.0)),
  State(WIDE, lambda a: np.full_like(a, 2.0)),
  State(WIDE, following=ONE),
  State(WIDE, lambda a: np.full_like(a, 1.0), following=TIME_LIMIT),
  State(NARROW, lambda a: SLOPE * a),
  State(WIDE, following=GROWING),
]
PHI = 0.2  # how far bcq may move an action
# α times the slope that D can have is above the reward's. That of mmd's kernel is about 2 / 20.
AGENT_OF = {
  'sac': ('sac', (3e-3, 3e-3, NEVER), {}),
  'bcq': ('bcq', (3e-3,), dict(n_action_samples=4, model_params=(((32, 32),), 2, PHI))),
  'kl': ('brac_primal', (3e-3,), dict(alpha=10.0)),
  'mmd': ('brac_primal', (3e-3,), dict(alpha=100.0, divergence_name='mmd')),
  'kl dual': ('brac_dual', (3e-3,), dict(alpha=10.0, c_iter=1)),
  'w': ('brac_dual', (3e-3,), dict(alpha=10.0, divergence_name='w', c_iter=1)),
}


class Learned(NamedTuple):
  """What an agent learned in the chain of states."""

  agent: object
  q: np.ndarray  # [S, k], of each critic
  chosen: np.ndarray  # actions of the policy in the state where rewards grow, [N_ROWS]
  data: np.ndarray  # the data's there, [N_ROWS]


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
  """`learned(name)`: what the agent of that name learned, trained once for all tests."""

  @functools.cache
  def train(name):
    world = World(CHAIN, 1.0, tmp_path_factory.mktemp('chain'))
    agent_name, rates, parameters = AGENT_OF[name]
    if 'brac' in agent_name:
      parameters = dict(parameters, value_penalty=False)
    an_agent = world.agent(agent_name, rates, **parameters)
    s, a = world.at(GROWING)
    q, chosen = settle(
      an_agent,
      18,
      lambda x: [world.q(x, i) for i in range(len(CHAIN))],
      lambda x: x.policies()['main'].act(s, Rng(0, step=x.step)),
    )
    return Learned(an_agent, q, chosen, np.array(a))

  return train


def most_entropy() -> float:
  """The most that a policy can have in the box of the chain, which SAC is paid for (at τ = 1)."""
  return entropy(best(lambda pi: entropy(pi, 1.0)), 1.0)


@pytest.mark.parametrize('name', AGENT_OF)
@pytest.mark.parametrize('state, reward', [(ONE, 1.0), (MINUS_ONE, -1.0), (TWO, 2.0)])
def test_before_a_terminal_q_is_the_reward(name, state, reward, learned):
  np.testing.assert_allclose(learned(name).q[state], reward, atol=0.05)


@pytest.mark.parametrize('name', AGENT_OF)
def test_two_steps_before_a_reward_q_is_gamma(name, learned):
  bonus = most_entropy() if name == 'sac' else 0.0
  np.testing.assert_allclose(learned(name).q[TWO_STEPS], GAMMA * (1 + bonus), atol=0.05)


@pytest.mark.parametrize('name', AGENT_OF)
def test_at_a_time_limit_q_goes_on(name, learned):
  bonus = most_entropy() if name == 'sac' else 0.0
  want = (1 + GAMMA * bonus) / (1 - GAMMA)
  np.testing.assert_allclose(learned(name).q[TIME_LIMIT], want, rtol=0.05)


@pytest.mark.parametrize('name', AGENT_OF)
def test_where_rewards_grow_outside_the_data_all_but_sac_stay(name, learned):
  _, _, chosen, data = learned(name)
  print('away', name, (chosen.mean() - data.mean()) / data.std(), chosen.mean(), data.max())
  if name == 'sac':
    assert chosen.mean() > data.max()
  else:
    assert abs(chosen.mean() - data.mean()) < 2 * data.std()


def test_bcq_moves_what_it_models_as_far_as_it_may(learned):
  # Its VAE, in which a latent that says nothing is cheapest for data so narrow, gives their mean.
  an_agent, q, chosen, data = learned('bcq')
  m,l=an_agent.vae.encode(tf.one_hot([GROWING]*N_ROWS,len(CHAIN)),data)
  print('vae',np.mean(m,0),np.std(m,0),np.mean(l,0))
  a = data.mean() + PHI
  print(chosen.mean(),a, q[BEFORE_GROWING],GAMMA*SLOPE*a)
  np.testing.assert_allclose(chosen, a, atol=0.05)
  np.testing.assert_allclose(q[BEFORE_GROWING], GAMMA * SLOPE * a, atol=0.2)


# BRAC's closed form: `π(a) ∝ b(a) exp(Q(a) / α)`, or what in the policy's class comes nearest.

LAST, BEFORE = 0, 1
BEHAVIOR = Normal(-0.2, np.log(0.6))
# So wide that no D here needs a critic steeper than the gradient penalty lets it be.
HALF = 20.0
ALPHAS = {'large': 5.0, 'middle': 1.0, 'small': 0.3}


def hill(a):
  """A reward with its best at 5, where few of the data's actions are."""
  return -(((a - 10) / 12) ** 2)


@pytest.fixture
def one_step(tmp_path):
  """A state with the hill's reward, terminal, and one that leads to it."""
  return World([State(BEHAVIOR, hill), State(BEHAVIOR, following=LAST)], HALF, tmp_path)


def best_regularized(alpha, alpha_entropy=0.0, reward=hill):
  """The policy that is the best of its class: its Normal, `E[r]`, D and entropy."""

  def objective(pi):
    d, h = kl(pi, BEHAVIOR), entropy(pi, HALF)
    return expectation(reward, pi, HALF) - alpha * d + alpha_entropy * h

  pi = best(objective)
  return pi, expectation(reward, pi, HALF), kl(pi, BEHAVIOR), entropy(pi, HALF)


RATES = {'brac_primal': (3e-3, 1e-3, 1e-2), 'brac_dual': (3e-3, 1e-3, 3e-3, 1e-2)}


@pytest.mark.parametrize('size', ALPHAS)
@pytest.mark.parametrize('name', RATES)
def test_brac_finds_the_best_policy_of_its_closed_form(name, size, one_step):
  # The penalty lowers the value of the state before, but not with value_penalty=False.
  alpha, penalized = ALPHAS[size], size != 'middle'
  an_agent = one_step.agent(name, RATES[name], alpha=alpha, value_penalty=penalized)
  import time; t=time.process_time()
  normals, d, q = settle(
    an_agent,
    22,
    one_step.normals,
    lambda x: one_step.divergence(x, LAST),
    lambda x: one_step.q(x, BEFORE),
  )
  pi, reward, want_d, _ = best_regularized(alpha)
  print(name, size, time.process_time()-t, 'm,std', normals[LAST], (pi.m, pi.std), 'D', d, want_d, 'Q', q, GAMMA*(reward-alpha*want_d), GAMMA*reward, 'before', normals[BEFORE])
  m, std = normals[LAST]
  np.testing.assert_allclose(m, pi.m, atol=0.05)
  np.testing.assert_allclose(std, pi.std, rtol=0.1)
  np.testing.assert_allclose(d, want_d, rtol=0.1)
  np.testing.assert_allclose(q, GAMMA * (reward - penalized * alpha * want_d), atol=0.05)
  # There Q is the same for all actions, and D alone says what is best.
  np.testing.assert_allclose(normals[BEFORE], [BEHAVIOR.m, BEHAVIOR.std], atol=0.05)


def test_brac_trains_its_multipliers_to_their_targets(one_step):
  alpha, alpha_entropy = 0.6, 0.3
  pi, reward, d, h = best_regularized(alpha, alpha_entropy)
  before, _, d_before, h_before = best_regularized(alpha, alpha_entropy, np.zeros_like)
  an_agent = one_step.agent(
    'brac_primal',
    (3e-3, 2e-3, 3e-3),
    alpha=0.9,
    train_alpha=True,
    target_divergence=(d + d_before) / 2,
    alpha_entropy=0.5,
    train_alpha_entropy=True,
    target_entropy=(h + h_before) / 2,
  )
  got = settle(an_agent,30,one_step.normals,lambda x: one_step.divergence(x, LAST),lambda x: one_step.q(x, BEFORE), lambda x: [x.alpha,x.alpha_entropy])
  print(got, pi.m,pi.std,before, d,h,GAMMA*(reward-alpha*d+alpha_entropy*h))


# The other agents' closed forms.


def test_sac_trains_its_temperature_to_the_target_entropy(tmp_path):
  temperature = 0.2

  def peak(a):
    return -4 * (a - 0.2) ** 2

  def best_soft(reward):
    return best(lambda pi: expectation(reward, pi, 1.0) + temperature * entropy(pi, 1.0))

  world = World([State(WIDE, peak), State(WIDE, following=LAST)], 1.0, tmp_path)
  pi, before = best_soft(peak), best_soft(np.zeros_like)
  h = entropy(pi, 1.0)
  an_agent = world.agent('sac', (3e-3, 3e-3, 1e-2), target_entropy=(h + entropy(before, 1.0)) / 2)
  import time; c=time.process_time()
  normals, q, τ = settle(
    an_agent, 26, world.normals, lambda x: world.q(x, BEFORE), lambda x: x.temperature
  )
  print(normals, q, τ, pi, pi.std, before, before.std, GAMMA*(expectation(peak,pi,1.0)+temperature*h),time.process_time()-c)


def test_bc_finds_the_likeliest_policy_of_its_entropy(tmp_path):
  alpha_entropy = 0.3
  world = World([State(BEHAVIOR)], 1.0, tmp_path)
  # Up to a constant `E_b[log π]` is -KL(b, π).
  pi = best(lambda pi: alpha_entropy * entropy(pi, 1.0) - kl(BEHAVIOR, pi))
  an_agent = world.agent('bc', (3e-3, 1e-2), alpha_entropy=0.6, target_entropy=entropy(pi, 1.0))
  normals, trained = settle(an_agent, 26, world.normals, lambda x: x.alpha_entropy)
  print(normals, trained, pi, pi.std)
  an_agent = world.agent('bc', (3e-3, 3e-3), alpha_entropy=0.0, train_alpha_entropy=False)
  print(settle(an_agent,36,world.normals))


# The dual divergences of known policies.

COMPARED = [Normal(0.3, np.log(0.4)), Normal(-1.0, np.log(0.5)), Normal(0.0, np.log(0.55))]


@pytest.mark.parametrize('divergence_name, half', [('kl', 10.0), ('kl', 1.0), ('w', 1.0)])
def test_a_dual_estimate_is_what_the_slope_of_its_critic_allows(divergence_name, half, tmp_path):
  world = World([State(BEHAVIOR)] * len(COMPARED), half, tmp_path)
  an_agent = world.agent(
    'brac_dual', (NEVER, NEVER, 3e-3, NEVER), ((8,), (len(COMPARED),), (64, 64)), divergence_name=divergence_name, c_iter=1
  )
  make_table(an_agent.pi, COMPARED)
  import time; c=time.process_time()
  got=settle(an_agent,24,lambda x: [world.divergence(x,i) for i in range(len(COMPARED))])
  g=[Grid(pi,BEHAVIOR,half) for pi in COMPARED]
  print(got, [(x.best_kl(5.0),kl(pi,BEHAVIOR)) if divergence_name=='kl' else (x.best_w(5.0),x.wasserstein()) for x,pi in zip(g,COMPARED)], time.process_time()-c)
