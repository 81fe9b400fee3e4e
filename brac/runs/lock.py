"""A folder for one process at a time."""

import contextlib
import errno
import fcntl
import os
import re
import socket

from brac import checkpoints, files
from brac.errors import InUse


class Lock:
  """A folder taken for this process, until `release` or until the process ends, however it ends.

  A file system that cannot lock with `flock` is asked for POSIX locks. One that has neither keeps
  the name of the process in a folder, `lock.held`, where a kill leaves it behind: it counts as long
  as that process is there, as far as can be seen from this machine.
  """

  def __init__(self, folder: str):
    """Takes the folder, which is made where it is not there.

    Raises:
      InUse: another process has it.
      UserError: it cannot be written.
    """
    checkpoints.check_path(folder)
    self._folder, self._held = folder, ''
    self._me = f'process {os.getpid()} on {socket.gethostname()}'
    with files.writing(folder):
      os.makedirs(folder, exist_ok=True)
      self._handle = open(os.path.join(folder, 'lock'), 'ab+', buffering=0)
      try:
        self._take()
        self._handle.truncate(0)
        self._handle.write(self._me.encode())
      except BaseException:
        self._handle.close()
        raise

  def _take(self) -> None:
    for kind, instead in (('flock', 'lockf is asked'), ('lockf', 'processes are known by name')):
      try:
        return getattr(fcntl, kind)(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        self._handle.seek(0)
        raise self._in_use(self._handle.read().decode().strip()) from None
      except OSError as error:
        files.cannot(error, f'lock by {kind}', instead)
    self._take_by_name()

  def _take_by_name(self) -> None:
    held = os.path.join(self._folder, 'lock.held')
    name = self._me.replace(' ', '-')
    own = f'{held}.{name}'
    files.remove(own)  # of a process that was killed and had this one's number
    os.mkdir(own)
    try:
      with open(os.path.join(own, name), 'w', encoding='utf-8'):
        pass
      while True:
        try:  # a folder with a name in it takes the place of one with none, in one step
          os.rename(own, held)
          self._held = os.path.join(held, name)
          return
        except OSError as error:
          if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        for path, holder in _holders(held).items():
          if not _is_gone(holder):
            hint = f'; if that is not running any more, remove {path}'
            raise self._in_use(holder, hint)
          with contextlib.suppress(FileNotFoundError):  # another has seen it, too
            os.remove(path)
    finally:
      files.remove(own)

  def _in_use(self, holder: str, hint: str = '') -> InUse:
    return InUse(f'{self._folder} is in use by {holder or "another process"}{hint}')

  def release(self) -> None:
    """Gives the folder back."""
    with contextlib.suppress(OSError):  # what a run has come to is not lost for that
      if self._held:
        os.remove(self._held)
        os.rmdir(os.path.dirname(self._held))  # unless another has it by now
    with contextlib.suppress(OSError):
      self._handle.truncate(0)
    self._handle.close()


def _holders(held: str) -> dict[str, str]:
  """The files of the processes that have a lock, with what those call themselves."""
  try:
    if os.path.isfile(held):  # as it was once kept
      with open(held, encoding='utf-8') as f:
        return {held: f.read()}
    return {os.path.join(held, name): name.replace('-', ' ', 3) for name in os.listdir(held)}
  except FileNotFoundError:  # given back in the meantime
    return {}


def _is_gone(holder: str) -> bool:
  """Whether a process, as it names itself, is known to have ended."""
  named = re.fullmatch(r'process (\d+) on (.*)', holder)
  if not named:
    return not holder  # it was killed before it wrote its name
  if named[2] != socket.gethostname():
    return False
  if int(named[1]) == os.getpid():
    return True  # of a process that was killed and had this one's number
  try:
    os.kill(int(named[1]), 0)
  except ProcessLookupError:
    return True
  except PermissionError:
    pass
  return False
