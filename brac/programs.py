"""What the programs share: flags, gin, threads, and errors that a person can read."""

import copy
import datetime
import difflib
import inspect
import logging as stdlib_logging
import os
import re
import signal
import sys
import textwrap
import warnings
from typing import Callable, Iterable, List, NoReturn, Optional, Sequence, Tuple

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
    rest = FLAGS(sys.argv)[1:]
    if rest:
      raise UserError(f'{rest[0]!r} is no flag; flags read --name=value')
    _check_paths()
    if not tensorflow:
      main()
      sys.exit(0)
    quiet_imports()
    set_threads()
    unused = []
    if experiment:
      _parse_gin(FLAGS.gin_file, FLAGS.gin_bindings)
      agent_name = agent()[0] if 'agent_name' in FLAGS else None
      unused = _unused(experiment, agent_name, FLAGS.gin_bindings)
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    for name_bound in unused:
      logging.warning('gin: %s is bound, but nothing in this run uses it', name_bound)
    import tensorflow as tf

    from brac import runs

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
  print(f'{name}: {_first_line(str(error).strip())}', file=sys.stderr)
  return 1


def _first_line(message: str) -> str:
  """The line of an error that is ours; gin adds one for each configurable that the error leaves.

  A line that begins with a parameter gets the selector of the outermost of them: an agent does not
  know which experiment has its parameters.
  """
  line, *calls = message.splitlines()
  left = re.findall(r"In call to configurable '(\w+)'", ''.join(calls))
  parameter = re.match(r'\w*', line)[0]
  return f'{left[-1]}.{line}' if left and parameter in _parameters(left[-1]) else line


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


def _parse_gin(gin_files: Sequence[str], gin_bindings: Sequence[str]) -> None:
  """Takes up gin files, then bindings; an error of theirs is a UserError."""
  import gin

  # Binding a name needs the module that has it.
  from brac import collection, train_eval_offline, train_eval_online  # noqa: F401

  config = gin.config._CONFIG
  _preset.clear()
  stdlib_logging.disable(stdlib_logging.ERROR)  # gin logs what it raises as well
  for source, parse in [
    *((_gin_file(path), gin.parse_config_file) for path in gin_files),
    *((binding, gin.parse_config) for binding in gin_bindings),
  ]:
    try:
      parse(source)
    except RecursionError:  # as deep as its message is nested, so that this cannot be read
      raise UserError(f'gin: {source} includes itself') from None
    except (Exception, SystemExit) as error:  # a gin file may import what raises anything
      raise UserError(_gin_error(source, error)) from error
    for (_, selector), bindings in config.items():
      # gin takes any name for a function with **kwargs, as the agents' constructors are.
      names = _parameters(selector)
      for name in bindings:
        if name not in names:
          of = f' in {source}' if parse is gin.parse_config_file else ''
          hint = _nearest(name, names)
          raise UserError(f'gin: {_short(selector)} has no parameter {name!r}{of}{hint}')
    # Taken out again, for the next file to show whether it names an agent too.
    bound = config.get(('', 'brac.train_eval_offline.train_eval_offline'), {})
    if 'agent_name' in bound:
      _preset.update(agent_name=bound.pop('agent_name'), source=source)
      if parse is gin.parse_config_file:
        _preset['name'] = os.path.splitext(os.path.basename(source))[0]
  stdlib_logging.disable(stdlib_logging.NOTSET)
  if _preset:
    gin.bind_parameter('train_eval_offline.agent_name', _preset['agent_name'])
  try:
    gin.finalize()
  except ValueError as error:
    raise UserError(_gin_error('bindings', error)) from error
  for (_, selector), bindings in config.items():
    for name, value in bindings.items():
      try:
        copy.deepcopy(value)  # which is how gin calls the functions that a value names
      except (Exception, SystemExit) as error:
        raise UserError(_gin_error(f'{_short(selector)}.{name}', error)) from error
  if _preset:
    _preset['agent_name'] = copy.deepcopy(_preset['agent_name'])


# What the gin files say of the run itself: its `agent_name`, the `source` that says it, and the
# `name` of the file that does.
_preset = {}

# The divergences' own parameters, by the agents that have the divergences.
_OF_DIVERGENCES = {
  'brac_primal': ('mmd', 'laplacian_kernel'),
  'brac_dual': ('gradient_penalty',),
}


def _unused(experiment: str, agent_name: Optional[str], gin_bindings: Sequence[str]) -> List[str]:
  """What is bound and not for this run: of a file or a script that serves several, or mistaken.

  Raises:
    UserError: the mistake is plain.
  """
  import gin

  if _preset and experiment != 'train_eval_offline':
    raise UserError(
      f'gin: {_preset["source"]} binds train_eval_offline.agent_name: presets are for train_offline'
    )
  used = [experiment, 'physics']
  if agent_name:
    used += [f'{agent_name}_agent.Agent', *_OF_DIVERGENCES.get(agent_name, ())]
  config = gin.config._CONFIG
  macros = gin.config.iterate_references(config, to=gin.get_configurable(gin.config.macro))
  called = {reference.config_key for reference in macros}
  unused = []
  for (scope, selector), bindings in config.items():
    if selector == 'gin.macro' and (scope, selector) not in called:
      unused.append(scope)
      # In a file it may be the value of what a later binding binds to another.
      if any(binding.partition('=')[0].strip() == scope for binding in gin_bindings):
        names = {name: f'{s}.{name}' for s in reversed(used) for name in _parameters(s)}
        near = difflib.get_close_matches(scope, names, 1)
        hint = f'; did you mean {names[near[0]]}?' if near else ''
        raise UserError(f'gin: {scope!r} names no parameter, and no value has it as %{scope}{hint}')
    elif selector.startswith('brac.') and (scope or _short(selector) not in used):
      place = f'{scope}/{_short(selector)}' if scope else _short(selector)
      unused += [f'{place}.{name}' for name in bindings]
  return unused


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
    there = ', '.join(map(repr, AGENT_NAMES))
    raise UserError(
      f'gin: {_preset["source"]}: unknown agent {agent_name!r}; train_eval_offline.agent_name is '
      f'one of {there}{_nearest(str(agent_name), AGENT_NAMES)}'
    )
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
  if os.path.exists(path):
    what = 'a folder' if os.path.isdir(path) else 'no regular file'
    raise UserError(f'--gin_file {path} is {what}; it names a file, or a preset such as kl_vp.gin')
  presets = [name for name in sorted(os.listdir(configs)) if name.endswith('.gin')]
  near = _nearest(os.path.basename(path), presets)
  raise UserError(f'--gin_file {path}: there is no such file, nor a preset of that name{near}')


def _gin_error(source: str, error: BaseException) -> str:
  """gin's error: its place in a file, and the nearest real name where it is about a name."""
  message = str(error).strip()
  if isinstance(error, SystemExit):
    message = f'SystemExit({message})'
  place = re.search(r'In file "(.*)", line (\d+)', message)
  where = f'gin: {place[1]}:{place[2]}: ' if place else 'gin: '
  unknown = re.search(r"No configurable matching '([\w./]+)'", message)
  if unknown:
    ours = [s.split('.')[1:] for s in _registry() if s.startswith('brac.')]
    names = {'.'.join(parts[-k:]) for parts in ours for k in (1, 2)}
    return f'{where}there is no {unknown[1]!r}{_nearest(unknown[1], sorted(names))}'
  parameter = re.search(r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message)
  if parameter:
    selector, name = parameter.groups()
    return f'{where}{selector} has no parameter {name!r}{_nearest(name, _parameters(selector))}'
  denied = re.search(r"Configurable '([\w.]+)' has denylisted kwarg '(\w+)'", message)
  if denied:
    by = f'the flag --{denied[2]}' if denied[2] in FLAGS else 'the program'
    return f'{where}{denied[1]}.{denied[2]} is not for gin to bind: {by} sets it'
  if place:  # what follows is the way there, over the files that include it
    return where + message.splitlines()[0]
  return textwrap.shorten(f'gin: {source}: {message}', 500, placeholder=' ...')


def _registry():
  from gin import config

  return dict(config._REGISTRY.items())


def _short(selector: str) -> str:
  """What of a selector is enough to bind by."""
  from gin import config

  return config._REGISTRY.minimal_selector(selector)


def _parameters(selector: str) -> List[str]:
  """The parameters of a configurable that can be bound."""
  from gin import config

  configurable = config._REGISTRY.get_match(selector)
  parameters = inspect.signature(configurable.wrapped).parameters.values()
  denied = configurable.denylist or ()
  return [p.name for p in parameters if p.kind != p.VAR_KEYWORD and p.name not in denied]


def _nearest(name: str, names: Iterable[str]) -> str:
  near = difflib.get_close_matches(name, names, 1)
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
