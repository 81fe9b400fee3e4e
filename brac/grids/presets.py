"""The presets and data configs that a grid names, found and read before anything is started."""

import difflib
import os
from typing import NamedTuple, Sequence

from brac import gin_config
from brac.data_config import project_folder
from brac.errors import UserError


class Preset(NamedTuple):
  """A preset with the bindings that a grid adds to it."""

  path: str
  agent_name: str
  settings: dict[str, object]  # what they bind


def find(config_dir: str, name: str, ending: str) -> str:
  """The path of a config in a folder; raises UserError where there is none."""
  path = os.path.join(config_dir, name + ending)
  if not os.path.isfile(path):
    there = os.listdir(config_dir) if os.path.isdir(config_dir) else []
    names = [n[: -len(ending)] for n in there if n.endswith(ending)]
    near = difflib.get_close_matches(name, names, 1, 0.3)
    raise UserError(f'there is no {path}' + (f'; did you mean {near[0]!r}?' if near else ''))
  return path


def load(config_dir: str, name: str, gin_bindings: Sequence[str]) -> Preset:
  """The preset of that name in a folder, or among the project's own.

  Raises:
    UserError: there is none, gin does not understand it, or it binds no agent's name and would
      train --agent_name's in that one's folder.
  """
  import gin

  own = os.path.join(project_folder('configs'), name + '.gin')
  has = os.path.isfile(os.path.join(config_dir, name + '.gin')) or not os.path.isfile(own)
  path = find(config_dir, name, '.gin') if has else own
  gin.clear_config()
  gin_config.parse([path], gin_bindings)
  agent_name = gin_config.preset.get('agent_name')
  if agent_name is None:
    raise UserError(f'{path} binds no train_eval_offline.agent_name')
  return Preset(path, agent_name, gin_config.bound())
