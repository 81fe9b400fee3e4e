"""The clone of the behavior policy that an agent compares with: where it is found, whether it fits.

A clone is of some data. Beside one that a run leaves, `agent_behavior.json` tells of which, and how
likely they are to it; the manifest tells it of those that are shipped.
"""

import json
import os
from typing import Callable, NamedTuple, Optional, Sequence

import gin
import numpy as np
import tensorflow as tf
from absl import logging

from brac import checkpoints, files, policy_loader, results
from brac.data.transitions import Transitions, fingerprint
from brac.data_config import project_folder
from brac.errors import UserError
from brac.networks import ACTION_MARGIN, Actor, Box

_N_ROWS = 20_000  # that a likelihood is measured on
# How far the mean of log b(a|s) may be from what it was on the clone's own data, in nats for each
# number of an action. Data of the same policies differ by 0.03, eps3 from eps1 by 0.2 to 0.3.
_TOLERANCE = 0.2


class Origin(NamedTuple):
  """What a clone tells of the data that it was cloned from; None where it does not."""

  data: Optional[str] = None  # their fingerprint
  mean_log_likelihood: Optional[float] = None  # of their actions, in nats


class Data(NamedTuple):
  """Data that a clone may be of."""

  fingerprint: str
  s: np.ndarray  # [n, S], of rows from everywhere
  a: np.ndarray  # [n, A]

  @classmethod
  def of(cls, rows: Transitions) -> 'Data':
    """What is asked of the transitions that a run uses."""
    n = len(rows.reward)
    some = np.linspace(0, n - 1, min(n, _N_ROWS)).astype(int)
    return cls(fingerprint(rows), rows.s1[some], rows.a1[some])

  def mean_log_likelihood(self, b: Actor) -> float:
    """`E[log b(a|s)]`, in nats, of actions clipped into the box as they are for cloning."""
    log_b = b(tf.constant(self.s)).log_prob(tf.constant(self.a), ACTION_MARGIN)
    return float(tf.reduce_mean(log_b))


class Lookup(NamedTuple):
  """Where a new run looks for a clone, the nearest first, and the command that makes one."""

  places: Sequence[str]
  command: str


def places(agent: str, root_dir: str, data: str, sub_dir: str, seed: int) -> list[str]:
  """Where a clone may be, the nearest to the run first.

  The user's own come before the shipped ones; then the run's own `sub_dir` before 0, and its own
  seed before 0.

  Args:
    agent: the folder of the agent that leaves it.
    root_dir: where runs are kept.
    data: what was cloned, `{ENV}/{DATA_NAME}/n{N_TRAIN}`.
    sub_dir: the run's.
    seed: the run's.
  """
  paths = (
    os.path.join(os.path.abspath(root), data, agent, folder, str(number), 'agent_behavior')
    for root in (root_dir, project_folder('trained_policies'))
    for folder in (sub_dir, '0')
    for number in (seed, 0)
  )
  return list(dict.fromkeys(paths))


def is_shipped(path: str) -> bool:
  """Whether a clone is among the shipped policies, and not of a run of the user's."""
  return path.startswith(os.path.join(project_folder('trained_policies'), ''))


def save(path: str, data: Data, **objects) -> None:
  """Saves what an agent leaves, and beside a policy of the data what data that is of."""
  checkpoints.save(path, **objects)
  policy = objects.get('policy')
  if isinstance(policy, Actor):
    origin = Origin(data.fingerprint, round(data.mean_log_likelihood(policy), 4))
    with files.writing(os.path.dirname(path)):
      files.write_text(path + '.json', json.dumps(origin._asdict()) + '\n')


def origin(path: str) -> Origin:
  """What the clone at a path tells of its data.

  Raises:
    UserError: it cannot be read.
  """
  shipped = project_folder('trained_policies')
  for file, keys in (
    (path + '.json', ()),
    (
      os.path.join(shipped, 'MANIFEST.json'),
      ('policies', os.path.relpath(path, shipped), 'origin'),
    ),
  ):
    try:
      with open(file, encoding='utf-8') as f:
        found = json.load(f)
      for key in keys:
        found = found[key]
      return Origin(**found)
    except (FileNotFoundError, NotADirectoryError, KeyError):
      pass
    except (OSError, ValueError, TypeError) as error:
      raise UserError(f'{file} does not tell of a clone: {error}') from error
  return Origin()


def bind(
  parameter: str,
  n_states: int,
  box: Box,
  own: Sequence[str],
  search: Optional[Lookup] = None,
  data: Optional[Data] = None,
) -> None:
  """Binds the parameter of an agent that takes a clone's path to the clone that its run is to have.

  A run that goes on has its clone in its own saves. A new one has the one that gin names, or the
  nearest; a shipped one only if it is of the run's data, or finds them as likely as its own.

  Args:
    parameter: as gin users bind it.
    n_states: the numbers of a state.
    box: the actions.
    own: where the run may have been saved.
    search: where a new run looks, if it does.
    data: what the clone should be of.

  Raises:
    UserError: there is none to take; or gin names another than the run was begun with.
  """
  named = _named(parameter)

  def load(path: str) -> Actor:
    return policy_loader.load_clone(path, n_states, box)

  is_there = isinstance(named, str) and checkpoints.exists(policy_loader.expanded(named))
  kept = _kept(own, load)
  if kept and is_there:
    if not _equal(load(named), load(kept)):
      raise UserError(
        f'{kept} is of a run that was begun with another clone than {named}: leave {parameter} '
        'out to go on with its own, or choose another --sub_dir'
      )
  elif kept:
    if named is not None:
      logging.warning('%s is gone: the run goes on with the clone in its own save', named)
    logging.info('the behavior policy is the one that the run was begun with, in %s', kept)
    _bind(parameter, kept)
  elif is_there and data:
    _compare(policy_loader.expanded(named), load(named), data)
  elif named is None and search:
    path = _nearest(parameter, search, load, data)
    logging.info('the behavior policy is %s', path)
    if results.is_half_trained(os.path.dirname(path)):
      logging.warning('the run that trains the behavior policy has not come to its end')
    _bind(parameter, path)


_found: dict[str, str] = {}  # what was bound here: a later run in this process looks for its own


def _named(parameter: str) -> object:
  """What the user binds a parameter to; None where it is not bound."""
  try:
    value = gin.query_parameter(parameter)
  except ValueError:
    return None
  return None if value == _found.get(parameter) else value


def _bind(parameter: str, path: str) -> None:
  _found[parameter] = path
  with gin.unlock_config():
    gin.bind_parameter(parameter, path)


def _kept(own: Sequence[str], load: Callable[[str], Actor]) -> Optional[str]:
  """The first of a run's saves, or of the saves before, that is whole and has a clone in it."""
  for path in (path + kind for path in own for kind in ('', '.old')):
    try:
      if os.path.exists(path + '.index') and _has_clone(path):
        load(path)
        return path
    except UserError:
      pass  # whoever goes on from it says what is wrong
  return None


def _has_clone(path: str) -> bool:
  return bool(checkpoints.Reader(path).layers(f'{policy_loader.KEPT_CLONE}/_layers'))


def _equal(a: Actor, b: Actor) -> bool:
  both = [[v.numpy() for v in actor.variables] for actor in (a, b)]
  return len(both[0]) == len(both[1]) and all(map(np.array_equal, *both))


def _nearest(
  parameter: str, search: Lookup, load: Callable[[str], Actor], data: Optional[Data]
) -> str:
  """The first clone that is there and, of those that are shipped, fits the data."""
  unfit = ''
  for path in filter(checkpoints.exists, search.places):
    if not data or _compare(path, load(path), data) or not is_shipped(path):
      return path
    unfit = f' that fits, {path} being of other data'
  raise UserError(
    f'{parameter} is not set, and there is no clone of the behavior policy at '
    f'{" or ".join(search.places)}{unfit}; this makes one: {search.command}'
  )


def _compare(path: str, b: Actor, data: Data) -> bool:
  """Says how likely data are to a clone, and warns of others than its own; whether it fits them."""
  theirs, here = origin(path), data.mean_log_likelihood(b)
  its_own = theirs.mean_log_likelihood
  likelihood = f'the mean of log b(a|s) is {here:.2f} here'
  if its_own is not None:
    likelihood += f', {its_own:.2f} on its own data'
  uniform = -float(np.sum(np.log(2 * b.box.mags)))
  fits = its_own is None or abs(here - its_own) <= _TOLERANCE * b.box.n_actions
  if theirs.data == data.fingerprint or (theirs.data is None and fits and here >= uniform):
    logging.info('the behavior policy: %s', likelihood)
    return True
  if here < uniform:
    likelihood += f', {uniform:.2f} for uniform actions'
  if theirs.data is not None:
    what = 'was cloned from other data than the run has (another --data_sub_dir, or collected anew)'
  else:
    what = 'does not fit these data' if fits else 'does not fit these data as it does its own'
  logging.warning('the behavior policy %s %s: %s', path, what, likelihood)
  return fits and here >= uniform
