"""What gin files and bindings say of a run, and what is wrong with them in a user's words."""

import contextlib
import copy
import dataclasses
import difflib
import inspect
import logging
import os
import re
import textwrap
from typing import Collection, Iterable, Iterator, Optional, Sequence

import gin
from absl import flags

from brac import agents, operative
from brac.data_config import project_folder
from brac.errors import UserError, nearest, quiet

FLAGS = flags.FLAGS

_CONFIG = gin.config._CONFIG  # gin's own: {(scope, selector): {parameter: value}}
_MACRO = 'gin.macro'
# What says of an environment what it is; and which of a dataset's rows a run is trained on, and in
# which order their numbers stand.
OF_ENVIRONMENTS = 'dict_observations', 'physics'
OF_DATA = re.compile(
  rf'({"|".join(OF_ENVIRONMENTS)})\.\w+|train_eval_offline\.'
  '(out_of_box_actions|shuffle_steps|use_seed_for_data|validation_fraction)'
)


class IdleBinding(UserError):
  """A binding of a macro that no value refers to.

  Attributes:
    name: the macro's.
  """

  def __init__(self, message: str, name: str):
    super().__init__(message)
    self.name = name


@dataclasses.dataclass(frozen=True)
class Preset:
  """What gin files and bindings say.

  Attributes:
    agent_name: the agent that they name, by `train_eval_offline.agent_name`; None: none.
    name: of the gin file that names it, without `.gin`; None where a binding alone does.
    source: the file or the binding that names it.
    bound: the values by their names in `operative_config.gin`, those of macros in their places.
    macros: the values of macros, by their names.
    idle: the macros that no value refers to, nor did before it was bound to another.
  """

  agent_name: Optional[str] = None
  name: Optional[str] = None
  source: Optional[str] = None
  bound: dict[str, object] = dataclasses.field(default_factory=dict)
  macros: dict[str, object] = dataclasses.field(default_factory=dict)
  idle: tuple[str, ...] = ()


def parse(gin_files: Sequence[str], gin_bindings: Sequence[str]) -> Preset:
  """Binds what gin files say, then bindings; what was bound or asked for before is forgotten.

  Raises:
    UserError: one of them cannot be understood. Then nothing is bound.
  """
  import_all()
  gin.clear_config()
  operative.bound_by_hand.clear()
  try:
    # gin logs what it raises as well.
    with quiet(logging.ERROR), _includes() as called_before:
      return _parse(gin_files, gin_bindings, called_before)
  except BaseException:
    gin.clear_config()
    raise


def _parse(
  gin_files: Sequence[str], gin_bindings: Sequence[str], called_before: Collection[str]
) -> Preset:
  agent = {}
  for source, parser in [
    *((_find(path), gin.parse_config_file) for path in gin_files),
    *((binding, gin.parse_config) for binding in gin_bindings),
  ]:
    is_file = parser is gin.parse_config_file
    try:
      parser(source)
    except (Exception, SystemExit) as error:  # a gin file may import what raises anything
      raise UserError(_gin_error(source, error)) from error
    _check_parameters(f' in {source}' if is_file else '')
    _take_agent(agent, source, is_file)
  if agent:
    gin.bind_parameter('train_eval_offline.agent_name', agent['agent_name'])
    if ':' in str(agent['agent_name']):  # of one's own, whose parameters bindings may name
      agents.load(agent['agent_name'])
  try:
    with gin.unlock_config():  # a locked one refuses modules that are imported or reloaded later
      gin.finalize()
  except ValueError as error:
    raise UserError(_gin_error('bindings', error)) from error
  called = _called_macros()
  _put_macros_values()
  macros = operative.macros()
  for scope, name, parameter in _names_in(gin_bindings):
    if not parameter and name in macros.keys() - called:
      raise IdleBinding(_idle_binding(name, macros.keys() & called), name)
    operative.bound_by_hand += [
      ((scope, selector), parameter)
      for (within, selector), bindings in _CONFIG.items()
      if within == scope and f'.{selector}'.endswith(f'.{name}') and parameter in bindings
    ]
  bound = {
    f'{short(selector)}.{name}': copy.deepcopy(value)
    for (scope, selector), bindings in _CONFIG.items()
    if not scope and selector != _MACRO
    for name, value in bindings.items()
  }
  for name in macros.keys() - called:
    del _CONFIG[name, _MACRO]  # its value is nobody's, so that nothing shows it as a run's
  if agent:
    agent['agent_name'] = bound['train_eval_offline.agent_name']
  idle = tuple(name for name in macros if name not in called and name not in called_before)
  return Preset(**agent, bound=bound, macros=macros, idle=idle)


def _check_parameters(where: str) -> None:
  """Raises UserError where what is bound has no such parameter."""
  # gin takes any name for a function with **kwargs, as the agents' constructors are.
  for (_, selector), bindings in _CONFIG.items():
    names = parameters(selector)
    for name in bindings:
      if name not in names:
        hint = nearest(name, names)
        raise UserError(f'gin: {short(selector)} has no parameter {name!r}{where}{hint}')


def _take_agent(agent: dict[str, object], source: str, is_file: bool) -> None:
  """Notes the agent that a source names, and takes it out, for the next to show whether it does."""
  for (scope, selector), bindings in _CONFIG.items():
    if not scope and short(selector) == 'train_eval_offline' and 'agent_name' in bindings:
      named, before = bindings.pop('agent_name'), agent.get('agent_name')
      if not is_file and 'name' in agent and named != before:  # the run's folder would say this
        raise UserError(
          f'gin: {source}: {agent["name"]}.gin, which names the run, is of {before!r}; a gin '
          'file of your own names another'
        )
      agent.update(agent_name=named, source=source)
      if is_file:
        agent['name'] = os.path.splitext(os.path.basename(source))[0]


def _put_macros_values() -> None:
  """Binds what refers to macros alone to their values, so that these are written down of a run."""
  for (_, selector), bindings in _CONFIG.items():
    for name, value in bindings.items():
      try:
        copied = copy.deepcopy(value)  # which is how gin calls the functions that a value names
      except (Exception, SystemExit) as error:
        raise UserError(_gin_error(f'{short(selector)}.{name}', error)) from error
      references = list(gin.config.iterate_references(value))
      if references and all(r.configurable.wrapped is gin.config.macro for r in references):
        bindings[name] = copied


class _NoValues(gin.config_parser.ParserDelegate):
  """Reads what values refer to, and makes nothing of it."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    return None

  def macro(self, macro_name):
    return None


def _names_in(gin_bindings: Sequence[str]) -> Iterator[tuple[str, str, str]]:
  """What bindings bind: scope, selector and parameter; of a macro its name, and no parameter."""
  for binding in gin_bindings:
    for statement in gin.config_parser.ConfigParser(binding, _NoValues()):
      if isinstance(statement, gin.config_parser.BindingStatement):
        scope, name, parameter, *_ = statement
        is_macro = not parameter  # of which gin makes the scope a part of the name
        yield ('', f'{scope}/{name}'.lstrip('/'), '') if is_macro else (scope, name, parameter)


def without_macro(gin_bindings: Sequence[str], name: str) -> list[str]:
  """The bindings but for those that bind a macro alone."""
  return [x for x in gin_bindings if [('', name, '')] != list(_names_in([x]))]


def _called_macros() -> set[str]:
  """The macros that values refer to now."""
  macro = gin.get_configurable(gin.config.macro)
  references = gin.config.iterate_references(_CONFIG, to=macro)
  return {name for name, _ in (reference.config_key for reference in references)}


def first_line(message: str) -> str:
  """The line of an error that is ours; gin adds one for each configurable that the error leaves.

  A line that begins with a parameter gets the selector of the outermost of them: an agent does not
  know which experiment has its parameters.
  """
  line, *calls = message.splitlines()
  left = re.findall(r"In call to configurable '(\w+)' \((?:<class '([\w.]+)'>)?", ''.join(calls))
  name, path = left[-1] if left else ('', '')  # of a class also where it is: several are an Agent
  found = gin.config._REGISTRY.matching_selectors(path or name)
  parameter = re.match(r'\w*', line)[0]
  if len(found) != 1 or parameter not in parameters(found[0]):
    return line
  return f'{short(found[0])}.{line}'


# --- Names ----------------------------------------------------------------------------------------


def import_all() -> None:
  """Imports what has parameters: they can be bound once the module that has them is there."""
  from brac import collection, train_eval_offline, train_eval_online  # noqa: F401


def configurables() -> dict[str, object]:
  """The project's functions and classes that gin binds parameters of, by their whole selectors."""
  found = gin.config._REGISTRY.items()
  return {selector: c.wrapped for selector, c in found if selector.startswith('brac.')}


def parameters(selector: str) -> dict[str, inspect.Parameter]:
  """The parameters of a configurable that can be bound."""
  configurable = gin.config._REGISTRY.get_match(selector)
  denied = configurable.denylist or ()
  return {
    name: p
    for name, p in inspect.signature(configurable.wrapped).parameters.items()
    if p.kind != p.VAR_KEYWORD and name not in denied
  }


def default(name: str) -> Optional[str]:
  """The default of one of our parameters, as gin writes it; None where it is none or has none."""
  import_all()
  selector, _, parameter = name.rpartition('.')
  ours = {short(whole) for whole in configurables()}
  known = parameters(selector) if selector in ours else {}
  value = known[parameter].default if parameter in known else inspect.Parameter.empty
  return None if value is inspect.Parameter.empty else repr(value)


def short(selector: str) -> str:
  """What of a selector is enough to bind by."""
  return gin.config._REGISTRY.minimal_selector(selector)


# --- Files ----------------------------------------------------------------------------------------


def _find(path: str, reading: Sequence[str] = ()) -> str:
  """The gin file that a path names.

  A `--gin_file` is looked for as it stands, then among the project's. What a file includes is
  looked for beside that file, then among the project's, then as it stands: a file of one's own may
  have the name of the preset that it includes, and a copied folder of presets is one of its own.

  Args:
    path: what the flag or the include says.
    reading: the files that include one another down to here. A file does not include itself.

  Raises:
    UserError: there is none.
  """
  configs = project_folder('configs')
  own = os.path.dirname(reading[-1]) if reading else ''
  includes_itself = False
  for place in (own, configs, os.path.dirname(configs), ''):  # the third for configs/kl_vp.gin
    found = os.path.abspath(os.path.join(place, path))
    if os.path.isfile(found):
      if not any(os.path.samefile(found, other) for other in reading):
        return found
      includes_itself = True
  what = f'include {path!r}' if reading else f'--gin_file {path}'
  if includes_itself:
    raise UserError(f'{what}: the file includes itself')
  if os.path.exists(os.path.join(own, path)):
    is_a = 'a folder' if os.path.isdir(os.path.join(own, path)) else 'no regular file'
    raise UserError(f'{what} is {is_a}; it names a file, or a preset such as kl_vp.gin')
  presets = [os.path.join(root, n) for root, _, names in os.walk(configs) for n in names]
  presets = sorted(os.path.relpath(p, configs) for p in presets if p.endswith('.gin'))
  near = nearest(path, presets) or nearest(os.path.basename(path), presets)
  raise UserError(f'{what}: there is no such file, nor a preset of that name{near}')


@contextlib.contextmanager
def _includes() -> Iterator[set[str]]:
  """Lets gin find files by `_find`, and read them whatever mark an editor begins them with.

  Yields:
    The macros that values referred to where one of the files so far ended.
  """
  reading, called = [], set()

  @contextlib.contextmanager
  def read(path):
    reading.append(_find(path, reading))
    try:
      with open(reading[-1], encoding='utf-8-sig') as f:
        yield f
      called.update(_called_macros())
    finally:
      reading.pop()

  readers, prefixes = gin.config._FILE_READERS, gin.config._LOCATION_PREFIXES
  before = readers[:], prefixes[:]
  readers[:], prefixes[:] = [(read, lambda path: True)], ['']
  try:
    yield called
  finally:
    readers[:], prefixes[:] = before


# --- Mistakes -------------------------------------------------------------------------------------


def _idle_binding(name: str, macros: Iterable[str]) -> str:
  """That a binding names a macro that no value refers to: mistyped, or without its selector."""
  bound = {selector for _, selector in _CONFIG}
  named = {}  # what has each name, and whether it is a part of the run as far as one can tell
  for macro in sorted(macros):
    named.setdefault(macro.lower(), []).append((macro, True))
  for selector in configurables():
    for parameter in parameters(selector):
      place = f'{short(selector)}.{parameter}', selector in bound
      named.setdefault(parameter.lower(), []).append(place)
  likely = [n for n, places in named.items() if any(is_part for _, is_part in places)]
  near = [n for n in (name.lower(),) if n in named]
  near = near or difflib.get_close_matches(name.lower(), likely or named, 1)
  places = named[near[0]] if near else []
  places = [place for place, is_part in places if is_part] or [place for place, _ in places]
  hint = f'; did you mean {" or ".join(places)}?' if places else ''
  return f'gin: {name!r} names no parameter, and no value has it as %{name}{hint}'


def _gin_error(source: str, error: BaseException) -> str:
  """gin's error: its place in a file, and the nearest real name where it is about a name."""
  message = str(error).strip()
  if isinstance(error, SystemExit):
    message = f'SystemExit({message})'
  place = re.search(r'In file "(.*)", line (\d+)', message)
  where = f'gin: {place[1]}:{place[2]}: ' if place else 'gin: '
  unknown = re.search(r"No configurable matching '([\w./]+)'", message)
  if unknown:
    parts = [selector.split('.')[1:] for selector in configurables()]
    names = {'.'.join(p[-k:]) for p in parts for k in (1, 2)}
    return f'{where}there is no {unknown[1]!r}{nearest(unknown[1], sorted(names))}'
  parameter = re.search(r"Configurable '([\w.]+)' doesn't have a parameter named '(\w+)'", message)
  if parameter:
    selector, name = parameter.groups()
    return f'{where}{selector} has no parameter {name!r}{nearest(name, parameters(selector))}'
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
  macro = re.search(r"No bindings specified for '([\w./]+)/gin\.macro'", message)
  if macro:
    return f'{where}%{macro[1]} has no value{nearest(macro[1], operative.macros())}'
  # Not where what is imported is there, and itself imports what is not.
  not_found = re.match(r"No module named '([\w.]+)'\n.*\n *(?:import|from) \1\b", message)
  hint = '; start from its folder, or put that on PYTHONPATH' if not_found else ''
  if place:  # what follows is the way there, over the files that include it
    return where + message.splitlines()[0] + hint
  return textwrap.shorten(f'gin: {source}: {message}', 500, placeholder=' ...')
