"""Where a dataset is from, as it is written down in JSON beside it."""

import contextlib
import json
import os
from typing import Any

from absl import logging

from brac import files
from brac.errors import UserError


def path_of(data_file: str) -> str:
  """The file that tells where the dataset at a path is from."""
  return data_file + '.source.json'


def write(data_file: str, facts: dict[str, Any]) -> None:
  """Writes down where a dataset is from; raises UserError where that cannot be written."""
  with files.writing(os.path.dirname(data_file)):
    files.write_text(path_of(data_file), json.dumps(facts, indent=2) + '\n')


def remove(data_file: str) -> None:
  """Forgets where the dataset at a path is from."""
  with contextlib.suppress(FileNotFoundError):
    os.remove(path_of(data_file))


def compare_observation_keys(
  what: str, facts: dict[str, Any], env_name: str, keys: dict[str, int]
) -> None:
  """Compares how the parts of Dict observations are concatenated in data and by an environment.

  The order of one and of the other may be of one width and have other numbers in each place.

  Args:
    what: names the data.
    facts: what is known of it.
    env_name: the environment.
    keys: its `observation_keys`.

  Raises:
    UserError: they are concatenated otherwise.
  """
  then = facts.get('observation_keys', {})
  if bool(then) != bool(keys):
    one, other = (what, env_name) if then else (env_name, what)
    logging.warning(
      'the observations of %s are concatenated as %s; %s does not tell its order, which is to be '
      'the same',
      one,
      _in_words(then or keys),
      other,
    )
  elif sorted(then.items()) != sorted(keys.items()):
    raise UserError(
      f'the observations of {what} are of {_in_words(then)}, those of {env_name} of '
      f'{_in_words(keys)}'
    )
  elif list(then) != list(keys):
    raise UserError(
      f'the observations of {what} are concatenated as {_in_words(then)}, those of {env_name} as '
      f'{_in_words(keys)}; gin orders the latter: dict_observations.keys={tuple(then)}'
    )


def _in_words(keys: dict[str, int]) -> str:
  return ', '.join(f'{name} ({width})' for name, width in keys.items())


def read(data_file: str) -> dict[str, Any]:
  """Where a dataset is from; {} where that is not written down.

  Raises:
    UserError: what is written there cannot be read.
  """
  path = path_of(data_file)
  if not os.path.exists(path):
    return {}
  try:
    with open(path, encoding='utf-8') as f:
      return dict(json.load(f))
  except (OSError, ValueError, TypeError) as error:
    raise UserError(f'{path} cannot be read; put a good copy in its place, or remove it') from error
