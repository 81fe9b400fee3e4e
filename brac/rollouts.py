"""A policy in a batch of environments: one loop, for collecting data and for evaluating alike."""

import concurrent.futures
import functools
import pickle
from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf
from absl import logging

from brac import environments, numpy_calls, rng
from brac.data.replay import Dataset
from brac.data.transitions import CUT_OFF, GOES_ON, TERMINAL, Transitions
from brac.policies import Policy, RandomPolicy
from brac.rng import Rng

# Where an evaluation cuts the episodes of an environment that has no time limit.
LONGEST_EPISODE = 10_000
_AT_ONCE = 10  # steps of exploring between two looks at whether to stop


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
    return tf.concat([policy(part, Rng(seed, stream, step)) for policy, part in parts], 0)

  act = act.get_concrete_function()

  def call(s, step):
    with numpy_calls.errors():
      return act(tf.constant(s), tf.constant(step, tf.int64)).numpy()

  return call


class BatchStep(NamedTuple):
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

  def advance(self, active: np.ndarray) -> BatchStep:
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
    return BatchStep(rows, s1, a1, s2, self._a[rows], reward, end)

  @property
  def state(self) -> bytes:
    """A pickle."""
    return pickle.dumps((self._env.state, self._s, self._a, self._ended, self._step))

  @state.setter
  def state(self, value: bytes) -> None:
    self._env.state, self._s, self._a, self._ended, self._step = pickle.loads(value)
    self._ended[self.cut] = True
    _warn_of_cut(self._env)

  @property
  def cut(self) -> np.ndarray:
    """The rows whose episode ended because `state` was set: see `BatchEnvironment`."""
    return self._env.cut


def _warn_of_cut(env: environments.BatchEnvironment) -> None:
  if env.cut.size:
    logging.warning(
      '%s: %d of the %d episodes that were under way cannot be taken up (%s): they are cut off, '
      'and new ones begin',
      env.env_name,
      len(env.cut),
      env.n,
      env.why_cut,
    )


def seed_of(*numbers: int) -> int:
  """A seed that is a function of numbers."""
  return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class Collection:
  """Fills `transitions` with those of a policy, in many environments side by side.

  Each environment fills a stretch of rows of its own, so that consecutive rows are consecutive
  steps; where a stretch is full within an episode, the episode is marked as cut off.
  """

  def __init__(
    self,
    env_name: str,
    policy: Policy,
    transitions: Transitions,
    seed: int,
    n_envs: int,
    episode_steps: Optional[int] = None,
    saves: bool = True,
    stop_requested: Callable[[], bool] = never,
  ):
    """Begins the collection.

    Args:
      env_name: the environment.
      policy: acts in it.
      transitions: the rows to fill.
      seed: of all that is drawn.
      n_envs: how many environments there are at most.
      episode_steps: how long an episode is, for environments without a time limit of their own.
      saves: what `environments.try_out` says.
      stop_requested: is asked before each step whether `advance` is to return.
    """
    n = len(transitions.reward)
    limit = environments.described(env_name).max_episode_steps or episode_steps or n
    self.transitions = transitions
    self._env_name, self._policy, self._seed, self._saves = env_name, policy, seed, saves
    self._stop_requested = stop_requested
    # No more environments than there are whole episodes: shorter ones would show their start alone.
    self._begin(max(1, min(n_envs, n // limit)))

  def _begin(self, n_envs: int) -> None:
    edges = np.arange(n_envs + 1) * len(self.transitions.reward) // n_envs
    self._starts, self._stops, self._next = edges[:-1], edges[1:], edges[:-1].copy()
    self._env = environments.make_batch(self._env_name, n_envs, self._seed)
    self._env.saves = self._saves
    act = compiled([self._policy], n_envs, self._seed, rng.ACT)
    self._rollout = Rollout(self._env, act)

  @property
  def n_done(self) -> int:
    return int(np.sum(self._next - self._starts))

  @property
  def n_episodes(self) -> int:
    """How many episodes came to their own end so far."""
    ends = (self.transitions.end[a:b] for a, b in zip(self._starts, self._next))
    return sum(np.count_nonzero((end != GOES_ON) & (end != CUT_OFF)) for end in ends)

  def advance(self, n_steps: int = 1) -> bool:
    """At most n steps in every environment whose stretch is not full; False when all are."""
    t = self.transitions
    for _ in range(n_steps):
      active = self._next < self._stops
      if not active.any():
        return False
      if self._stop_requested():
        break
      steps = self._rollout.advance(active)
      at = self._next[steps.rows]
      t.s1[at], t.a1[at], t.s2[at], t.a2[at] = steps.s1, steps.a1, steps.s2, steps.a2
      t.reward[at], t.discount[at] = steps.reward, steps.end != TERMINAL
      full = at + 1 == self._stops[steps.rows]
      t.end[at] = np.where(full & (steps.end == GOES_ON), CUT_OFF, steps.end)
      self._next[steps.rows] += 1
    return True

  def close(self) -> None:
    """Closes the environments."""
    self._env.close()

  @property
  def state(self) -> bytes:
    """A pickle of all but the transitions, which are to be there when it is set."""
    return pickle.dumps((self._rollout.state, self._next))

  @state.setter
  def state(self, value: bytes) -> None:
    rollout, rows = pickle.loads(value)
    if len(rows) != len(self._next):
      self.close()
      self._begin(len(rows))
    self._rollout.state, self._next = rollout, rows
    last = rows[self._rollout.cut] - 1
    last = last[last >= self._starts[self._rollout.cut]]
    end = self.transitions.end
    end[last] = np.where(end[last] == GOES_ON, CUT_OFF, end[last])


class Evaluator:
  """Runs the episodes of an evaluation, of all policies, side by side.

  Attributes:
    n_steps: how many steps the last evaluation took.
    longest: the steps of its longest episode.
  """

  def __init__(
    self,
    env_name: str,
    policies: dict[str, Policy],
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
    self.names, self.n_steps, self.longest = list(policies), 0, 0
    self._env_name, self._n, self._seed = env_name, n_episodes, seed
    self._stop_requested = stop_requested
    if n_episodes:
      self._act = compiled(list(policies.values()), n_episodes, seed, rng.EVALUATE)

  def run(self, step: int) -> dict[str, np.ndarray]:
    """The returns `[n_episodes]` of fresh episodes by policy, which all have the same start states.

    Equal seeds and steps (of the training) give equal ones. Where the environment has no time
    limit, an episode is cut after `LONGEST_EPISODE` steps, which the log says.

    Raises:
      UserError: an environment failed.
      Interrupted: `stop_requested` said so.
    """
    n = self._n * len(self.names)
    returns, active, self.n_steps, self.longest = np.zeros(n), np.ones(n, bool), 0, 0
    if n:
      # Equal seeds give the policies equal starts.
      seeds = environments.row_seeds(seed_of(self._seed, rng.EVALUATE, step), self._n)
      seeds = seeds * len(self.names)
      with environments.make_batch(self._env_name, n, seeds) as env:
        self._run(env, returns, active)
    return dict(zip(self.names, np.split(returns, len(self.names))))

  def _run(self, env, returns: np.ndarray, active: np.ndarray) -> None:
    rollout = Rollout(env, self._act)
    while active.any():
      if self._stop_requested():
        raise Interrupted
      steps = rollout.advance(active)
      returns[steps.rows] += steps.reward
      active[steps.rows] = steps.end == GOES_ON
      self.n_steps += len(steps.rows)
      self.longest += 1
      if self.longest == LONGEST_EPISODE and env.max_episode_steps is None and active.any():
        logging.warning(
          '%s: %d of %d evaluated episodes have not ended after %d steps, and count as far as they '
          'came; the environment has no time limit: register it with max_episode_steps',
          self._env_name,
          np.count_nonzero(active),
          len(active),
          self.longest,
        )
        active[:] = False


class OnlineRollout:
  """An environment that a compiled loop acts in, one step at a time, and the replay data it fills.

  Attributes:
    data: the replay data.
    variables: with `data` all that its next step depends on; `hold` fills them, `take_up` reads.
  """

  def __init__(
    self, env_name: str, capacity: int, seed: int, stop_requested: Callable[[], bool] = never
  ):
    """Starts an episode.

    Args:
      env_name: the environment.
      capacity: for how many transitions there is room in the data.
      seed: of all that is drawn.
      stop_requested: is asked every few steps whether `explore` is to return.
    """
    saves = environments.try_out(env_name, seed)
    # TensorFlow calls from threads of its own, now of one and now of another. What an environment
    # is made of (a database, an event loop) may know no other thread than the one it is made in.
    self._thread = concurrent.futures.ThreadPoolExecutor(1)
    self._env = self._call(environments.make_batch, env_name, 1, seed)
    self._env.saves = saves
    self._stop_requested = stop_requested
    self.observation_spec, self.action_spec = self._env.observation_spec, self._env.action_spec
    n_states, n_actions = self.observation_spec.shape[0], self.action_spec.shape[0]
    self.data = Dataset(Transitions.zeros(capacity, n_states, n_actions), size=0)
    self._seed = seed
    self._s = tf.Variable(self._call(self._env.reset))
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
    """Adds n transitions of uniform actions to the data, or fewer where it is asked to stop."""
    end = self.n_explored + n
    while self.n_explored < end and not self._stop_requested():
      with numpy_calls.errors():
        self._explore(tf.constant(min(end, self.n_explored + _AT_ONCE), tf.int64))

  @functools.cached_property
  def _explore(self) -> Callable:
    policy = RandomPolicy(self.observation_spec, self.action_spec)

    def advance(i):
      self.advance(policy, Rng(self._seed, rng.EXPLORE, i + 1))
      return i + 1

    def explore(n):
      first = self._n_explored.read_value()
      start = policy(self._s, Rng(self._seed, rng.EXPLORE))
      self._a.assign(tf.where(first == 0, start, self._a))
      self._n_explored.assign(tf.while_loop(lambda i: i < n, advance, [first])[0])

    return tf.function(explore, autograph=False, input_signature=[tf.TensorSpec([], tf.int64)])

  def advance(self, policy: Policy, draws: Rng) -> None:
    """Takes the action in hand, stores the transition, draws the next; to be called in a graph.

    Where an episode ends, the next begins. What goes wrong in the environment arrives as it was
    raised where the graph is run within `numpy_calls.errors`.
    """
    s1, a1 = self._s.read_value(), self._a.read_value()
    types = [tf.float32, tf.float32, tf.int8]
    s, reward, end = numpy_calls.numpy_call(lambda a: self._call(self._step, a), [a1], types)
    s = tf.ensure_shape(s, [2, s1.shape[1]])
    a2 = policy(s, draws)
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
    self.variables.env.assign(self._call(lambda: self._env.state))
    return self.variables

  def take_up(self, replay_path: str) -> None:
    """Goes on from `variables` as they were restored, and from the data at a path."""
    self._call(setattr, self._env, 'state', self.variables.env.numpy())
    self.data.restore(replay_path)
    _warn_of_cut(self._env)
    if self._env.cut.size:
      self.data.cut_off()
      self._s.assign(self._call(self._env.reset))
      # The policy that acts is not known here; the data may be of any.
      policy = RandomPolicy(self.observation_spec, self.action_spec)
      self._a.assign(policy(self._s, Rng(self._seed, rng.EXPLORE, self.n_explored + 1)))

  def close(self) -> None:
    """Closes the environment."""
    self._call(self._env.close)
    self._thread.shutdown()

  def _call(self, function: Callable, *args):
    """Calls in the environment's thread."""
    return self._thread.submit(function, *args).result()
