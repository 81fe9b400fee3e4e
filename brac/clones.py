"""Where the clone of the behavior policy is found that an agent compares with."""

import ast
import os
from typing import List, Optional

import gin
from absl import logging

from brac import checkpoints, results, runs
from brac.data_config import project_folder
from brac.errors import UserError


def places(agent: str, root_dir: str, data: str, sub_dir: str, seed: int) -> List[str]:
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


def bind(parameter: str, log_dir: str, paths: List[str], command: str) -> None:
  """Binds the parameter that takes a clone, where gin has no value for it.

  Args:
    parameter: as `brac_primal_agent.Agent.behavior_ckpt_file`.
    log_dir: the run's folder; a run that goes on keeps the clone that it was begun with.
    paths: where a new run looks, in this order.
    command: what makes a clone.

  Raises:
    UserError: there is none.
  """
  try:
    if gin.query_parameter(parameter) is not None:
      return
  except ValueError:  # not bound
    pass
  for path in (_begun_with(parameter, log_dir), *paths):
    if path and checkpoints.exists(path):
      break
  else:
    raise UserError(
      f'{parameter} is not set, and there is no clone of the behavior policy at '
      f'{" or ".join(paths)}; this makes one: {command}'
    )
  logging.info('the behavior policy is %s', path)
  if results.is_half_trained(os.path.dirname(path)):
    logging.warning('the run that trains the behavior policy has not come to its end')
  with gin.unlock_config():
    gin.bind_parameter(parameter, path)


def warn_of_other_data(path: str, fingerprint: str) -> None:
  """Warns where the run that left a clone tells that it was trained on other data.

  Args:
    path: the clone.
    fingerprint: of the data, from `transitions.fingerprint`.
  """
  run = os.path.join(os.path.dirname(path), 'agent')
  theirs = runs.kept_settings(run).get('--data') if checkpoints.exists(run) else None
  if theirs not in (None, repr(fingerprint)):
    logging.warning(
      'the behavior policy %s was cloned from other data than the run has (another --data_sub_dir, '
      'or collected anew)',
      path,
    )


def _begun_with(parameter: str, log_dir: str) -> Optional[str]:
  path = os.path.join(log_dir, 'agent')
  kept = runs.kept_settings(path) if checkpoints.exists(path) else {}
  try:
    return ast.literal_eval(kept.get(parameter, 'None'))
  except (ValueError, SyntaxError):
    return None
