"""Trains an agent on a stored dataset.

Leaves {root_dir}/{ENV}/{DATA_NAME}/n{N_TRAIN}/{AGENT}/{SUB_DIR}/{SEED}/ with checkpoints,
TensorBoard event files and results.csv. Started again on such a folder it goes
on from its last save.
"""

import os

from absl import flags

from brac import programs

FLAGS = flags.FLAGS

programs.define_run_flags()
flags.adopt_module_key_flags(programs)
flags.DEFINE_string('root_dir', os.path.join(programs.ROOT, 'learn'), 'Where runs are kept.')
flags.DEFINE_string('sub_dir', '0', "The run's folder within its agent's; auto: the date and time.")
flags.DEFINE_string(
  'data_root_dir', os.path.join(programs.ROOT, 'data'), 'Where datasets are kept.'
)
flags.DEFINE_string('data_sub_dir', '0', 'The --sub_dir that the data was collected with.')
flags.DEFINE_string('data_name', 'eps1', 'The --data_name that the data was collected with.')
flags.DEFINE_string('data_file_name', 'data', "The dataset's file in its folder.")
flags.DEFINE_enum('agent_name', 'sac', programs.AGENT_NAMES, 'The algorithm.')
flags.DEFINE_string('env_name', 'HalfCheetah-v2', "The gym environment, the data's.")
flags.DEFINE_integer('total_train_steps', 500000, 'Training steps in all.', lower_bound=1)
flags.DEFINE_integer('n_train', 1000000, 'How many of the transitions are used.', lower_bound=1)


def main() -> None:
  from brac import train_eval_offline

  train_eval_offline.train_eval_offline(
    log_dir=os.path.join(
      programs.folder(FLAGS.root_dir),
      FLAGS.env_name,
      FLAGS.data_name,
      f'n{FLAGS.n_train}',
      FLAGS.agent_name,
      programs.sub_dir(FLAGS.sub_dir),
      str(FLAGS.seed),
    ),
    data_file=os.path.join(
      programs.folder(FLAGS.data_root_dir),
      FLAGS.env_name,
      FLAGS.data_name,
      FLAGS.data_sub_dir,
      FLAGS.data_file_name,
    ),
    agent_name=FLAGS.agent_name,
    env_name=FLAGS.env_name,
    n_train=FLAGS.n_train,
    total_train_steps=FLAGS.total_train_steps,
    n_eval_episodes=FLAGS.n_eval_episodes,
    seed=FLAGS.seed,
    allow_changed_config=FLAGS.allow_changed_config,
  )


if __name__ == '__main__':
  programs.run(main)
