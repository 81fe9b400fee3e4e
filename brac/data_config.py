"""Data configs: which policies a dataset is collected with, and how much with each.

A data config is a Python file with a function `get_data_config(env_name, policy_root_dir=None)`
that returns a list of `[name, policy_cfg, proportion]`; `policy_loader` has the `policy_cfg`s.
"""

import contextlib
import importlib
import importlib.util
import os
import sys
import traceback
from typing import Iterator, NamedTuple, Optional

from brac.errors import UserError, nearest

_HERE = os.path.dirname(os.path.abspath(__file__))


class Part(NamedTuple):
  """A line of a data config."""

  name: str
  policy_cfg: list
  proportion: float


def project_folder(name: str) -> str:
  """`configs` or `trained_policies`: inside the package once installed, beside it in a checkout."""
  installed = os.path.join(_HERE, name)
  return installed if os.path.isdir(installed) else os.path.join(os.path.dirname(_HERE), name)


def folder_name(name: str) -> str:
  """The folder of an environment, or of data, that has a name.

  `lab/Point-v0` and `d4rl/medium` have one folder each, `lab--Point-v0` and `d4rl--medium`: what
  looks for runs by the depth of their folders finds them all.
  """
  return name.strip('/').replace('/', '--')


def shipped_policy(env_name: str, policy_root_dir: Optional[str] = None) -> str:
  """`agent_partial_target` of an environment among the shipped policies, or those in a folder."""
  root = policy_root_dir or project_folder('trained_policies')
  return os.path.join(os.path.expanduser(root), folder_name(env_name), 'agent_partial_target')


def find(config_dir: Optional[str], config_file: str) -> str:
  """The path of a data config.

  Args:
    config_dir: a folder or a dotted module name; the project's `configs` by default.
    config_file: the module's name, with or without `.py`.

  Raises:
    UserError: there is none.
  """
  name = config_file[:-3] if config_file.endswith('.py') else config_file
  folder = os.path.expanduser(config_dir or project_folder('configs'))
  if not os.path.isdir(folder):
    try:
      with _without_bytecode():
        package = importlib.import_module(config_dir)
      folder = list(package.__path__)[0]
    except (Exception, SystemExit) as error:  # a user's package may raise anything
      if isinstance(error, ModuleNotFoundError) and config_dir.startswith(str(error.name)):
        error = 'no such folder, nor a package of that name'
      elif isinstance(error, (AttributeError, TypeError, ValueError)):
        error = 'no such folder, and no package'
      raise UserError(f'--config_dir {config_dir}: {error}') from None
  path = os.path.join(folder, name + '.py')
  if not os.path.isfile(path):
    files = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    there = [f[:-3] for f in files if f.startswith('dcfg_') and f.endswith('.py')]
    but = ', but a folder' if os.path.isdir(path) else ''
    raise UserError(
      f'no data config {path}{but}; there are {", ".join(there) or "none"}{nearest(name, there, 0)}'
    )
  return path


def load(path: str, env_name: str, policy_root_dir: Optional[str]) -> list[Part]:
  """Reads the data config that `find` found.

  Args:
    path: the file.
    env_name: given to the config.
    policy_root_dir: given to the config.

  Raises:
    UserError: it fails, or what it returns does not read as it should.
  """
  folder, name = os.path.split(path)
  spec = importlib.util.spec_from_file_location(name[:-3], path)
  module = importlib.util.module_from_spec(spec)
  sys.path.insert(0, folder)  # a data config may import what stands beside it
  before = set(sys.modules)
  try:
    with _without_bytecode():
      spec.loader.exec_module(module)
      if not hasattr(module, 'get_data_config'):
        raise UserError(f'{path} has no function get_data_config(env_name, policy_root_dir)')
      lines = module.get_data_config(env_name, policy_root_dir)
  except (UserError, KeyboardInterrupt):
    raise
  except BaseException as error:  # a user's file may raise anything
    raise UserError(_own_line(path, error)) from error
  finally:
    sys.path.remove(folder)
    # Another folder's config may have another module of the same name beside it.
    for new in set(sys.modules) - before:
      if os.path.dirname(getattr(sys.modules[new], '__file__', None) or '') == folder:
        del sys.modules[new]
  if not isinstance(lines, (list, tuple)) or not lines:
    raise UserError(
      f'{path}: get_data_config returns a list of [name, policy_cfg, proportion], not {lines!r}'
    )
  parts = []
  for line in lines:
    if not isinstance(line, (list, tuple)) or len(line) != 3:
      raise UserError(f'{path}: a line reads [name, policy_cfg, proportion], not {line!r}')
    parts.append(Part(*line))
    name, _, share = parts[-1]
    if not isinstance(name, str) or not name:
      raise UserError(f'{path}: the name of a part is a text, not {name!r}')
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
      raise UserError(f'{path}: the proportion of {name!r} is above 0 and at most 1, not {share!r}')
  total = sum(part.proportion for part in parts)
  if abs(total - 1) > 1e-6:
    raise UserError(f'{path}: the proportions add up to {total:g}, not to 1')
  return parts


@contextlib.contextmanager
def _without_bytecode() -> Iterator[None]:
  """Leaves no __pycache__ in a user's folder."""
  before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
  try:
    yield
  finally:
    sys.dont_write_bytecode = before


def _own_line(path: str, error: BaseException) -> str:
  """An error of a user's file, with the line of that file that it comes from."""
  if isinstance(error, SyntaxError) and error.filename:
    return f'{error.filename}:{error.lineno}: {error.msg}: {(error.text or "").strip()}'
  frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
  where = f'{path}:{frames[-1].lineno}: {frames[-1].line}: ' if frames else f'{path}: '
  return f'{where}{type(error).__name__}: {" ".join(str(error).split())}'
