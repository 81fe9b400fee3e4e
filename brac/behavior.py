"""The policy that collected the data, where a source holds it, and how far a clone is from it."""

import os
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf
from absl import logging

from brac import checkpoints, policy_loader
from brac.data import provenance, stored
from brac.data.source import StoredPolicy
from brac.data.transitions import Transitions
from brac.errors import UserError
from brac.networks import ACTION_MARGIN, Actor, Box
from brac.rng import INIT, Rng
from brac.tf_agents_bridge import BoundedTensorSpec

NAME = 'agent_behavior'  # beside the data: the policy that collected it, where that is known
LOG_STD_CLIP = (-20.0, 2.0)  # rlkit's, which D4RL's policies were trained by
_BATCH = 10000


def make_actor(policy: StoredPolicy) -> Actor:
  """The actor that D4RL's `metadata/policy` describes, for actions in [-1, 1].

  Raises:
    UserError: it is another kind of policy than this project has.
  """
  words = {name: policy.arrays.get(name) for name in ('nonlinearity', 'output_distribution')}
  if words != {'nonlinearity': 'relu', 'output_distribution': 'tanh_gaussian'}:
    raise UserError(f'it is a policy of {words}; taken are relu and tanh_gaussian')
  try:  # PyTorch's own order first
    layers = _layers(policy, transposed=True)
  except UserError as error:
    try:
      layers = _layers(policy, transposed=False)
    except UserError:
      raise error from None
  n_actions = policy.a.shape[1]
  box = Box.of(BoundedTensorSpec([n_actions], tf.float32, -1, 1))
  units = [kernel.shape[1] for kernel, _ in layers[:-1]]
  actor = Actor(policy.s.shape[1], units, box, Rng(0, INIT), LOG_STD_CLIP)
  for variables, (kernel, bias) in zip(actor._layers, layers):
    variables.kernel.assign(kernel)
    variables.bias.assign(bias)
  return actor


def _layers(policy: StoredPolicy, transposed: bool) -> list[Sequence[np.ndarray]]:
  """Kernels `[n_in, n_out]` and biases, which a source has all transposed or none.

  A square one does not tell, but another does, unless states, layers and actions are all as wide.
  """
  layers, n_in = [], policy.s.shape[1]
  while f'fc{len(layers)}/weight' in policy.arrays:
    layers.append(_layer(policy, f'fc{len(layers)}', n_in, transposed))
    n_in = layers[-1][0].shape[1]
  heads = [_layer(policy, name, n_in, transposed) for name in ('last_fc', 'last_fc_log_std')]
  if any(kernel.shape[1] != policy.a.shape[1] for kernel, _ in heads):
    raise UserError('its last layers are not as wide as the actions')
  return [*layers, [np.concatenate(parts, axis=-1) for parts in zip(*heads)]]


def _layer(
  policy: StoredPolicy, name: str, n_in: int, transposed: bool
) -> tuple[np.ndarray, np.ndarray]:
  try:
    weight, bias = (
      np.asarray(policy.arrays[f'{name}/{x}'], np.float32) for x in ('weight', 'bias')
    )
  except (KeyError, ValueError, TypeError):
    raise UserError(f'it has no {name}/weight and {name}/bias of numbers') from None
  if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
    raise UserError(f'its {name}/weight and {name}/bias are not all finite')
  kernel = weight.T if transposed else weight
  if kernel.shape == (n_in, *bias.shape):
    return kernel, bias
  raise UserError(f'its {name}/weight is {list(weight.shape)}, where {n_in} numbers go in')


def keep(policy: StoredPolicy, path: str, box: Optional[tuple[np.ndarray, np.ndarray]]) -> str:
  """Saves the policy that collected some data; returns what is to be said of that.

  Args:
    policy: as the source has it.
    path: where it goes.
    box: the smallest and the largest actions of the environment, where they are known.
  """
  if box and not all((np.abs(bound) == 1).all() for bound in box):
    return 'not kept: its actions are in [-1, 1], those of the environment are not'
  try:
    actor = make_actor(policy)
  except UserError as error:
    logging.warning('the policy that collected the data is not kept: %s', error)
    return f'not kept: {error}'
  checkpoints.save(path, policy=actor)
  if policy.log_prob is None:
    logging.info('the policy that collected the data is at %s', path)
    return NAME
  inside = (np.abs(policy.a) < 0.99).all(-1)  # where the margins of neither count
  gap = log_densities(actor, policy.s, policy.a)[inside] - policy.log_prob[inside]
  apart = float(np.abs(gap).mean()) if inside.any() else float('nan')
  if apart > 0.1:
    logging.warning('its log-densities are %.2g from the infos/action_log_probs of the data', apart)
  logging.info(
    'the policy that collected the data is at %s; its log-densities are %.2g from those that the '
    'source tells, in the mean of %d steps',
    path,
    apart,
    np.count_nonzero(inside),
  )
  return NAME


def log_densities(actor: Actor, s: np.ndarray, a: np.ndarray) -> np.ndarray:
  """`log π(a|s)` `[N]` float64 of actions `[N, A]`, moved 1e-3 inside the box as in training."""

  @tf.function(autograph=False, reduce_retracing=True)
  def log_prob(s, a):
    return actor(s).log_prob(a, ACTION_MARGIN)

  parts = (slice(i, i + _BATCH) for i in range(0, len(s), _BATCH))
  return np.concatenate([log_prob(s[k], a[k]).numpy() for k in parts]).astype(np.float64)


class CloneError(NamedTuple):
  """What a clone lacks to be the policy that collected the data, in nats.

  Attributes:
    true: the mean of `log b(a|s)` over the data.
    clone: the mean of `log b̂(a|s)`.
    error: the mean of their difference, an estimate of `E_s KL(b‖b̂)` where b collected all of it.
    standard_error: of that mean, as if rows were independent.
  """

  true: float
  clone: float
  error: float
  standard_error: float


def clone_error(rows: Transitions, true: Actor, clone: Actor) -> CloneError:
  """Compares a clone with the true policy on the data's own states and actions."""
  of_true, of_clone = (log_densities(actor, rows.s1, rows.a1) for actor in (true, clone))
  gap = of_true - of_clone
  spread = float(gap.std()) / np.sqrt(len(gap))
  return CloneError(float(of_true.mean()), float(of_clone.mean()), float(gap.mean()), float(spread))


def compare(data_file: str, clone: str) -> str:
  """In words how far the clone at a path is from the policy that collected a dataset.

  Raises:
    UserError: one of them is not there, or does not fit.
  """
  n_states, n_actions = stored.widths(data_file)
  box = Box.of(BoundedTensorSpec([n_actions], tf.float32, -1, 1))
  true = os.path.join(os.path.dirname(data_file), 'agent_behavior')
  if provenance.read(data_file).get('behavior_policy') != os.path.basename(true):
    raise UserError(f'dataset {data_file} does not hold the policy that collected it')
  actors = (
    policy_loader.load_actor(path, n_states, box, what)
    for path, what in ((true, 'policy that collected the data'), (clone, 'clone'))
  )
  found = clone_error(stored.load(data_file, n_states, n_actions), *actors)
  return (
    f'mean of log b over the data: {found.true:.3f} nats of the policy that collected it, '
    f'{found.clone:.3f} of {clone}; their difference, which the clone costs: {found.error:.3f} ± '
    f'{found.standard_error:.3f} nats'
  )
