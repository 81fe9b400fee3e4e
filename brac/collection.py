"""The collection of a dataset: each policy of a data config in many environments side by side."""

import os
from typing import Optional

import gin
import numpy as np

from brac import checkpoints, data_config, environments, policy_loader, rollouts, runs
from brac.dataset import Dataset, Transitions
from brac.errors import UserError


@gin.configurable(
  denylist=[
    'data_dir', 'env_name', 'config_dir', 'config_file', 'policy_root_dir', 'n_samples',
    'n_eval_episodes', 'seed',
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
  n_envs: int = 200,
) -> None:
  """Collects `n_samples` transitions, in the proportions of a data config, into `{data_dir}/data`.

  The first block of arguments are the program's flags. Of the rest, which gin binds:

  Args:
    n_envs: how many environments step side by side, where there are as many episodes to collect.
  """
  runs.check_positive('collect', n_envs=n_envs)
  path = os.path.join(data_dir, 'data')
  if checkpoints.exists(path):
    raise UserError(f'{path} is there already; remove it, or choose another --sub_dir')
  parts = data_config.load(config_dir, config_file, env_name, policy_root_dir)
  env = environments.make_batch(env_name, 1, seed)
  specs = env.observation_spec, env.action_spec
  policies = [policy_loader.load_policy(part.policy_cfg, *specs, seed) for part in parts]
  edges = np.rint(np.cumsum([0] + [part.proportion for part in parts]) * n_samples).astype(int)
  if (np.diff(edges) == 0).any():
    raise UserError(
      f'--n_samples {n_samples} is too few for {len(parts)} policies in their proportions'
    )

  clock = runs.Clock()
  pieces = []
  progress = runs.Progress(f'collecting {env_name}', n_samples, unit='transition')
  for k, (part, policy) in enumerate(zip(parts, policies)):
    part_seed = int(np.random.SeedSequence((seed, k)).generate_state(1)[0])
    with clock('evaluation'):
      returns = rollouts.Evaluator(env_name, policy, n_eval_episodes, part_seed).run(0)
    n = int(edges[k + 1] - edges[k])
    progress.say(f'{part.name}: {n} transitions; return {returns.mean():.1f} ± {returns.std():.1f}')
    collection = rollouts.Collection(env_name, policy, n, part_seed, n_envs)
    with clock('collection'):
      while collection.advance():
        progress.update(edges[k] + collection.n_done)
        if runs.stop_requested():
          progress.close()
          runs.stop('nothing is saved of a dataset that is not complete')
    pieces.append(collection.transitions)
  progress.tell()
  progress.close()
  with clock('saving'):
    checkpoints.save(path, data=Dataset(Transitions(*map(np.concatenate, zip(*pieces)))))
  progress.say(f'{n_samples} transitions are at {path}; {clock}')
