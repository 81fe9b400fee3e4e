"""The presets and data configs that a grid names, found and read before anything is started."""

import os
import re
from typing import Collection, NamedTuple, Optional, Sequence

from brac import gin_config
from brac.data_config import folder_name, project_folder
from brac.errors import UserError, nearest


class Preset(NamedTuple):
  """A preset with the bindings that a grid adds to it."""

  path: str
  agent_name: str
  settings: dict[str, object]  # what they bind
  gin_bindings: tuple[str, ...]
  idle: tuple[gin_config.IdleBinding, ...] = ()  # of macros that it does not have: left out

  @property
  def is_tuned(self) -> bool:
    """Whether it is one that is tuned for an environment."""
    return os.path.basename(os.path.dirname(os.path.dirname(self.path))) == 'tuned'

  @property
  def searched(self) -> str:
    """How a search found it, '' where it does not tell."""
    data, seed, steps = protocol(self.path) or ('', 0, 0)
    return f' ({data}, seed {seed}, {steps} steps)' if data else ''


def protocol(path: str) -> Optional[tuple[str, int, int]]:
  """Of a tuned preset the data, the seed and the steps of a trial, as a search commented them."""
  text = one_line(path)
  data, seed, steps = (
    re.search(pattern, text)
    for pattern in (r'Data (\S+), \d+ transitions', r'Seed (\d+)\.', r'trial has (\d+) steps')
  )
  return (data[1], int(seed[1]), int(steps[1])) if data and seed and steps else None


def one_line(path: str) -> str:
  """A gin file with its comments, which are wrapped, as one line."""
  with open(path, encoding='utf-8', errors='replace') as f:
    return ' '.join(f.read().replace('\n#', ' ').split())


def find(config_dir: str, name: str, ending: str) -> str:
  """The path of a config in a folder; raises UserError where there is none."""
  path = os.path.join(config_dir, name + ending)
  if not os.path.isfile(path):
    there = os.listdir(config_dir) if os.path.isdir(config_dir) else []
    names = [n[: -len(ending)] for n in there if n.endswith(ending)]
    raise UserError(f'there is no {path}{nearest(name, names, 0.3)}')
  return path


def find_here_or_ours(config_dir: str, name: str, ending: str) -> str:
  """The path of a config in a folder, or else among the project's own; it may be `folder/name`.

  Raises:
    UserError: there is none.
  """
  ours = os.path.join(project_folder('configs'), name + ending)
  is_here = os.path.isfile(os.path.join(config_dir, name + ending))
  if os.path.isfile(ours) and not is_here:
    return ours
  folder, name = os.path.split(os.path.join(config_dir, name))
  return find(folder, name, ending)


def find_preset(config_dir: str, name: str) -> str:
  """The path of a preset; see `find_here_or_ours`."""
  if '/' in name:  # its runs' folder has the file's name
    raise UserError(f'--presets {name}: the name alone; --config_dir names the folder')
  return find_here_or_ours(config_dir, name, '.gin')


def find_tuned(config_dir: str, name: str, env_name: str) -> Optional[str]:
  """The path of a preset as it is tuned for an environment, in a folder or beside the plain one."""
  beside = os.path.dirname(find_preset(config_dir, name))
  for folder in (config_dir, beside):
    path = os.path.join(tuned_folder(folder), folder_name(env_name), name + '.gin')
    # A preset of one's own is not meant by what a search left of ours, of its name.
    is_own = beside != project_folder('configs')
    if os.path.isfile(path) and not (is_own and f" include '{name}.gin' " in one_line(path)):
      return path
  return None


def tuned_folder(config_dir: str) -> str:
  """Where presets of a folder stand that are tuned, in a folder for each environment."""
  return os.path.join(config_dir, 'tuned')


def load(path: str, gin_bindings: Sequence[str]) -> Preset:
  """Reads a preset.

  Raises:
    UserError: gin does not understand it, or it binds no agent's name and would train
      --agent_name's in that one's folder.
  """
  preset = gin_config.parse([path], gin_bindings)
  if preset.agent_name is None:
    raise UserError(f'{path} binds no train_eval_offline.agent_name')
  return Preset(path, preset.agent_name, preset.bound, tuple(gin_bindings))


def load_of_many(path: str, gin_bindings: Sequence[str]) -> Preset:
  """Reads a preset with those of the bindings that are not of macros of other presets alone.

  Raises:
    UserError: as of `load`.
  """
  idle: tuple[gin_config.IdleBinding, ...] = ()
  while True:
    try:
      return load(path, gin_bindings)._replace(idle=idle)
    except gin_config.IdleBinding as error:
      left = gin_config.without_macro(gin_bindings, error.name)
      if len(left) == len(gin_bindings):  # it stands in a binding with others
        raise
      idle, gin_bindings = (*idle, error), left


def check_bindings(read: Collection[Preset]) -> None:
  """Raises UserError where a binding is of a macro that none of the presets has."""
  for error in (error for preset in read for error in preset.idle):
    if all(error.name in [x.name for x in preset.idle] for preset in read):
      raise error
