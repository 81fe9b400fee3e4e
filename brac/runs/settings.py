"""What a run is: all that its numbers depend on, kept with its state, compared when it goes on."""

import enum
import functools
import importlib.metadata
import inspect
import json
import os
import platform
import re
import sys
import zlib
from typing import NamedTuple, Optional

import gin
import tensorflow as tf
from absl import logging

import brac
from brac import checkpoints, files, results
from brac.errors import UserError
from brac.hyperparameters import plain_text, same


class Rule(enum.Enum):
  """What is done where a run goes on and something of it is another than before."""

  REFUSED = 'it would be another run'
  ASKED = 'refused, unless --allow_changed_config'
  WARNED = 'changed, which is said, and written into the record of the run'
  FREE = 'changed'


# What a run is. The first pattern that a name fits counts.
RULES = (
  # The code and what it stands on: the algorithm is the same.
  (r'version|Python|tensorflow|numpy|gym|mujoco|gymnasium|gymnasium_robotics', Rule.WARNED),
  (r'\w+', Rule.FREE),  # gin's macros, whose values stand where they are used
  # The environment variables that change last bits, as `$NAME`.
  (r'\$\w+', Rule.WARNED),
  # Flags, and what they stand for: `--evaluated` is the names of the policies that are evaluated,
  # `--frozen_policy` the checksum of one that an agent is about, which may have moved since,
  # `--data` the fingerprint of the dataset, `--policies` those of the policies that a dataset is
  # collected with, whose paths `--data_config` is without.
  (r'--evaluated', Rule.WARNED),
  (r'--(seed|agent_name|env_name|frozen_policy|data_config|n_samples|n_envs)', Rule.REFUSED),
  # A run with another fraction has trained on what is held out.
  (r'train_eval_offline\.validation_fraction', Rule.REFUSED),
  # Gin's parameters. A run keeps the clone that it was begun with, wherever that is now.
  (r'.*\.behavior_ckpt_file|fqe_agent\.Agent\.checkpoint', Rule.FREE),
  (rf'.*\.({"|".join(results.NO_NUMBER_DEPENDS_ON)})', Rule.FREE),
  (r'.*', Rule.ASKED),
)
_PACKAGES = ('tensorflow', 'numpy', 'gym', 'mujoco')
_IMPORTED = ('gymnasium', 'gymnasium_robotics')  # which count where something is taken from them
_VARIABLES = (
  *('TF_ENABLE_ONEDNN_OPTS', 'ONEDNN_MAX_CPU_ISA', 'DNNL_MAX_CPU_ISA', 'TF_XLA_FLAGS', 'XLA_FLAGS'),
  *('TF_DETERMINISTIC_OPS', 'TF_CUDNN_DETERMINISTIC', 'NVIDIA_TF32_OVERRIDE'),
)
_HISTORY = 'history'  # the name that the changes so far are kept under


class Changes(NamedTuple):
  """How the settings of a run differ from those that it had before, in words."""

  refused: list[str]
  asked: list[str]
  warned: list[str]


class Settings:
  """What a run is, as things are now.

  Attributes:
    flags: what it was made with.
  """

  def __init__(self, **flags):
    """Takes the flags that matter, and what they stand for."""
    self.flags = flags
    self._flags = {f'--{name}': repr(value) for name, value in flags.items()}
    self._history: list[str] = []
    self._variable = tf.Variable('')

  def now(self) -> dict[str, str]:
    """Everything by its name, as text.

    Of gin's parameters these are what gin was asked for so far: those of a divergence are not among
    them before the training loop is compiled. A run that is compared too early misses what its
    saves have, and is refused.
    """
    now = {'version': version(), 'Python': platform.python_version()}
    now.update((name, _installed(name)) for name in _PACKAGES)
    now.update((name, _installed(name)) for name in _IMPORTED if name in sys.modules)
    now.update((f'${name}', os.environ.get(name, 'not set')) for name in _VARIABLES)
    now.update(self._flags)
    for line in gin.operative_config_str(max_line_length=10**5).splitlines():  # a line each
      name, is_binding, value = map(str.strip, line.partition('='))  # or an import
      if is_binding and not line.startswith('#'):
        now[name] = value
    return {name: value for name, value in now.items() if _rule(name) is not Rule.FREE}

  @property
  def variable(self) -> tf.Variable:
    """To be saved under the key `settings`."""
    kept = {**self.now(), _HISTORY: json.dumps(self._history)}
    self._variable.assign(json.dumps(kept, sort_keys=True))
    return self._variable

  def changes(self, path: str) -> Optional[Changes]:
    """How they differ from those kept in the checkpoint at a path; None where none are kept."""
    then, now, found = checkpoints.kept_settings(path), self.now(), Changes([], [], [])
    if not then:
      return None
    for name in sorted(then.keys() | now.keys()):
      was, is_now, rule = then.get(name), now.get(name), _rule(name)
      if rule is Rule.FREE or _plain(was) == _plain(is_now):
        continue
      if was is None and not _is_gins(name):
        continue  # it was saved by a version that did not keep it
      if was is None and then.get('version') != now['version'] and not _is_set(name):
        continue  # this version has one parameter more, which stands at its default
      change = f'{name} was {was or "not there"}, is {is_now or "not there"}'
      getattr(found, rule.name.lower()).append(change)
    return found

  def check(self, path: str, allow_changes: bool) -> None:
    """Compares with the settings that are kept in the checkpoint at a path.

    Raises:
      UserError: they are others, and that is not allowed; the message lists the differences.
    """
    changes = self.changes(path)
    if changes is None:
      return
    if changes.refused or (changes.asked and not allow_changes):
      way = '' if changes.refused else ', or go on with the new ones by --allow_changed_config'
      raise UserError(
        f'{path} was saved with other settings: {"; ".join(changes.refused + changes.asked)}; '
        f'choose another --sub_dir{way}'
      )
    for change in changes.asked:
      logging.warning('going on with another setting: %s', change)
    if changes.warned:
      logging.warning('going on in other surroundings: %s', '; '.join(changes.warned))
    reader = checkpoints.Reader(path)
    at = f'at step {reader.read("global_step")}' if 'global_step' in reader.shapes else 'since then'
    self._history = json.loads(checkpoints.kept_settings(path).get(_HISTORY, '[]'))
    self._history += [f'{at}: {change}' for change in changes.asked + changes.warned]

  def write(self, folder: str) -> None:
    """Writes `operative_config.gin`: versions, changes, flags, each parameter and its value.

    `results.read_settings` reads it.
    """
    now = self.now()
    packages = [name for name in ('Python', *_PACKAGES, *_IMPORTED) if name in now]
    lines = [f'# with {", ".join(f"{name} {now[name]}" for name in packages)}']
    lines += [f'# {change}' for change in self._history]
    lines += [f'# {name}: {value}' for name, value in self._flags.items()]
    text = '\n'.join([results.VERSION + now['version'], *lines, gin.operative_config_str()])
    with files.writing(folder):
      files.write_text(os.path.join(folder, 'operative_config.gin'), text)


@functools.cache  # of what runs, whatever is edited in the meantime
def version() -> str:
  """The package's version, and a checksum of its source, which changes between releases too."""
  package, checksum = os.path.dirname(os.path.abspath(brac.__file__)), 0
  for folder, folders, names in os.walk(package):
    # Data configs, of an installed package. The order of folders is that of the walk.
    folders[:] = sorted(set(folders) - {'configs', 'trained_policies', '__pycache__'})
    for name in sorted(names):
      if name.endswith('.py'):
        with open(os.path.join(folder, name), 'rb') as f:
          checksum = zlib.crc32(f.read(), checksum)
  return f'{brac.__version__} of source {checksum:08x}'


def _rule(name: str) -> Rule:
  return next(rule for pattern, rule in RULES if re.fullmatch(pattern, name))


def _installed(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return 'none'


def _is_gins(name: str) -> bool:
  return '.' in name and not name.startswith(('--', '$'))


def _is_set(name: str) -> bool:
  """Whether gin binds a parameter to another value than its default."""
  try:
    value = gin.query_parameter(name)
  except ValueError:
    return False
  selector, _, parameter = name.rpartition('.')
  configurable = gin.config._REGISTRY.get_match(selector)
  return not same(value, inspect.signature(configurable.wrapped).parameters[parameter].default)


def _plain(text: Optional[str]) -> Optional[str]:
  """A value in one spelling."""
  return text and (plain_text(text) or text)
