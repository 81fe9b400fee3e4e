"""Makes this process see a file system as those of networks, containers and sync clients are.

Hard links, locks and syncs of folders are refused, and a folder that is made for a save has a file
of a stranger in it.
"""

import errno
import fcntl
import os
import stat

_fsync, _mkdir = os.fsync, os.mkdir


def _refuse(*_, **__):
  raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def _sync_of_files(fd):
  n = fd if isinstance(fd, int) else fd.fileno()
  if stat.S_ISDIR(os.fstat(n).st_mode):
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
  return _fsync(fd)


def _mkdir_of_a_sync_client(path, *args, **kwargs):
  _mkdir(path, *args, **kwargs)
  if '.unfinished' in str(path) or 'unfinished-' in str(path):
    with open(os.path.join(path, '.sync'), 'w', encoding='utf-8'):
      pass


def mount() -> None:
  os.link = fcntl.flock = fcntl.lockf = _refuse
  os.fsync, os.mkdir = _sync_of_files, _mkdir_of_a_sync_client
