"""Trains an agent in its environment, and keeps it once it reaches a target.

Leaves {root_dir}/{ENV}/{AGENT}/{SUB_DIR}/ with agent_partial_target*, agent_final*, their replay
data, TensorBoard event files and results.csv. Started again on such a folder it goes on from its
last save.
"""

import os

from absl import flags

from brac import gin_config, programs
from brac.data_config import folder_name

FLAGS = flags.FLAGS

programs.define_run_flags(example='train_eval_online.batch_size=128')
flags.adopt_module_key_flags(programs)
flags.DEFINE_string('root_dir', os.path.join(programs.ROOT, 'policies'), 'Where runs are kept.')
flags.DEFINE_string('sub_dir', '0', "The run's folder within its agent's; auto: the date and time.")
flags.DEFINE_string('agent_name', 'sac', f'The algorithm: {programs.AGENT_NAMES}.')
flags.DEFINE_string('env_name', 'Walker2d-v2', 'The gym or gymnasium environment.')
flags.DEFINE_float(
  'eval_target',
  1000.0,
  'The agent is kept as agent_partial_target once train_eval_online.eval_target_n evaluations in a '
  'row, 2 by default, return at least this.',
)
flags.DEFINE_integer('total_train_steps', 500000, 'Training steps in all.', lower_bound=1)


def main(preset: gin_config.Preset) -> None:
  from brac import train_eval_online

  programs.refuse_agent_of(preset)
  agent_name, run_name = programs.agent(preset)
  train_eval_online.train_eval_online(
    log_dir=os.path.join(
      programs.folder(FLAGS.root_dir),
      folder_name(FLAGS.env_name),
      run_name,
      programs.sub_dir(FLAGS.sub_dir),
    ),
    agent_name=agent_name,
    env_name=FLAGS.env_name,
    eval_target=FLAGS.eval_target,
    total_train_steps=FLAGS.total_train_steps,
    n_eval_episodes=FLAGS.n_eval_episodes,
    seed=FLAGS.seed,
    allow_changed_config=FLAGS.allow_changed_config,
  )


if __name__ == '__main__':
  programs.run(main, takes_preset=True, stops_itself=True)
