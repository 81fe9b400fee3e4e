"""What the benchmark measures of this project: training, rollouts, online training, loading."""

import collections
import functools
import glob
import os
import re
import tempfile
import time
from typing import Dict, List, Tuple

import numpy as np
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from brac import (
  agents,
  checkpoints,
  data_config,
  environments,
  networks,
  policies,
  policy_loader,
  rng,
  rollouts,
)
from brac.agents.loop import Loop
from brac.data import stored
from brac.data.replay import Dataset
from brac.data.transitions import Transitions
from brac.tf_agents_bridge import BoundedTensorSpec

N_STATES, N_ACTIONS, N_TRANSITIONS = 17, 6, 1000000  # HalfCheetah's
Q, PI = (300, 300), (200, 200)
N_EPISODES, EPISODE = 20, 1000  # environments collect whole episodes, so a million is 500 of 2000

# Agent, its own parameters, model_params, batch size: the paper's. Without a warm start, in which
# no pass through Q would be needed.
CASES = {
  'bc': ('bc', {}, (PI,), 256),
  'sac': ('sac', {}, ((Q, PI), 2), 256),
  'brac_primal kl': ('brac_primal', dict(divergence_name='kl', warm_start=0), ((Q, PI), 2), 256),
  'brac_primal mmd': ('brac_primal', dict(divergence_name='mmd', warm_start=0), ((Q, PI), 2), 256),
  'brac_dual kl': ('brac_dual', dict(divergence_name='kl', warm_start=0), ((Q, PI, Q), 2), 256),
  'brac_dual w': ('brac_dual', dict(divergence_name='w', warm_start=0), ((Q, PI, Q), 2), 256),
  'bcq': ('bcq', {}, ((Q, PI, (750, 750)), 2, 0.05), 100),
}


@functools.lru_cache(maxsize=None)
def transitions() -> Transitions:
  """A million of HalfCheetah's sizes; what numbers they hold costs no time."""
  draws, n = np.random.default_rng(0), N_TRANSITIONS

  def normal(k):
    return draws.standard_normal([n, k], np.float32)

  rewards, discounts, ends = normal(1)[:, 0], np.ones(n, np.float32), np.zeros(n, np.int8)
  s1, a1, s2, a2 = normal(N_STATES), normal(N_ACTIONS), normal(N_STATES), normal(N_ACTIONS)
  return Transitions(s1, np.tanh(a1), s2, np.tanh(a2), rewards, discounts, ends)


@functools.lru_cache(maxsize=None)
def _data() -> Dataset:
  return Dataset(transitions())


@functools.lru_cache(maxsize=1)
def agent(case: str):
  """The agent of a case, compiled and warm."""
  made = make(case)
  made.train(20)
  return made


def make(case: str):
  """The agent of a case."""
  name, own, model_params, batch_size = CASES[case]
  common = dict(
    observation_spec=tf.TensorSpec([N_STATES], tf.float32),
    action_spec=BoundedTensorSpec([N_ACTIONS], tf.float32, -1, 1),
    data=_data(),
  )
  with tempfile.TemporaryDirectory() as folder:
    if name == 'brac_primal':
      clone = os.path.join(folder, 'agent_behavior')
      checkpoints.save(clone, policy=agents.load('bc')(model_params=(PI,), **common).policy)
      own = dict(own, behavior_ckpt_file=clone)
    return agents.load(name)(model_params=model_params, batch_size=batch_size, **own, **common)


def train(case: str, n: int) -> float:
  """Seconds of n training steps."""
  trained = agent(case)
  start = time.perf_counter()
  trained.train(n)
  return time.perf_counter() - start


# What the operations of a step are for, by their types; the rest is arithmetic on what they give.
_PURPOSES = {
  'ResourceApplyAdam': 'Adam',
  'ResourceGather': 'batches',
  'StatelessRandomNormalV2': 'random numbers',
}


def profile(case: str, n: int) -> Dict[str, float]:
  """What part of the time of all cores n training steps spend on what, by TensorFlow's profiler."""
  trained, spent = agent(case), collections.Counter()
  with tempfile.TemporaryDirectory() as folder:
    with tf.profiler.experimental.Profile(folder):
      start = time.perf_counter()
      trained.train(n)
      total = (time.perf_counter() - start) * len(os.sched_getaffinity(0))
    (path,) = glob.glob(f'{folder}/plugins/profile/*/*.xplane.pb')
    with open(path, 'rb') as f:
      space = xplane_pb2.XSpace.FromString(f.read())
  for plane in space.planes:
    for line in plane.lines:
      for event in line.events:
        # An operation's event is called name:type.
        _, colon, kind = plane.event_metadata[event.metadata_id].name.partition(':')
        if colon and re.fullmatch(r'\w+', kind):
          what = 'products' if kind.endswith('MatMul') else _PURPOSES.get(kind, 'elementwise')
          spent[what] += event.duration_ps / 1e12
  shares = {what: seconds / total for what, seconds in spent.most_common()}
  return {**shares, 'scheduling and waiting': 1 - sum(shares.values())}


def products(case: str) -> List[Tuple[int, int, int, bool, bool]]:
  """The matrix products of a training step, read off its graph: m, k, n and what is transposed."""
  graph = make(case).loop._plain_loop.get_concrete_function().graph
  loop = next(op for op in graph.get_operations() if op.type in ('While', 'StatelessWhile'))
  body = graph._get_function(loop.get_attr('body').name).graph
  # What nothing depends on never runs.
  needed, todo = set(), [t.op for t in body.outputs] + list(body.control_outputs)
  while todo:
    op = todo.pop()
    if op not in needed:
      needed.add(op)
      todo += [t.op for t in op.inputs] + list(op.control_inputs)
  # A critic's part of the rows, in the passes that take only those whose value is its, varies from
  # step to step; together they are the batch.
  part = CASES[case][3] // 2
  found = []
  for op in needed:
    if op.type == 'MatMul':
      flips = op.get_attr('transpose_a'), op.get_attr('transpose_b')
      (a, b), (c, d) = ([part if n is None else n for n in t.shape.as_list()] for t in op.inputs)
      found.append((*((b, a) if flips[0] else (a, b)), c if flips[1] else d, *flips))
  return sorted(found)


def is_shipped(env_name: str) -> bool:
  """Whether there is a policy to measure with."""
  return checkpoints.exists(data_config.shipped_policy(env_name))


@functools.lru_cache(maxsize=None)
def policy(env_name: str, name: str) -> policies.Policy:
  """Of the shipped policy its samples, or what an evaluation runs: 'main' or 'max_q'."""
  env, path = environments.make_batch(env_name, 1, 0), data_config.shipped_policy(env_name)
  specs, n_states = (env.observation_spec, env.action_spec), env.observation_spec.shape[0]
  box = networks.Box.of(env.action_spec)
  actor = policy_loader.load_actor(path, n_states, box, 'policy')
  if name == 'max_q':
    return policies.MaxQPolicy(
      *specs, actor, networks.Critic(n_states, box.n_actions, Q, rng.Rng(0))
    )
  return policies.ActorPolicy(*specs, actor, mode=name == 'main')


def collect(env_name: str, n: int, seed: int) -> Tuple[float, Transitions]:
  """Seconds in which n transitions are collected with the policy's samples, and these."""
  collection = _collection(env_name, n, seed)
  return _fill(collection), collection.transitions


def _collection(env_name: str, n: int, seed: int) -> rollouts.Collection:
  samples = policy(env_name, 'samples')
  n_states = samples.time_step_spec.observation.shape[0]
  rows = Transitions.zeros(n, n_states, samples.action_spec.shape[0])
  return rollouts.Collection(env_name, samples, rows, seed, n // EPISODE)


def _fill(collection: rollouts.Collection) -> float:
  """Seconds in which a collection is done."""
  start = time.perf_counter()
  while collection.advance(20):
    pass
  return time.perf_counter() - start


def profile_collection(env_name: str, n: int) -> Dict[str, float]:
  """What part of the time of a collection is physics, the policy's calls, and all else."""
  collection, spent = _collection(env_name, n, 0), collections.Counter()

  def timed(what, function):
    def call(*args):
      start = time.perf_counter()
      result = function(*args)
      spent[what] += time.perf_counter() - start
      return result

    return call

  rollout = collection._rollout
  rollout._act = timed('policy', rollout._act)
  rollout._env._simulation._simulate = timed('physics', rollout._env._simulation._simulate)
  total = _fill(collection)
  shares = {what: spent[what] / total for what in ('physics', 'policy')}
  return {**shares, 'all else': 1 - sum(shares.values())}


@functools.lru_cache(maxsize=None)
def _evaluator(env_name: str, names: Tuple[str, ...]) -> rollouts.Evaluator:
  evaluated = {name: policy(env_name, name) for name in names}
  return rollouts.Evaluator(env_name, evaluated, N_EPISODES, 0)


def evaluate(env_name: str, names: Tuple[str, ...], step: int) -> Tuple[float, int]:
  """Seconds of an evaluation of policies, and the environments' steps in it."""
  evaluator = _evaluator(env_name, names)
  start = time.perf_counter()
  evaluator.run(step)
  return time.perf_counter() - start, evaluator.n_steps


class _Online:
  """SAC in HalfCheetah, with a replay buffer of a million."""

  def __init__(self):
    self.rollout = rollouts.OnlineRollout('HalfCheetah-v2', N_TRANSITIONS, 0)
    specs = self.rollout.observation_spec, self.rollout.action_spec
    agent = agents.load('sac')(
      observation_spec=specs[0], action_spec=specs[1], data=self.rollout.data,
      model_params=((Q, PI), 2),
    )  # fmt: skip
    acting = agent.acting_policy()
    self.loop = Loop(agent, lambda draws: self.rollout.advance(acting, draws))
    self.rollout.explore(10000)
    self.loop.train(20)


@functools.lru_cache(maxsize=None)
def _online() -> _Online:
  return _Online()


def train_online(n: int) -> float:
  """Seconds of n steps of SAC online: a step of the environment, then one of training."""
  online = _online()
  start = time.perf_counter()
  online.loop.train(n)
  return time.perf_counter() - start


def explore(n: int) -> float:
  """Seconds of n steps of that environment alone, stored, with uniform actions."""
  online = _online()
  start = time.perf_counter()
  online.rollout.explore(n)
  return time.perf_counter() - start


def save_data(path: str) -> Dict[str, float]:
  """Saves a million transitions; their bytes."""
  checkpoints.save(path, data=_data())
  return sum(values.nbytes for values in transitions())


def load_data(path: str) -> Tuple[float, int]:
  """Seconds in which a dataset is loaded, and by how many bytes that makes the process grow."""
  before = _peak_memory()
  start = time.perf_counter()
  data = Dataset(stored.load(path, N_STATES, N_ACTIONS))
  seconds = time.perf_counter() - start
  assert data.size == N_TRANSITIONS
  return seconds, _peak_memory() - before


def _peak_memory() -> int:
  with open('/proc/self/status', encoding='utf-8') as f:
    return 1024 * int(next(line.split()[1] for line in f if line.startswith('VmHWM')))
