"""Files that are complete or absent on whatever file system; and why one could not be written.

What some file systems cannot do (those of networks, containers, sync clients) is done in the next
best way, and said once.
"""

import contextlib
import errno
import math
import os
import re
import shutil
import tempfile
from typing import Iterator, Tuple, Type

from absl import logging

from brac.errors import UserError

# What is said by a file system that cannot do something; the others say that it failed to.
_CANNOT = {
  *(errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP),
  *(errno.EMLINK, errno.EXDEV, errno.ENOLCK, errno.ENOTTY, errno.EBADF, errno.EISDIR),
}
_told = set()


def cannot(error: OSError, what: str, instead: str) -> None:
  """Says once for each `what` that a file system cannot do it, and what is done instead.

  Raises:
    OSError: it can, and failed.
  """
  if error.errno not in _CANNOT:
    raise error
  if what not in _told:
    _told.add(what)
    logging.warning('this file system cannot %s (%s): %s', what, error.strerror, instead)


def write_text(path: str, text: str) -> None:
  """Writes a file over what is there: killed at any moment it leaves the old one or the new one."""
  with open(path + '.unfinished', 'w', encoding='utf-8') as f:
    f.write(text)
  sync(path + '.unfinished')
  os.replace(path + '.unfinished', path)


def sync(path: str) -> None:
  """Waits until a file, or the names in a folder, would outlast a loss of power."""
  try:
    handle = os.open(path, os.O_RDONLY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)
  except OSError as error:
    what = 'sync a folder' if os.path.isdir(path) else 'sync a file'
    cannot(error, what, 'a kill leaves all saves whole, a loss of power may cost the last one')


def put(source: str, target: str, moving: str) -> None:
  """Gives a file a second name, over what has it: the target is whole at any moment.

  Args:
    source: the file, which stays.
    target: its second name.
    moving: a name that is used on the way.
  """
  if os.path.lexists(moving):
    os.remove(moving)
  try:
    os.link(source, moving)
  except OSError as error:
    cannot(error, 'give a file a second name', 'saves are copied, which takes their room once more')
    try:
      shutil.copyfile(source, moving)
      sync(moving)
    except OSError:
      with contextlib.suppress(OSError):
        os.remove(moving)
      raise
  os.replace(moving, target)


def remove(path: str) -> None:
  """Removes a file or a folder with all that is in it, where it is there and can be."""
  shutil.rmtree(path, ignore_errors=True)
  with contextlib.suppress(OSError):
    os.remove(path)


@contextlib.contextmanager
def making(path: str, errors: Tuple[Type[Exception], ...] = (OSError,)) -> Iterator[str]:
  """A path whose file, or folder, becomes the one at `path` once all is in it.

  Nobody else has it, so that of several programs that make one thing the first is the one that did,
  and nothing is left where it fails.

  Raises:
    UserError: one of the errors came, or something is at `path` by now.
  """
  folder, name = os.path.split(os.path.abspath(path))
  try:
    with _folder_of_its_own(folder) as own:
      yield (made := os.path.join(own, name))
      if os.path.lexists(path):
        raise UserError(f'{path} is there already, and was not when this began')
      _put_first(made, os.path.join(folder, name))
  except errors as error:
    raise UserError(f'cannot write {path}: {reason(error, folder)}') from error


@contextlib.contextmanager
def replacing(folder: str) -> Iterator[str]:
  """A folder that nobody else has, whose files in the end replace those of their names in `folder`.

  Each is whole at any moment, however many programs write it.

  Raises:
    UserError: one cannot be written.
  """
  with writing(folder), _folder_of_its_own(folder) as own:
    yield own
    for name in sorted(os.listdir(own)):
      os.replace(os.path.join(own, name), os.path.join(folder, name))


@contextlib.contextmanager
def _folder_of_its_own(folder: str) -> Iterator[str]:
  os.makedirs(folder, exist_ok=True)
  own = tempfile.mkdtemp(prefix='unfinished-', dir=folder)
  try:
    yield own
  finally:
    remove(own)


def _put_first(source: str, path: str) -> None:
  """Gives a file or a folder its name; raises OSError where another has it."""
  if os.path.isdir(source):
    return os.rename(source, path)
  try:
    os.link(source, path)
  except FileExistsError:
    raise
  except OSError as error:
    cannot(error, 'give a file a second name', 'it is moved to its place')
    os.rename(source, path)


def free(folder: str) -> float:
  """The bytes that a file system has left; infinite where it does not tell."""
  disk = os.statvfs(folder)
  return disk.f_bavail * disk.f_frsize if disk.f_blocks else math.inf


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
  if not os.path.isdir(folder) or math.isinf(left := free(folder)):
    return why
  return f'{why} ({left / 1e6:.0f} MB free)'
