"""What the programs share: flags, gin, threads, and errors that a person can read."""

import datetime
import difflib
import inspect
import logging as stdlib_logging
import os
import re
import sys
import warnings
from typing import Callable, Iterable, List, NoReturn, Optional, Tuple

from absl import app, flags, logging

from brac.data_config import project_folder
from brac.errors import UserError

FLAGS = flags.FLAGS

# Said here, because importing the agents would make --help wait for TensorFlow.
AGENT_NAMES = ('sac', 'bc', 'bcq', 'brac_primal', 'brac_dual')
ROOT = os.path.join(os.path.expanduser('~'), 'tmp', 'offlinerl')


def define_run_flags() -> None:
  """Defines the flags that every run has."""
  flags.DEFINE_integer(
    'seed', 0, 'Seeds everything that draws a random number.', lower_bound=0, upper_bound=2**59
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


def run(main: Callable[[], None], tensorflow: bool = True) -> NoReturn:
  """Runs a program: parses its flags and gin bindings, calls `main`, exits.

  A `UserError` becomes one line and exit status 1; what a signal stops exits with 128 + its number.
  A program without `tensorflow` starts in a moment; it has no gin bindings, and signals end it.
  """
  name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
  app.define_help_flags()
  try:
    rest = FLAGS(sys.argv)[1:]
    if rest:
      raise UserError(f'{rest[0]!r} is no flag; flags read --name=value')
    _check_paths()
    if not tensorflow:
      main()
      sys.exit(0)
    quiet_imports()
    set_threads()
    if 'gin_file' in FLAGS:
      _parse_gin()
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    from brac import runs

    runs.catch_stops()
    try:
      main()
    except runs.Stopped as stopped:
      sys.exit(stopped.exit_status)
  except KeyboardInterrupt:  # a second signal, which does not wait for a save
    sys.exit(130)
  except (UserError, flags.Error) as error:
    sys.exit(_say(name, error))
  except MemoryError as error:
    sys.exit(_say(name, f'out of memory: {error}'))
  except OSError as error:  # gin, where it has come by, keeps the text and not its parts
    sys.exit(_say(name, re.sub(r'^\[Errno \d+\] ', '', str(error))))
  sys.exit(0)


def _say(name: str, error) -> int:
  # gin adds lines of its own to an error that leaves a configurable; ours is the first.
  print(f'{name}: {str(error).strip().splitlines()[0]}', file=sys.stderr)
  return 1


def quiet_imports() -> None:
  """Keeps TensorFlow's and gym's notices off the terminal; they are not about this program."""
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  warnings.filterwarnings('ignore', message='pkg_resources is deprecated')  # pygame imports it
  from gym_notices import notices

  notices.notices.clear()


def set_threads() -> None:
  """Sets what these networks train fastest with; to be called before TensorFlow is imported."""
  # At these sizes oneDNN's operations cost more than they save: bc is a fifth slower with them.
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
  # And two towers on a thread each are faster than one matrix product on two threads.
  import tensorflow as tf

  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(len(os.sched_getaffinity(0)))


def _parse_gin() -> None:
  import gin

  # Binding a name needs the module that has it.
  from brac import collection, train_eval_offline, train_eval_online  # noqa: F401

  stdlib_logging.disable(stdlib_logging.ERROR)  # gin logs what it raises as well
  for source, parse in [
    *((_gin_file(path), gin.parse_config_file) for path in FLAGS.gin_file),
    *((binding, gin.parse_config) for binding in FLAGS.gin_bindings),
  ]:
    try:
      parse(source)
    except Exception as error:  # a gin file may import what raises anything
      raise UserError(_gin_error(source, str(error).strip())) from error
    # Taken out again, for the next file to show whether it names an agent too.
    bound = gin.config._CONFIG.get(('', 'brac.train_eval_offline.train_eval_offline'), {})
    if 'agent_name' in bound:
      _preset['agent_name'] = bound.pop('agent_name')
      if parse is gin.parse_config_file:
        _preset['name'] = os.path.splitext(os.path.basename(source))[0]
  stdlib_logging.disable(stdlib_logging.NOTSET)
  try:
    gin.finalize()
  except ValueError as error:
    raise UserError(_gin_error('bindings', str(error).strip())) from error
  for (_, selector), bindings in gin.config._CONFIG.items():
    # gin takes any name for a function with **kwargs, as the agents' constructors are.
    names = _parameters(selector)
    for name in bindings:
      if name not in names:
        raise UserError(f'gin: {selector} has no parameter {name!r}{_nearest(name, names)}')


# What the gin files say of the run itself: its `agent_name`, and the `name` of the file with it.
_preset = {}


def agent() -> Tuple[str, str]:
  """The agent of a run, and its name in the run's folder.

  Both are `--agent_name`, unless a gin file binds `train_eval_offline.agent_name`. Such a file is a
  preset, and its own name without `.gin` is the second: so that `kl_vp.gin` and `kl_pr.gin`, which
  are of one agent, have folders of their own.

  Raises:
    UserError: there is no such agent, or the flag names another than the preset.
  """
  agent_name = _preset.get('agent_name', FLAGS.agent_name)
  if agent_name not in AGENT_NAMES:
    hint = _nearest(str(agent_name), AGENT_NAMES)
    raise UserError(f'gin: train_eval_offline.agent_name: unknown agent {agent_name!r}{hint}')
  if FLAGS['agent_name'].present and FLAGS.agent_name != agent_name:
    raise UserError(
      f'--agent_name {FLAGS.agent_name}: gin binds train_eval_offline.agent_name to '
      f'{agent_name!r}; leave the flag out'
    )
  return agent_name, _preset.get('name', agent_name)


def _gin_file(path: str) -> str:
  """The file that a `--gin_file` names: as it stands, or among the project's."""
  configs = project_folder('configs')
  for place in ('', configs, os.path.dirname(configs)):  # the last for configs/kl_vp.gin
    if os.path.isfile(os.path.join(place, path)):
      return os.path.join(place, path)
  presets = [name for name in sorted(os.listdir(configs)) if name.endswith('.gin')]
  near = _nearest(os.path.basename(path), presets)
  raise UserError(f'--gin_file {path}: there is no such file, nor a preset of that name{near}')


def _gin_error(source: str, message: str) -> str:
  """gin's error, with the nearest real name where it is about a name."""
  unknown = re.search(r"No configurable matching '([\w./]+)'", message)
  if unknown:
    ours = [s.split('.')[1:] for s in _registry() if s.startswith('brac.')]
    names = {'.'.join(parts[-k:]) for parts in ours for k in (1, 2)}
    return f'gin: there is no {unknown[1]!r}{_nearest(unknown[1], sorted(names))}'
  parameter = re.search(r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message)
  if parameter:
    selector, name = parameter.groups()
    return f'gin: {selector} has no parameter {name!r}{_nearest(name, _parameters(selector))}'
  denied = re.search(r"Configurable '([\w.]+)' has denylisted kwarg '(\w+)'", message)
  if denied:
    return f'gin: {denied[1]}.{denied[2]} is not for gin to bind: a flag of the program sets it'
  return f'gin: {source}: {" ".join(message.split())}'


def _registry():
  from gin import config

  return dict(config._REGISTRY.items())


def _parameters(selector: str) -> List[str]:
  """The parameters of a configurable that can be bound."""
  from gin import config

  configurable = config._REGISTRY.get_match(selector)
  parameters = inspect.signature(configurable.wrapped).parameters.values()
  denied = configurable.denylist or ()
  return [p.name for p in parameters if p.kind != p.VAR_KEYWORD and p.name not in denied]


def _nearest(name: str, names: Iterable[str]) -> str:
  near = difflib.get_close_matches(name, names, 1, 0.3)
  return f'; did you mean {near[0]!r}?' if near else ''


# Flags that name a file or a folder, anywhere.
_PATHS = (
  *('root_dir', 'data_root_dir', 'policy_root_dir', 'config_dir', 'output_dir', 'data_sub_dir'),
  *('data_file_name', 'checkpoint', 'ship'),
)
# Those that name a folder within another.
_NAMES = ('sub_dir', 'data_name')


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
