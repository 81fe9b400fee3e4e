"""What gin files and bindings say of a run, and what is wrong with them in a user's words."""

import copy
import difflib
import inspect
import logging as stdlib_logging
import os
import re
import textwrap
from typing import Container, Dict, Iterable, List, Optional, Sequence

from absl import flags

from brac import agents
from brac.data_config import project_folder
from brac.errors import UserError

FLAGS = flags.FLAGS

# What the gin files say of the run itself: its `agent_name`, the `source` that says it, and the
# `name` of the file that does.
preset = {}
_called_macros = set()  # by their keys in gin's configuration


def parse(gin_files: Sequence[str], gin_bindings: Sequence[str]) -> None:
  """Takes up gin files, then bindings; an error of theirs is a UserError."""
  import gin

  # Binding a name needs the module that has it.
  from brac import collection, train_eval_offline, train_eval_online  # noqa: F401

  config = gin.config._CONFIG
  preset.clear()
  files = [_gin_file(path) for path in gin_files]
  # Where what a file includes is looked for: among the presets, so that a file of one's own may have
  # the name of the preset that it includes; then in the folder one stands in, and beside the files.
  own = [os.path.dirname(path) for path in files]
  gin.config._LOCATION_PREFIXES[:] = list(dict.fromkeys([project_folder('configs'), '', *own]))
  stdlib_logging.disable(stdlib_logging.ERROR)  # gin logs what it raises as well
  for source, parser in [
    *((path, gin.parse_config_file) for path in files),
    *((binding, gin.parse_config) for binding in gin_bindings),
  ]:
    try:
      parser(source)
    except RecursionError:  # as deep as its message is nested, so that this cannot be read
      raise UserError(f'gin: {source} includes itself') from None
    except (Exception, SystemExit) as error:  # a gin file may import what raises anything
      raise UserError(_gin_error(source, error)) from error
    for (_, selector), bindings in config.items():
      # gin takes any name for a function with **kwargs, as the agents' constructors are.
      names = _parameters(selector)
      for name in bindings:
        if name not in names:
          of = f' in {source}' if parser is gin.parse_config_file else ''
          hint = nearest(name, names)
          raise UserError(f'gin: {_short(selector)} has no parameter {name!r}{of}{hint}')
    # Taken out again, for the next file to show whether it names an agent too.
    bound = config.get(('', 'brac.train_eval_offline.train_eval_offline'), {})
    if 'agent_name' in bound:
      preset.update(agent_name=bound.pop('agent_name'), source=source)
      if parser is gin.parse_config_file:
        preset['name'] = os.path.splitext(os.path.basename(source))[0]
  stdlib_logging.disable(stdlib_logging.NOTSET)
  if preset:
    gin.bind_parameter('train_eval_offline.agent_name', preset['agent_name'])
    if ':' in str(preset['agent_name']):  # before gin's registry is closed
      agents.load(preset['agent_name'])
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
  if preset:
    preset['agent_name'] = copy.deepcopy(preset['agent_name'])
  _resolve_macros()


def _resolve_macros() -> None:
  """Puts the values of macros in their places, so that what is written down of a run has them."""
  import gin

  config, macro = gin.config._CONFIG, gin.get_configurable(gin.config.macro)
  _called_macros.clear()
  _called_macros.update(r.config_key for r in gin.config.iterate_references(config, to=macro))
  for bindings in config.values():
    for name, value in bindings.items():
      references = list(gin.config.iterate_references(value))
      if references and all(r.configurable.wrapped is gin.config.macro for r in references):
        bindings[name] = copy.deepcopy(value)


def unused(experiment: str, agent_name: Optional[str], gin_bindings: Sequence[str]) -> List[str]:
  """What is bound and not for this run: of a file or a script that serves several, or mistaken.

  Raises:
    UserError: the mistake is plain.
  """
  import gin

  if preset and experiment != 'train_eval_offline':
    raise UserError(
      f'gin: {preset["source"]} binds train_eval_offline.agent_name: presets are for train_offline'
    )
  used = [experiment, 'physics']
  if agent_name:  # which of them are idle, `idle` knows later
    modules = agents.load(agent_name).gin_modules()
    used += [_short(s) for s in _registry() if s.rpartition('.')[0] in modules]
  config = gin.config._CONFIG
  found = []
  for (scope, selector), bindings in config.items():
    if selector == 'gin.macro' and (scope, selector) not in _called_macros:
      found.append(scope)
      # In a file it may be the value of what a later binding binds to another.
      if any(binding.partition('=')[0].strip() == scope for binding in gin_bindings):
        names = {name: f'{s}.{name}' for s in reversed(used) for name in _parameters(s)}
        near = difflib.get_close_matches(scope, names, 1)
        hint = f'; did you mean {names[near[0]]}?' if near else ''
        raise UserError(f'gin: {scope!r} names no parameter, and no value has it as %{scope}{hint}')
    elif selector.startswith('brac.') and (scope or _short(selector) not in used):
      place = f'{scope}/{_short(selector)}' if scope else _short(selector)
      found += [f'{place}.{name}' for name in bindings]
  return found


def idle(modules: Container[str]) -> List[str]:
  """What is bound of these modules, and was not asked for while the training loop was compiled."""
  import gin

  called = gin.config._OPERATIVE_CONFIG
  return [
    f'{_short(selector)}.{name}'
    for (scope, selector), bindings in gin.config._CONFIG.items()
    if selector.rpartition('.')[0] in modules and (scope, selector) not in called
    for name in bindings
  ]


def bound() -> Dict[str, object]:
  """The values that are bound now, by the names that `operative_config.gin` has for them."""
  import gin

  return {
    f'{_short(selector)}.{name}': copy.deepcopy(value)
    for (scope, selector), bindings in gin.config._CONFIG.items()
    if not scope and not selector.startswith('gin.')
    for name, value in bindings.items()
  }


def first_line(message: str) -> str:
  """The line of an error that is ours; gin adds one for each configurable that the error leaves.

  A line that begins with a parameter gets the selector of the outermost of them: an agent does not
  know which experiment has its parameters.
  """
  line, *calls = message.splitlines()
  left = re.findall(r"In call to configurable '(\w+)'", ''.join(calls))
  parameter = re.match(r'\w*', line)[0]
  return f'{left[-1]}.{line}' if left and parameter in _parameters(left[-1]) else line


def _gin_file(path: str) -> str:
  """The file that a `--gin_file` names: as it stands, or among the project's."""
  configs = project_folder('configs')
  for place in ('', configs, os.path.dirname(configs)):  # the last for configs/kl_vp.gin
    if os.path.isfile(os.path.join(place, path)):
      return os.path.abspath(os.path.join(place, path))
  if os.path.exists(path):
    what = 'a folder' if os.path.isdir(path) else 'no regular file'
    raise UserError(f'--gin_file {path} is {what}; it names a file, or a preset such as kl_vp.gin')
  presets = [name for name in sorted(os.listdir(configs)) if name.endswith('.gin')]
  near = nearest(os.path.basename(path), presets)
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
    return f'{where}there is no {unknown[1]!r}{nearest(unknown[1], sorted(names))}'
  parameter = re.search(r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message)
  if parameter:
    selector, name = parameter.groups()
    return f'{where}{selector} has no parameter {name!r}{nearest(name, _parameters(selector))}'
  denied = re.search(r"Configurable '([\w.]+)' has denylisted kwarg '(\w+)'", message)
  if denied:
    by = f'the flag --{denied[2]}' if denied[2] in FLAGS else 'the program'
    return f'{where}{denied[1]}.{denied[2]} is not for gin to bind: {by} sets it'
  token = re.search(r"Failed to parse token '(\w+)'", message)
  if token:
    of = '' if place else f'{source}: '
    return (
      f"{where}{of}{token[1]} is no value: a text stands in quotes, as '{token[1]}'; the others "
      'are numbers, True, False, None, tuples and lists'
    )
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


def nearest(name: str, names: Iterable[str]) -> str:
  """What an error says where a name is likely to be meant for another; else nothing."""
  near = difflib.get_close_matches(name, names, 1)
  return f'; did you mean {near[0]!r}?' if near else ''
