"""Trains an agent on a stored dataset.

Leaves {root_dir}/{ENV}/{DATA_NAME}/n{N_TRAIN}/{AGENT}/{SUB_DIR}/{SEED}/ with checkpoints,
TensorBoard event files and results.csv; with a preset, as by --gin_file=kl_vp.gin, its name stands
in the place of {AGENT}. Started again on such a folder it goes on from its last save.
"""

import os
import shlex
import sys

from absl import flags

from brac import gin_config, programs, results
from brac.data_config import folder_name, project_folder
from brac.errors import UserError, nearest

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
flags.DEFINE_string(
  'agent_name', 'sac', f'The algorithm, unless a preset says it: {programs.AGENT_NAMES}.'
)
flags.DEFINE_string('env_name', 'HalfCheetah-v2', "The gym or gymnasium environment, the data's.")
flags.DEFINE_integer('total_train_steps', 500000, 'Training steps in all.', lower_bound=1)
flags.DEFINE_integer('n_train', 1000000, 'How many of the transitions are used.', lower_bound=1)


def main(preset: gin_config.Preset) -> None:
  from brac import agents, clones, train_eval_offline

  agent_name, run_name = programs.agent(preset)
  root_dir, sub_dir = programs.folder(FLAGS.root_dir), programs.sub_dir(FLAGS.sub_dir)
  env_data = os.path.join(folder_name(FLAGS.env_name), folder_name(FLAGS.data_name))
  data = os.path.join(env_data, f'n{FLAGS.n_train}')
  log_dir = os.path.join(root_dir, data, run_name, sub_dir, str(FLAGS.seed))
  data_file = os.path.join(
    programs.folder(FLAGS.data_root_dir), env_data, FLAGS.data_sub_dir, FLAGS.data_file_name
  )
  _check_there_is(data_file)
  clone, search = agents.load(agent_name).CLONE, None
  if clone:
    places = clones.places(clone.agent, root_dir, data, sub_dir, FLAGS.seed)
    search = clones.Lookup(places, _clone_command(clone.agent, preset))
  train_eval_offline.train_eval_offline(
    log_dir=log_dir,
    data_file=data_file,
    agent_name=agent_name,
    env_name=FLAGS.env_name,
    n_train=FLAGS.n_train,
    total_train_steps=FLAGS.total_train_steps,
    n_eval_episodes=FLAGS.n_eval_episodes,
    seed=FLAGS.seed,
    allow_changed_config=FLAGS.allow_changed_config,
    clone_search=search,
    about=results.About(
      FLAGS.env_name, FLAGS.data_name, FLAGS.n_train, run_name, sub_dir, FLAGS.seed, _command()
    ),
  )


def _command() -> str:
  """What this program was started with; our own configs are found by any checkout."""
  ours = project_folder('configs') + os.sep
  given = [word.replace(ours, 'configs/') for word in sys.argv[1:]]
  return shlex.join(['python', '-m', 'brac.train_offline', *given])


def _check_there_is(data_file: str) -> None:
  """Raises UserError where nothing was collected under the `--data_name`."""
  from brac import environments

  name = folder_name(FLAGS.data_name)
  env_dir = os.path.join(programs.folder(FLAGS.data_root_dir), folder_name(FLAGS.env_name))
  if os.path.isdir(os.path.join(env_dir, name)):
    return
  environments.described(FLAGS.env_name)  # an unknown environment is the better reason
  there = os.listdir(env_dir) if os.path.isdir(env_dir) else []
  hint = nearest(name, there)
  config = f'dcfg_{name}'
  is_ours = os.path.isfile(os.path.join(project_folder('configs'), config + '.py'))
  if is_ours and FLAGS.data_file_name == 'data':  # which is what a collection leaves
    root = [f'--root_dir={FLAGS.data_root_dir}'] if FLAGS['data_root_dir'].present else []
    root += [f'--sub_dir={FLAGS.data_sub_dir}'] if FLAGS['data_sub_dir'].present else []
    names = ['--env_name=' + FLAGS.env_name, '--data_name=' + FLAGS.data_name]
    names += ['--config_file=' + config, f'--n_samples={FLAGS.n_train}']
    command = ['python', '-m', 'brac.collect_data', *root, *names]
    hint = f'; this collects one: {shlex.join(command)}'
  raise UserError(f'no dataset at {data_file}{hint}')


def _clone_command(clone: str, preset: gin_config.Preset) -> str:
  """The command that clones the behavior policy of the data that the flags name."""
  always = ('env_name', 'data_name', 'n_train')
  names = (*always, 'root_dir', 'data_root_dir', 'data_sub_dir', 'data_file_name', 'seed')
  given = [FLAGS[name].serialize() for name in names if name in always or FLAGS[name].present]
  program = ['python', '-m', 'brac.train_offline', f'--gin_file={clone}.gin']
  bindings = [
    f'--gin_bindings={name}={value!r}'
    for name, value in preset.bound.items()
    if gin_config.OF_DATA.fullmatch(name) and repr(value) != gin_config.default(name)
  ]
  return shlex.join([*program, *given, '--total_train_steps=300000', *bindings])


if __name__ == '__main__':
  programs.run(main, takes_preset=True, stops_itself=True)
