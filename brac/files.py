"""Text files that are complete or absent, and why one could not be written."""

import contextlib
import os
import re
from typing import Iterator, Tuple, Type

from brac.errors import UserError


def write_text(path: str, text: str) -> None:
  """Writes a file over what is there: killed at any moment it leaves the old one or the new one."""
  with open(path + '.unfinished', 'w') as f:
    f.write(text)
    f.flush()
    os.fsync(f.fileno())
  os.replace(path + '.unfinished', path)


@contextlib.contextmanager
def writing(folder: str, errors: Tuple[Type[Exception], ...] = (OSError,)) -> Iterator[None]:
  """Raises UserError where what is done in it cannot write to a folder."""
  try:
    yield
  except errors as error:
    why = reason(error, folder)
    raise UserError(f'cannot write to {folder}: {why}; what was saved before is kept') from error


def reason(error: Exception, folder: str) -> str:
  """Why nothing could be written to a folder, with the space that is left there."""
  why = getattr(error, 'strerror', None)
  if not why:
    # TensorFlow tells of its operation and of a file of its own before it says what was wrong.
    why = re.sub(r'{{.*?}}|\[Op:.*?\]', '', str(error).splitlines()[0]).rpartition('; ')[2].strip()
  if not os.path.isdir(folder):
    return why
  disk = os.statvfs(folder)
  return f'{why} ({disk.f_bavail * disk.f_frsize / 1e6:.0f} MB free)'
