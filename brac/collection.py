"""The collection of a dataset: each policy of a data config in many environments side by side."""

import os
import pickle
import time
import zlib
from collections.abc import Sequence
from typing import Optional

import gin
import numpy as np
import tensorflow as tf
from absl import logging

from brac import checkpoints, data_config, environments, operative, policy_loader, rollouts, runs
from brac.data import provenance, stored
from brac.data.replay import Dataset
from brac.data.transitions import Transitions
from brac.errors import UserError, check_number, check_whole
from brac.policies import Policy
from brac.training import evaluate

_STEPS = 20  # between two looks at the clock


@operative.experiment
@gin.configurable(
  denylist=[
    'data_dir', 'env_name', 'config_dir', 'config_file', 'policy_root_dir', 'n_samples',
    'n_eval_episodes', 'seed', 'allow_changed_config',
  ]
)  # fmt: skip
def collect(
  data_dir: str,
  env_name: str,
  config_dir: Optional[str],
  config_file: str,
  policy_root_dir: Optional[str],
  n_samples: int,
  n_eval_episodes: int,
  seed: int,
  allow_changed_config: bool = False,
  n_envs: int = 500,
  save_minutes: float = 10.0,
) -> None:
  """Collects `n_samples` transitions, in the proportions of a data config, into `{data_dir}/data`.

  The first block of arguments are the program's flags. Of the rest, which gin binds:

  Args:
    n_envs: how many environments step side by side, where there are as many episodes to collect.
      More make it faster; 500 share a million transitions out in whole episodes of 1000.
    save_minutes: after so many minutes what is collected so far is saved.
  """
  check_whole('collect', 1, n_envs=n_envs)
  check_number('collect', 0, save_minutes=save_minutes)
  path, unfinished = os.path.join(data_dir, 'data'), os.path.join(data_dir, 'data_unfinished')
  config_path = data_config.find(config_dir, config_file)
  parts = data_config.load(config_path, env_name, policy_root_dir)
  env = environments.introduced(env_name)
  specs = env.observation_spec, env.action_spec
  # What goes wrong at once in a third-party environment does so before a folder is made.
  saves = environments.try_out(env_name, seed)
  policies = [_load(part, specs, seed, config_path) for part in parts]
  edges = edges_of([part.proportion for part in parts], n_samples)
  if (np.diff(edges) == 0).any():
    raise UserError(
      f'--n_samples {n_samples} is too few for {len(parts)} policies in their proportions'
    )
  operative.warn_of_unused()
  settings = runs.Settings(
    env_name=env_name, data_config=[_without_path(part) for part in parts], n_samples=n_samples,
    n_envs=n_envs, seed=seed, policies=[_fingerprint(policy) for policy in policies],
  )  # fmt: skip
  try:
    rows = Transitions.zeros(n_samples, specs[0].shape[0], specs[1].shape[0])
  except MemoryError as error:
    raise UserError(f'--n_samples {n_samples}: out of memory: {error}') from error

  with runs.RunFolder(data_dir, settings, allow_changed_config) as run:
    logging.info('the data config is %s', config_path)
    if run.find(['data']):
      run.check_same('data')
      logging.info('%d transitions are at %s already: there is nothing to do', n_samples, path)
      checkpoints.remove(unfinished)
      return

    # What is collected: all rows, of which each policy fills a stretch.
    first, saved = 0, None
    if run.resume(['data_unfinished']):
      rows = stored.load(unfinished, specs[0].shape[0], specs[1].shape[0], is_finished=False)
      first, saved = pickle.loads(checkpoints.Reader(unfinished).read('collection'))
    clock, saved_at = runs.Clock(), time.monotonic()
    progress = runs.Progress(f'collecting {env_name}', n_samples, int(edges[first]), 'transition')

    def save(k: int, state: Optional[bytes]) -> None:
      nonlocal saved_at
      with clock('saving'):
        state = tf.Variable(pickle.dumps((k, state)))
        run.save('data_unfinished', keep=True, data=Dataset(rows), collection=state)
      saved_at = time.monotonic()

    def stop() -> None:
      progress.close()
      runs.stop(f'what is collected is saved at {unfinished}: the same command goes on from there')

    for k in range(first, len(parts)):
      part_seed = rollouts.seed_of(seed, k)
      stretch = Transitions(*(values[edges[k] : edges[k + 1]] for values in rows))
      episode_steps = None
      if not saved:
        try:
          with clock('evaluation'):
            known, episode_steps = _evaluate(env_name, policies[k], n_eval_episodes, part_seed)
        except rollouts.Interrupted:
          save(k, None)
          stop()
        progress.say(f'{parts[k].name}: {len(stretch.reward)} transitions; return {known}')
      collection = rollouts.Collection(
        env_name, policies[k], stretch, part_seed, n_envs, episode_steps, saves, runs.stop_requested
      )
      if saved:
        collection.state, saved = saved, None
      more = True
      while more:
        if runs.stop_requested() or time.monotonic() - saved_at > 60 * save_minutes:
          save(k, collection.state)
        if runs.stop_requested():
          stop()
        with clock('collection'):
          more = collection.advance(_STEPS)
        progress.update(edges[k] + collection.n_done)
      collection.close()
      if not collection.n_episodes:
        logging.warning(
          '%s: none of its %d transitions ends an episode: they are first steps of episodes only',
          parts[k].name,
          collection.n_done,
        )
    progress.tell()
    progress.close()
    with clock('saving'):
      provenance.remove(path)  # of what was there before
      if env.observation_keys:  # in an order of several
        facts = {'environment': {'used': env_name}, 'observation_keys': env.observation_keys}
        provenance.write(path, facts)
      run.save('data', data=Dataset(rows))
      checkpoints.remove(unfinished)
    logging.info('%d transitions are at %s; %s', n_samples, path, clock)


def _load(part: data_config.Part, specs: Sequence, seed: int, config_path: str) -> Policy:
  try:
    return policy_loader.load_policy(part.policy_cfg, *specs, seed, os.path.dirname(config_path))
  except UserError as error:
    raise UserError(f'{config_path}: part {part.name!r}: {error}') from error


def _evaluate(
  env_name: str, policy: Policy, n_episodes: int, seed: int
) -> tuple[str, Optional[int]]:
  """What a policy returns, as a text, and the steps of its longest episode where that is known."""
  evaluator = rollouts.Evaluator(env_name, {'main': policy}, n_episodes, seed, runs.stop_requested)
  returns = evaluate(evaluator, 0).get('main')
  if returns is None:
    return 'unknown', None
  return f'{returns.mean():.1f} ± {returns.std():.1f}', evaluator.longest


def edges_of(proportions: Sequence[float], n: int) -> np.ndarray:
  """Where the stretch of each policy begins among n rows, and at last n."""
  edges = np.rint(np.cumsum([0, *proportions]) * n).astype(int)
  edges[-1] = n  # proportions add up to 1 but for rounding, of which no row is to stay empty
  return edges


def _without_path(part: data_config.Part) -> data_config.Part:
  """A part of a data config as it stays where a tree is moved; the policies have fingerprints."""
  ptype, path, *rest = part.policy_cfg
  return part._replace(policy_cfg=[ptype, '' if ptype in ('load', 'onnx') else path, *rest])


def _fingerprint(policy: Policy) -> str:
  """A checksum of a policy's weights: the file that they come from may be another one later."""
  checksum = 0
  for variable in policy.variables():
    checksum = zlib.crc32(variable.numpy().tobytes(), checksum)
  return f'crc32 {checksum:08x}'
