"""The flags that the programs of many runs share, and what is made of them."""

import os
from typing import Optional

from absl import flags

from brac import programs
from brac.data_config import project_folder
from brac.grids.jobs import Backend, Local
from brac.grids.plan import Grid

FLAGS = flags.FLAGS

PRESETS = (
  *('sac', 'bc', 'bcq', 'bear', 'mmd_vp', 'mmd_pr', 'kl_vp', 'kl_pr'),
  *('kl_dual_vp', 'kl_dual_pr', 'w_vp', 'w_pr'),
)


def define(least_episodes: int = 1) -> None:
  """Defines the flags, with the least number of episodes that an evaluation may have."""
  flags.DEFINE_string('root_dir', os.path.join(programs.ROOT, 'learn'), 'Where runs are kept.')
  flags.DEFINE_string(
    'data_root_dir', os.path.join(programs.ROOT, 'data'), 'Where datasets are kept.'
  )
  flags.DEFINE_list(
    'env_names', ['HalfCheetah-v2', 'Hopper-v2', 'Walker2d-v2', 'Ant-v2'], 'The environments.'
  )
  flags.DEFINE_list('presets', list(PRESETS), 'The algorithms: NAME.gin each.')
  flags.DEFINE_integer(
    'n_train', 1000000, 'How many transitions are collected, and used.', lower_bound=1
  )
  flags.DEFINE_integer(
    'n_eval_episodes',
    20,
    'Episodes of an evaluation.',
    lower_bound=least_episodes,
    upper_bound=10**6,
  )
  flags.DEFINE_multi_string(
    'gin_bindings',
    [],
    'Given to every training after its preset, that of a macro where the preset has it; may be '
    'given several times.',
  )
  flags.DEFINE_string(
    'config_dir',
    None,
    "Where presets and data configs are, a folder; what is not there is taken from the project's "
    'configs/.',
  )
  flags.DEFINE_string(
    'policy_root_dir', None, 'Given to the data configs: where their policies are.'
  )
  flags.DEFINE_integer(
    'n_jobs',
    None,
    'How many programs run at a time; as many as there are cores for by default.',
    lower_bound=1,
  )
  flags.DEFINE_integer(
    'n_cores',
    None,
    'On how many cores each program runs; the cores are shared out by default.',
    lower_bound=1,
  )
  flags.DEFINE_string(
    'ray_address',
    None,
    'The Ray cluster whose nodes run the programs, or auto; without it this machine does.',
  )
  flags.DEFINE_bool('dry_run', False, 'Whether the commands are only printed.')


def config_dir() -> str:
  """The folder of presets and data configs; the project's own under the one name that it has."""
  folder, ours = programs.folder(FLAGS.config_dir), project_folder('configs')
  is_ours = not folder or os.path.isdir(folder) and os.path.samefile(folder, ours)
  return ours if is_ours else folder


def make_grid(total_train_steps: int) -> Grid:
  """What the flags say of all trainings; raises UserError where a folder cannot be one."""
  from brac import checkpoints

  root_dir, data_root_dir = map(programs.folder, (FLAGS.root_dir, FLAGS.data_root_dir))
  checkpoints.check_path(root_dir)
  programs.folder(FLAGS.policy_root_dir)
  return Grid(
    root_dir=root_dir,
    data_root_dir=data_root_dir,
    config_dir=config_dir(),
    policy_root_dir=FLAGS.policy_root_dir,
    n_train=FLAGS.n_train,
    total_train_steps=total_train_steps,
    n_eval_episodes=FLAGS.n_eval_episodes,
    gin_bindings=FLAGS.gin_bindings,
  )


def check_environments() -> None:
  """Raises UserError where an environment of --env_names cannot be made."""
  from brac import environments

  for env_name in FLAGS.env_names:
    environments.described(env_name)


def at_a_time() -> Optional[int]:
  """How many programs run at a time; None: as many as a cluster has cores for."""
  if FLAGS.n_jobs or FLAGS.ray_address is not None:
    return FLAGS.n_jobs
  return max(1, len(os.sched_getaffinity(0)) // (FLAGS.n_cores or 1))


def make_backend(most: Optional[int] = None) -> Backend:
  """Where the flags say that jobs run, of which there are at most so many.

  Raises:
    UserError: there is no such cluster.
  """
  if FLAGS.ray_address is not None:
    from brac.grids.ray_jobs import Ray

    return Ray(FLAGS.ray_address, FLAGS.n_jobs, FLAGS.n_cores)
  n_jobs = at_a_time()
  return Local(n_jobs if most is None else min(n_jobs, most), FLAGS.n_cores)
