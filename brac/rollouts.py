"""A policy in a batch of environments: one loop, for collecting data and for evaluating alike."""

import functools
import pickle
from typing import Callable, Dict, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from brac import environments, rng
from brac.dataset import CUT_OFF, GOES_ON, TERMINAL, Dataset, Transitions
from brac.policies import Policy, RandomPolicy
from brac.rng import Rng


class Interrupted(Exception):
  """A rollout was asked to stop where there is nothing of it to keep."""


def never() -> bool:
  return False


def compiled(policies: Sequence[Policy], n: int, seed: int, stream: int) -> Callable:
  """`(states [kn, S], step) -> actions [kn, A]` of k policies, as one compiled call on arrays.

  Each policy acts in n rows.
  """
  k, n_states = len(policies), int(policies[0].time_step_spec.observation.shape[0])

  @tf.function(
    autograph=False,
    input_signature=[tf.TensorSpec([k * n, n_states], tf.float32), tf.TensorSpec([], tf.int64)],
  )
  def act(s, step):
    parts = zip(policies, tf.split(s, k))
    return tf.concat([policy.act(part, Rng(seed, stream, step)) for policy, part in parts], 0)

  act = act.get_concrete_function()
  return lambda s, step: act(tf.constant(s), tf.constant(step, tf.int64)).numpy()


class Steps(NamedTuple):
  """What k environments did in one step, for the `rows` `[k]` of the batch."""

  rows: np.ndarray
  s1: np.ndarray  # [k, S]
  a1: np.ndarray  # [k, A]
  s2: np.ndarray  # [k, S]
  a2: np.ndarray  # [k, A], taken by the same policy at s2, where an episode ends too
  reward: np.ndarray  # [k]
  end: np.ndarray  # [k], one of the codes of `environments`


class Rollout:
  """A policy at work in a batch of environments; `state` is all that its next step depends on."""

  def __init__(self, env: environments.BatchEnvironment, act: Callable):
    """Starts an episode in every environment; `act` is what `compiled` gives for the batch."""
    self._env, self._act = env, act
    self._s = env.reset()
    self._a = act(self._s, 0)
    self._ended = np.zeros(env.n, bool)
    self._step = 0

  def advance(self, active: np.ndarray) -> Steps:
    """One step of each active environment (`[n]` booleans); where an episode had ended, a reset.

    The resets are no transitions: they are not among the rows that are returned.
    """
    rows, resets = np.flatnonzero(active & ~self._ended), np.flatnonzero(active & self._ended)
    s1, a1 = self._s[rows], self._a[rows]
    s2, reward, end = self._env.step(a1, rows)
    self._s[rows] = s2
    self._s[resets] = self._env.reset(resets)
    self._ended[resets] = False
    self._ended[rows] = end != GOES_ON
    self._step += 1
    self._a = self._act(self._s, self._step)
    return Steps(rows, s1, a1, s2, self._a[rows], reward, end)

  @property
  def state(self) -> bytes:
    """A pickle."""
    return pickle.dumps((self._env.state, self._s, self._a, self._ended, self._step))

  @state.setter
  def state(self, value: bytes) -> None:
    self._env.state, self._s, self._a, self._ended, self._step = pickle.loads(value)


def seed_of(*numbers: int) -> int:
  """A seed that is a function of numbers."""
  return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class Collection:
  """Fills `transitions` with those of a policy, in many environments side by side.

  Each environment fills a stretch of rows of its own, so that consecutive rows are consecutive
  steps; where a stretch is full within an episode, the episode is marked as cut off.
  """

  def __init__(
    self, env_name: str, policy: Policy, transitions: Transitions, seed: int, n_envs: int
  ):
    n = len(transitions.reward)
    # No more environments than there are whole episodes: shorter ones would show their start alone.
    limit = environments.make_batch(env_name, 1, seed).max_episode_steps or 1
    n_envs = max(1, min(n_envs, n // limit))
    edges = np.arange(n_envs + 1) * n // n_envs
    self.transitions = transitions
    self._starts, self._stops, self._next = edges[:-1], edges[1:], edges[:-1].copy()
    act = compiled([policy], n_envs, seed, rng.ACT)
    self._rollout = Rollout(environments.make_batch(env_name, n_envs, seed), act)

  @property
  def n_done(self) -> int:
    return int(np.sum(self._next - self._starts))

  def advance(self, n_steps: int = 1) -> bool:
    """At most n steps in every environment whose stretch is not full; False when all are."""
    t = self.transitions
    for _ in range(n_steps):
      active = self._next < self._stops
      if not active.any():
        return False
      steps = self._rollout.advance(active)
      at = self._next[steps.rows]
      t.s1[at], t.a1[at], t.s2[at], t.a2[at] = steps.s1, steps.a1, steps.s2, steps.a2
      t.reward[at], t.discount[at] = steps.reward, steps.end != TERMINAL
      full = at + 1 == self._stops[steps.rows]
      t.end[at] = np.where(full & (steps.end == GOES_ON), CUT_OFF, steps.end)
      self._next[steps.rows] += 1
    return True

  @property
  def state(self) -> bytes:
    """A pickle of all but the transitions."""
    return pickle.dumps((self._rollout.state, self._next))

  @state.setter
  def state(self, value: bytes) -> None:
    self._rollout.state, self._next = pickle.loads(value)


class Evaluator:
  """Runs the episodes of an evaluation, of all policies, side by side.

  Attributes:
    n_steps: how many steps the last evaluation took.
  """

  def __init__(
    self,
    env_name: str,
    policies: Dict[str, Policy],
    n_episodes: int,
    seed: int,
    stop_requested: Callable[[], bool] = never,
  ):
    """Takes the policies by their names; without episodes there are no environments either.

    Args:
      env_name: the environment.
      policies: by their names.
      n_episodes: of each policy.
      seed: of all that is drawn.
      stop_requested: is asked before each step whether `run` is to give up.
    """
    self.names, self.n_steps = list(policies), 0
    self._env_name, self._n, self._seed = env_name, n_episodes, seed
    self._stop_requested = stop_requested
    if n_episodes:
      self._act = compiled(list(policies.values()), n_episodes, seed, rng.EVALUATE)

  def run(self, step: int) -> Dict[str, np.ndarray]:
    """The returns `[n_episodes]` of fresh episodes by policy, which all have the same start states.

    Equal seeds and steps (of the training) give equal ones.

    Raises:
      UserError: an environment failed.
      Interrupted: `stop_requested` said so.
    """
    if not self._n:
      return {name: np.zeros(0) for name in self.names}
    # Equal seeds give the policies equal starts.
    seeds = environments.row_seeds(seed_of(self._seed, rng.EVALUATE, step), self._n)
    n = self._n * len(self.names)
    env = environments.make_batch(self._env_name, n, seeds * len(self.names))
    rollout = Rollout(env, self._act)
    returns, active, self.n_steps = np.zeros(n), np.ones(n, bool), 0
    while active.any():
      if self._stop_requested():
        raise Interrupted
      steps = rollout.advance(active)
      returns[steps.rows] += steps.reward
      active[steps.rows] = steps.end == GOES_ON
      self.n_steps += len(steps.rows)
    return dict(zip(self.names, np.split(returns, len(self.names))))


class OnlineRollout:
  """An environment that a compiled loop acts in, one step at a time, and the replay data it fills.

  Attributes:
    data: the replay data.
    variables: with `data` all that its next step depends on; `hold` fills them, `take_up` reads.
  """

  def __init__(self, env_name: str, capacity: int, seed: int):
    self._env = environments.make_batch(env_name, 1, seed)
    self.observation_spec, self.action_spec = self._env.observation_spec, self._env.action_spec
    n_states, n_actions = self.observation_spec.shape[0], self.action_spec.shape[0]
    self.data = Dataset(Transitions.zeros(capacity, n_states, n_actions), size=0)
    self._seed = seed
    self._s = tf.Variable(self._env.reset())
    self._a = tf.Variable(tf.zeros([1, n_actions]))  # the action in hand
    self.variables = tf.Module()
    self.variables.s, self.variables.a = self._s, self._a
    self.variables.env = tf.Variable(b'')
    self._n_explored = self.variables.n_explored = tf.Variable(0, dtype=tf.int64)

  @property
  def n_explored(self) -> int:
    """How many transitions of uniform actions there were."""
    return int(self._n_explored)

  def explore(self, n: int) -> None:
    """Adds n transitions of uniform actions to the data."""
    self._explore(tf.constant(self.n_explored + n, tf.int64))

  @functools.cached_property
  def _explore(self) -> Callable:
    policy = RandomPolicy(self.observation_spec, self.action_spec)

    def advance(i):
      self.advance(policy, Rng(self._seed, rng.EXPLORE, i + 1))
      return i + 1

    def explore(n):
      first = self._n_explored.read_value()
      start = policy.act(self._s, Rng(self._seed, rng.EXPLORE))
      self._a.assign(tf.where(first == 0, start, self._a))
      self._n_explored.assign(tf.while_loop(lambda i: i < n, advance, [first])[0])

    return tf.function(explore, autograph=False, input_signature=[tf.TensorSpec([], tf.int64)])

  def advance(self, policy: Policy, draws: Rng) -> None:
    """Takes the action in hand, stores the transition, draws the next; to be called in a graph.

    Where an episode ends, the next begins.
    """
    s1, a1 = self._s.read_value(), self._a.read_value()
    s, reward, end = tf.numpy_function(self._step, [a1], [tf.float32, tf.float32, tf.int8])
    s = tf.ensure_shape(s, [2, s1.shape[1]])
    a2 = policy.act(s, draws)
    reward, end = tf.ensure_shape(reward, [1])[0], tf.ensure_shape(end, [1])[0]
    discount = tf.where(end == TERMINAL, 0.0, 1.0)
    self.data.add(s1[0], a1[0], s[0], a2[0], reward, discount, end)
    self._s.assign(s[1:])
    # Within an episode the next action is the very one that was stored as a'.
    self._a.assign(tf.where(end == GOES_ON, a2[:1], a2[1:]))

  def _step(self, a):
    """`s'`, then the state that the next action is taken in: another one where an episode ended."""
    s2, reward, end = self._env.step(a)
    s = s2 if end[0] == GOES_ON else self._env.reset()
    return np.concatenate([s2, s]), reward, end.astype(np.int8)

  def hold(self) -> tf.Module:
    """The variables, with the environment's state in them."""
    self.variables.env.assign(self._env.state)
    return self.variables

  def take_up(self, replay_path: str) -> None:
    """Goes on from `variables` as they were restored, and from the data at a path."""
    self._env.state = self.variables.env.numpy()
    self.data.restore(replay_path)
