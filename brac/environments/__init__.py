"""Environments, many copies side by side: the -v2 MuJoCo tasks, and what gym and gymnasium know.

A suite is a module with three functions: `knows(env_name)`, `make(env_name, seeds)`, which gives a
`BatchEnvironment`, and `ids()`. To add one is to write it and to put it into `SUITES`; what is
written in Python and stepped in a loop needs to say little more than how (`loop.LoopBatch`).
"""

import difflib
from collections.abc import Sequence
from typing import Union

import numpy as np
from absl import logging

from brac.environments import gym_suite, gymnasium_suite, mujoco_v2
from brac.environments.batch import GOES_ON as GOES_ON
from brac.environments.batch import TERMINAL as TERMINAL
from brac.environments.batch import TIME_LIMIT as TIME_LIMIT
from brac.environments.batch import BatchEnvironment as BatchEnvironment
from brac.environments.batch import row_seeds as row_seeds
from brac.environments.mujoco_v2 import MujocoEnv as MujocoEnv
from brac.environments.mujoco_v2 import physics as physics
from brac.errors import UserError

SUITES = (mujoco_v2, gym_suite, gymnasium_suite)  # the first that knows an id makes the batch


def make_batch(env_name: str, n: int, seed: Union[int, Sequence[int]]) -> BatchEnvironment:
  """Makes `n` copies of an environment.

  Row i draws its random numbers from `row_seeds(seed, n)[i]` on, through all of its episodes, as a
  gym environment does whose first reset is given that seed. See `physics` for what can be chosen.

  Args:
    env_name: the id of one of the four tasks, or any other that gym or, where it is installed,
      gymnasium knows; `gymnasium:ID` is gymnasium's, where gym knows the id too; `module:ID`
      imports a module first, which registers it.
    n: how many, from 1 up.
    seed: 0 or more, or one for each row. Equal seeds give equal bits.

  Raises:
    UserError: the id is unknown, its dependencies are missing, or it has spaces of another kind
      than flat boxes, or Dicts of boxes to observe, and bounds to its actions.
  """
  seeds = row_seeds(seed, n) if np.isscalar(seed) else list(seed)
  for suite in SUITES:
    if suite.knows(env_name):
      return suite.make(env_name, seeds)
  ids = [known for suite in SUITES for known in suite.ids()]

  def likeness(known):
    return difflib.SequenceMatcher(None, env_name.lower(), known.lower()).ratio()

  nearest = max(ids, key=likeness)
  more = gymnasium_suite.how_to_get_more()
  raise UserError(f'unknown environment {env_name!r}; the nearest known is {nearest!r}{more}')


def described(env_name: str) -> BatchEnvironment:
  """One copy, closed already: for its specs and its time limit.

  Raises:
    UserError: see `make_batch`.
  """
  with make_batch(env_name, 1, 0) as env:
    return env


def introduced(env_name: str) -> BatchEnvironment:
  """As `described`; and the log says where it is from, and in which order Dicts are concatenated.

  Raises:
    UserError: see `make_batch`.
  """
  env = described(env_name)
  suite = next(suite for suite in SUITES if suite.knows(env_name))
  logging.info('%s: from %s', env_name, suite.__name__.rpartition('.')[2].removesuffix('_suite'))
  if env.observation_keys:
    logging.info(
      '%s: its observations are concatenated as %s; dict_observations.keys chooses another order',
      env_name,
      ', '.join(f'{name} ({width})' for name, width in env.observation_keys.items()),
    )
  return env


def try_out(env_name: str, seed: int) -> bool:
  """Takes a few steps, and warns of what somebody who collects does not get from an environment.

  That is the same data from the same seed, and a run that goes on where it was stopped.

  Returns:
    Whether a batch's `state` holds the environments as they are.

  Raises:
    UserError: see `make_batch`; or the environment goes wrong at once.
  """
  with make_batch(env_name, 1, seed) as env:
    (first, _), (second, ended) = _few_steps(env), _few_steps(env)
    state = env.state
    third = _few_steps(env, ended), _few_steps(env)
    why = f'cannot be saved ({env.unsaved})' if env.unsaved else ''
  with make_batch(env_name, 1, seed) as env:
    if [_few_steps(env)[0], _few_steps(env)[0]] != [first, second]:
      logging.warning(
        '%s does not give the same numbers when it is given the same seed: the same command will '
        'give other data',
        env_name,
      )
    elif not why:
      env.state = state
      if env.cut.size or (_few_steps(env, ended), _few_steps(env)) != third:
        why = 'is not as it was once it was saved and loaded again'
  if why:
    logging.warning(
      '%s %s: a run that is stopped and started again will go on with new episodes', env_name, why
    )
  return not why


def _few_steps(env: BatchEnvironment, ended: bool = True) -> tuple[list[bytes], bool]:
  """What one environment does next, and whether its episode has ended then; an action off 0."""
  low, high = env.action_spec.minimum[None], env.action_spec.maximum[None]
  seen = []
  for _ in range(4):
    if ended:
      seen.append(env.reset().tobytes())
      ended = False
    else:
      observation, reward, end = env.step(0.25 * low + 0.75 * high)
      seen.append(observation.tobytes() + reward.tobytes())
      ended = bool(end[0] != GOES_ON)
  return seen, ended
