"""Collects a dataset with the policies of a data config.

Leaves {root_dir}/{ENV}/{DATA_NAME}/{SUB_DIR}/data*.
"""

import os

from absl import flags, logging

from brac import data_config, gin_config, programs
from brac.data_config import folder_name

FLAGS = flags.FLAGS

programs.define_run_flags(example='collect.n_envs=100')
flags.adopt_module_key_flags(programs)
flags.DEFINE_string('root_dir', os.path.join(programs.ROOT, 'data'), 'Where datasets are kept.')
flags.DEFINE_string('sub_dir', '0', "The dataset's folder; auto: the date and time.")
flags.DEFINE_string('env_name', 'HalfCheetah-v2', 'The gym or gymnasium environment.')
flags.DEFINE_string('data_name', 'random', "The dataset's name.")
flags.DEFINE_string(
  'config_dir',
  None,
  "Where data configs are: a folder or a dotted module name. The project's configs/ by default.",
)
flags.DEFINE_string('config_file', 'dcfg_pure', 'The data config, with or without .py.')
flags.DEFINE_string('policy_root_dir', None, 'Given to the data config: where its policies are.')
flags.DEFINE_integer('n_samples', 1000000, 'How many transitions to collect.', lower_bound=1)


def main(preset: gin_config.Preset) -> None:
  from brac import collection

  programs.refuse_agent_of(preset)
  config_dir = programs.folder(FLAGS.config_dir)
  config = data_config.find(config_dir, FLAGS.config_file)
  namesake = os.path.join(os.path.dirname(config), f'dcfg_{folder_name(FLAGS.data_name)}.py')
  if namesake != config and os.path.isfile(namesake):
    logging.warning(
      'the data is called %s, but is collected as %s says, for want of --config_file=dcfg_%s',
      FLAGS.data_name,
      os.path.basename(config),
      FLAGS.data_name,
    )
  collection.collect(
    data_dir=os.path.join(
      programs.folder(FLAGS.root_dir),
      folder_name(FLAGS.env_name),
      folder_name(FLAGS.data_name),
      programs.sub_dir(FLAGS.sub_dir),
    ),
    env_name=FLAGS.env_name,
    config_dir=config_dir,
    config_file=FLAGS.config_file,
    policy_root_dir=programs.folder(FLAGS.policy_root_dir),
    n_samples=FLAGS.n_samples,
    n_eval_episodes=FLAGS.n_eval_episodes,
    seed=FLAGS.seed,
    allow_changed_config=FLAGS.allow_changed_config,
  )


if __name__ == '__main__':
  programs.run(main, takes_preset=True, stops_itself=True)
