"""Arrays in numpy's .npz, of the names and the layout of D4RL's files."""

import zipfile
import zlib

import numpy as np

from brac.data import d4rl
from brac.data.export import Export
from brac.data.source import Options, Source
from brac.errors import UserError

ENDINGS = ('.npz',)


def read(path: str, options: Options) -> Source:
  """The data in a file; all of its arrays are in memory at once.

  Raises:
    UserError: it is none of this format, or does not tell where episodes end.
  """
  path = d4rl.checked_path(path)
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
  except (
    *(OSError, ValueError, EOFError, AttributeError, TypeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
  ) as error:
    raise UserError(
      f'{path} cannot be read as .npz: {str(error).splitlines()[0] or "it is empty"}; '
      'numpy.savez(FILE, observations=..., actions=..., rewards=..., terminals=...) writes one'
    ) from error
  return d4rl.read_arrays(arrays, path, 'npz', options)


def place(target: str) -> str:
  """Where `write` writes."""
  return target


def write(path: str, export: Export) -> None:
  """Writes a file with the arrays that D4RL's has.

  Raises:
    OSError: it cannot be written.
  """
  texts = {name: np.array(text) for name, text in d4rl.texts_of(export).items()}
  with open(path, 'wb') as f:  # savez would add an ending to a name
    np.savez_compressed(f, **texts, **d4rl.arrays_of(export))
