"""What the programs share: flags, threads, and errors that a person can read."""

import datetime
import os
import re
import signal
import sys
import warnings
from typing import Callable, NoReturn, Optional, Tuple

from absl import app, flags, logging

from brac import agents, gin_config
from brac.errors import UserError

FLAGS = flags.FLAGS

AGENT_NAMES = f'{", ".join(agents.AGENTS)}, or module:Class of an agent of your own'
MAX_SEED = 2**59
ROOT = os.path.join(os.path.expanduser('~'), 'tmp', 'offlinerl')


def define_run_flags() -> None:
  """Defines the flags that every run has."""
  flags.DEFINE_integer(
    'seed', 0, 'Seeds everything that draws a random number.', lower_bound=0, upper_bound=MAX_SEED
  )
  flags.DEFINE_integer(
    'n_eval_episodes', 20, 'Episodes of an evaluation.', lower_bound=1, upper_bound=10**6
  )
  flags.DEFINE_multi_string(
    'gin_file',
    [],
    "A gin config file, or one of the project's configs by its name; may be given several times.",
  )
  flags.DEFINE_multi_string(
    'gin_bindings',
    [],
    'A gin binding such as "train_eval_offline.batch_size=128"; may be given several times.',
  )
  flags.DEFINE_bool(
    'allow_changed_config',
    False,
    'Whether a run may go on with other settings than it was begun with.',
  )


def run(
  main: Callable[[], None], tensorflow: bool = True, experiment: Optional[str] = None
) -> NoReturn:
  """Runs a program: parses its flags and gin bindings, calls `main`, exits.

  A `UserError` becomes one line and exit status 1; what a signal stops exits with 128 + its number.
  A program without `tensorflow` starts in a moment, and signals end it. A program with gin bindings
  says the `experiment` that its own parameters are bound by.
  """
  name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
  app.define_help_flags()
  try:
    _check_place()
    rest = FLAGS(sys.argv)[1:]
    if rest:
      raise UserError(f'{rest[0]!r} is no flag; flags read --name=value')
    _check_paths()
    if not tensorflow:
      main()
      sys.exit(0)
    quiet_imports()
    set_up_tensorflow()
    unused = []
    if experiment:
      if 'agent_name' in FLAGS and ':' in FLAGS.agent_name:  # whose parameters can be bound then
        agents.load(FLAGS.agent_name)
      gin_config.parse(FLAGS.gin_file, FLAGS.gin_bindings)
      agent_name = agent()[0] if 'agent_name' in FLAGS else None
      unused = gin_config.unused(experiment, agent_name, FLAGS.gin_bindings)
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    for name_bound in unused:
      logging.warning('gin: %s is bound, but nothing in this run uses it', name_bound)
    import tensorflow as tf

    from brac import runs

    # From 2.17 on it tells the same log how long each save took.
    its_place = os.path.dirname(tf.__file__) + os.sep
    logging.get_absl_logger().addFilter(
      lambda record: record.levelname != 'INFO' or not record.pathname.startswith(its_place)
    )
    runs.catch_stops()
    try:
      main()
    except runs.Stopped as stopped:
      sys.exit(stopped.exit_status)
    except tf.errors.ResourceExhaustedError as error:
      raise MemoryError(error.message.splitlines()[0]) from error
  except KeyboardInterrupt as second:  # a second signal, which does not wait for a save
    sys.exit(128 + (second.args or [signal.SIGINT])[0])
  except (UserError, flags.Error) as error:
    sys.exit(_say(name, error))
  except MemoryError as error:
    sys.exit(_say(name, f'out of memory: {error}'))
  except OSError as error:  # gin, where it has come by, keeps the text and not its parts
    sys.exit(_say(name, re.sub(r'^\[Errno \d+\] ', '', str(error))))
  sys.exit(0)


def _say(name: str, error) -> int:
  print(f'{name}: {gin_config.first_line(str(error).strip())}', file=sys.stderr)
  return 1


def quiet_imports() -> None:
  """Keeps TensorFlow's and gym's notices off the terminal; they are not about this program."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  warnings.filterwarnings('ignore', message='pkg_resources is deprecated')  # pygame imports it
  from gym_notices import notices

  notices.notices.clear()


def set_up_tensorflow() -> None:
  """Sets what the agents train fastest with, and with the same bits however a run is cut.

  To be called before TensorFlow is imported.
  """
  # At these sizes oneDNN's operations cost more than they save: bc is a fifth slower with them.
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  import tensorflow as tf

  # Two towers on a thread each are faster than one matrix product on two threads.
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(len(os.sched_getaffinity(0)))
  # This pass sorts the terms of a sum by their operations' names, which go on counting from one
  # step of a compiled loop to the next. The agents are as fast without it.
  tf.config.optimizer.set_experimental_options({'arithmetic_optimization': False})


def agent() -> Tuple[str, str]:
  """The agent of a run, and its name in the run's folder.

  Both are `--agent_name`, unless a gin file binds `train_eval_offline.agent_name`. Such a file is a
  preset, and its own name without `.gin` is the second: so that `kl_vp.gin` and `kl_pr.gin`, which
  are of one agent, have folders of their own.

  Raises:
    UserError: there is no such agent, or the flag names another than the preset.
  """
  agent_name = gin_config.preset.get('agent_name', FLAGS.agent_name)
  source, name = '', '--agent_name'
  if gin_config.preset:
    source, name = f'gin: {gin_config.preset["source"]}: ', 'train_eval_offline.agent_name'
  try:
    agents.load(agent_name, name)
  except UserError as error:
    raise UserError(f'{source}{error}') from error
  if FLAGS['agent_name'].present and FLAGS.agent_name != agent_name:
    raise UserError(
      f'--agent_name {FLAGS.agent_name}: gin binds train_eval_offline.agent_name to '
      f'{agent_name!r}; leave the flag out'
    )
  return agent_name, gin_config.preset.get('name', agents.folder(agent_name))


# Flags that name a file or a folder, anywhere.
_PATHS = (
  *('root_dir', 'data_root_dir', 'policy_root_dir', 'config_dir', 'output_dir', 'data_sub_dir'),
  *('data_file_name', 'checkpoint', 'ship'),
)
# Those that name a folder within another.
_NAMES = ('sub_dir', 'data_name')


def _check_place() -> None:
  """Raises UserError where `python -m train_offline` in one clone would run the code of another."""
  here, installed = map(os.path.dirname, map(os.path.abspath, (sys.argv[0], __file__)))
  is_ours = os.path.isfile(sys.argv[0]) and os.path.basename(here) == 'brac'
  if is_ours and not os.path.samefile(here, installed):
    raise UserError(
      f'{here} is not the code that would run: {installed} is installed; in the folder above, '
      '"pip install --editable ." installs this one'
    )


def _check_paths() -> None:
  """Raises UserError where a flag's path cannot be one, before anything is made."""
  for flag in (*_PATHS, *_NAMES):
    path = FLAGS[flag].value if flag in FLAGS else None
    if path is None:
      continue
    if not path:
      raise UserError(f'--{flag} is empty: it names a folder or a file')
    try:
      names = path.encode().split(b'/')
    except UnicodeEncodeError:
      raise UserError(f'--{flag} {path!r} is not in UTF-8') from None
    if max(map(len, names)) > 255:
      raise UserError(f'--{flag} {path}: a name in it is longer than 255 bytes')
    if flag in _NAMES and (os.path.isabs(path) or {b'.', b'..'} & set(names)):
      raise UserError(f'--{flag} is the name of a folder within another, not {path!r}')


def folder(path: Optional[str]) -> Optional[str]:
  """A folder that a flag names, with what `~` and `$HOME` stand for.

  Raises:
    UserError: they stand for nothing here.
  """
  expanded = path and os.path.expandvars(os.path.expanduser(path))
  left = path and re.search(r'^~[^/]*|\$(\w+|\{[^}]*\})', expanded, re.ASCII)
  if left:
    raise UserError(f'folder {path}: {left[0]} stands for nothing here; write out what is meant')
  return expanded


def sub_dir(name: str) -> str:
  """The `--sub_dir`; `auto` stands for the present date and time."""
  return datetime.datetime.now().strftime('%Y-%m-%d-%H-%M-%S') if name == 'auto' else name
