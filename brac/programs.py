"""What the programs share: flags, threads, and errors that a person can read."""

import codecs
import datetime
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterable
from typing import Callable, NoReturn, Optional

from absl import app, flags, logging

import brac
from brac import agents, gin_config
from brac.data_config import folder_name
from brac.errors import UserError
from brac.gin_config import Preset

FLAGS = flags.FLAGS

AGENT_NAMES = f'{", ".join(agents.AGENTS)}, or module:Class of an agent of your own'
MAX_SEED = 2**59
ROOT = os.path.join(os.path.expanduser('~'), 'tmp', 'offlinerl')


def define_run_flags(example: str = 'train_eval_offline.batch_size=128') -> None:
  """Defines the flags that every run has; the help of --gin_bindings has that example."""
  flags.DEFINE_integer(
    'seed', 0, 'Seeds everything that draws a random number.', lower_bound=0, upper_bound=MAX_SEED
  )
  flags.DEFINE_integer(
    'n_eval_episodes',
    20,
    'Episodes of an evaluation; 0: there is none.',
    lower_bound=0,
    upper_bound=10**6,
  )
  define_gin_flags(example)
  flags.DEFINE_bool(
    'allow_changed_config',
    False,
    'Whether a run may go on with other settings than it was begun with.',
  )


def define_gin_flags(example: str = 'physics.n_threads=1') -> None:
  """Defines the flags of a program that takes a preset; see `define_run_flags`."""
  flags.DEFINE_multi_string(
    'gin_file',
    [],
    "A gin config file, or one of the project's configs by its name; may be given several times.",
  )
  flags.DEFINE_multi_string(
    'gin_bindings',
    [],
    f'A gin binding such as "{example}"; may be given several times.',
  )


def run(
  main: Callable[..., None],
  tensorflow: bool = True,
  takes_preset: bool = False,
  stops_itself: bool = False,
) -> NoReturn:
  """Runs a program: parses its flags, calls `main`, exits.

  A `UserError` becomes one line and exit status 1; what a signal stops exits with 128 + its number.

  Args:
    main: is called once all is set up.
    tensorflow: whether it needs that; one that does not starts in a moment.
    takes_preset: whether it is given what its gin files and bindings say, a `gin_config.Preset`.
    stops_itself: whether it asks `runs.stop_requested`, and saves and ends where a signal came;
      others end at once.
  """
  name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
  brac.is_a_program = True
  app.define_help_flags()
  _print_what_can_be_printed()
  try:
    _check_place()
    rest = FLAGS(sys.argv)[1:]
    if rest:
      raise UserError(f'{rest[0]!r} is no flag; flags read --name=value')
    _check_texts()
    if not tensorflow:
      main()
      sys.exit(0)
    quiet_imports()
    set_up_tensorflow()
    presets = []
    if takes_preset:
      if 'agent_name' in FLAGS and ':' in FLAGS.agent_name:  # whose parameters can be bound then
        agents.load(FLAGS.agent_name)
      presets = [gin_config.parse(list(map(folder, FLAGS.gin_file)), FLAGS.gin_bindings)]
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    for macro in [macro for preset in presets for macro in preset.idle]:
      logging.warning('gin: %s is bound, but no value refers to it', macro)
    import tensorflow as tf

    from brac import runs

    # From 2.17 on it tells the same log how long each save took.
    its_place = os.path.dirname(tf.__file__) + os.sep
    logging.get_absl_logger().addFilter(
      lambda record: record.levelname != 'INFO' or not record.pathname.startswith(its_place)
    )
    runs.catch_stops(at_once=not stops_itself)
    try:
      main(*presets)
      if runs.stop_requested() and not stops_itself:
        runs.stop('it was done before that was seen')
    except runs.Stopped as stopped:
      sys.exit(stopped.exit_status)
    except tf.errors.ResourceExhaustedError as error:
      raise MemoryError(error.message.splitlines()[0]) from error
    finally:
      runs.end_at_stops()
  except KeyboardInterrupt as stop:  # a signal that does not wait for a save
    sys.exit(128 + (stop.args or [signal.SIGINT])[0])
  except (UserError, flags.Error) as error:
    sys.exit(_say(name, error))
  except MemoryError as error:
    sys.exit(_say(name, f'out of memory: {error}'))
  except OSError as error:  # gin, where it has come by, keeps the text and not its parts
    sys.exit(_say(name, re.sub(r'^\[Errno \d+\] ', '', str(error))))
  sys.exit(0)


def _say(name: str, error) -> int:
  print(f'{name}: {gin_config.first_line(str(error).strip())}', file=sys.stderr)
  return getattr(error, 'exit_status', 1)


def _print_what_can_be_printed() -> None:
  """Lets a terminal that knows ASCII alone, say, show the rest by other signs."""

  def replace(error):
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] == '±':
      return '+-', error.start + 1
    return codecs.backslashreplace_errors(error)

  codecs.register_error('brac_replace', replace)
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, 'reconfigure'):  # a notebook's has not
      stream.reconfigure(errors='brac_replace')


def quiet_imports() -> None:
  """Keeps TensorFlow's and pygame's notices off the terminal; they are not about this program."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  warnings.filterwarnings('ignore', message='pkg_resources is deprecated')  # pygame imports it


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


def agent(preset: Preset) -> tuple[str, str]:
  """The agent of a run, and its name in the run's folder.

  Both are `--agent_name`, unless a gin file binds `train_eval_offline.agent_name`. Such a file is a
  preset, and its own name without `.gin` is the second: so that `kl_vp.gin` and `kl_pr.gin`, which
  are of one agent, have folders of their own.

  Raises:
    UserError: there is no such agent, or the flag names another than the preset.
  """
  agent_name, source, name = FLAGS.agent_name, '', '--agent_name'
  if preset.source is not None:
    agent_name = preset.agent_name
    source, name = f'gin: {preset.source}: ', 'train_eval_offline.agent_name'
  try:
    agents.load(agent_name, name)
  except UserError as error:
    raise UserError(f'{source}{error}') from error
  if FLAGS['agent_name'].present and FLAGS.agent_name != agent_name:
    raise UserError(
      f'--agent_name {FLAGS.agent_name}: gin binds train_eval_offline.agent_name to '
      f'{agent_name!r}; leave the flag out'
    )
  return agent_name, preset.name or agents.folder(agent_name)


def refuse_agent_of(preset: Preset) -> None:
  """Raises UserError where a preset names an agent: for the programs that have no such runs."""
  if preset.source is not None:
    raise UserError(
      f'gin: {preset.source} binds train_eval_offline.agent_name: presets are for train_offline'
    )


def refuse_flags(names: Iterable[str], why: str) -> None:
  """Raises UserError where a flag is given that would change nothing."""
  for name in names:
    if FLAGS[name].present:
      raise UserError(f'--{name} {why}')


# Flags that name a file or a folder, anywhere.
_PATHS = (
  *('root_dir', 'data_root_dir', 'policy_root_dir', 'config_dir', 'output_dir', 'data_sub_dir'),
  *('data_file_name', 'checkpoint', 'ship', 'source', 'target', 'describe', 'clone', 'output'),
)
# Those that name a folder within another, and those whose folder has another name than they.
_NAMES = ('sub_dir', 'data_name', 'data_names', 'env_name', 'env_names')
_MAPPED = _NAMES[1:]


def _check_place() -> None:
  """Raises UserError where `python -m train_offline` in one clone would run the code of another."""
  here, installed = map(os.path.dirname, map(os.path.abspath, (sys.argv[0], __file__)))
  is_ours = os.path.isfile(sys.argv[0]) and os.path.basename(here) == 'brac'
  if is_ours and not os.path.samefile(here, installed):
    raise UserError(
      f'{here} is not the code that would run: {installed} is installed; in the folder above, '
      '"pip install --editable ." installs this one'
    )


def _check_texts() -> None:
  """Raises UserError where a flag is no text, or its path can be none, before anything is made."""
  for flag in FLAGS:
    values = FLAGS[flag].value
    for text in values if isinstance(values, list) else [values]:
      if isinstance(text, str):
        _check_text(flag, text)


def _check_text(flag: str, text: str) -> None:
  try:
    text.encode()
  except UnicodeEncodeError:
    raise UserError(f'--{flag} {text!r} is not in UTF-8') from None
  control = re.search(r'[\x00-\x1f\x7f-\x9f\u2028\u2029]', text)
  if control and flag not in ('gin_bindings', 'command'):  # which may have several lines
    raise UserError(
      f'--{flag} {text!r} has the control character {control[0]!r}, as the end of a line '
      'that was written on Windows has; write it without'
    )
  if flag not in (*_PATHS, *_NAMES):
    return
  if not text:
    raise UserError(f'--{flag} is empty: it names a folder or a file')
  if flag in _NAMES and (os.path.isabs(text) or {'.', '..'} & set(text.split('/'))):
    raise UserError(f'--{flag} is the name of a folder within another, not {text!r}')
  path = folder_name(text) if flag in _MAPPED else text
  if any(len(name.encode()) > 255 for name in path.split('/')):
    raise UserError(f'--{flag} {text}: a name in it is longer than 255 bytes')


def folder(path: Optional[str]) -> Optional[str]:
  """A folder or a file that a flag names, with what `~` and `$HOME` stand for.

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
