"""Where a dataset is from, as it is written down in JSON beside it."""

import json
import os
from typing import Any

from brac import files
from brac.errors import UserError


def path_of(data_file: str) -> str:
  """The file that tells where the dataset at a path is from."""
  return data_file + '.source.json'


def write(data_file: str, facts: dict[str, Any]) -> None:
  """Writes down where a dataset is from; raises UserError where that cannot be written."""
  with files.writing(os.path.dirname(data_file)):
    files.write_text(path_of(data_file), json.dumps(facts, indent=2) + '\n')


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
