"""Checkpoints that are complete or absent, and restores that say what they did.

A file is an ordinary `tf.train.Checkpoint`. Its keys are the paths of variables through the objects
given, which is what makes some of them public (the authors' checkpoints have the same ones).
"""

import glob
import json
import os
import shutil
from typing import Dict, List

import numpy as np
import tensorflow as tf
from absl import logging

from brac import files
from brac.errors import UserError

_SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'
# What TensorFlow raises where a file is not what it wrote.
_DAMAGE = (tf.errors.OpError, ValueError, RuntimeError, IndexError)
_NEW = '.new'  # a save that is complete, and not yet in the place of the one before
_OLD = '.old'  # the one before, where it is kept
_UNFINISHED = '_unfinished'  # how the name of what is to go on ends, which is nothing to read


def save(path: str, keep: bool = False, **objects) -> None:
  """Writes the variables of `objects` to `{path}.index` and `{path}.data-*`, over what is there.

  Killed at any moment it leaves a whole checkpoint behind. The new one is written under another
  name, its index last; only then do its files take the places of the old, and as long as the
  complete new one is there `Reader` takes it first.

  Args:
    path: where.
    keep: whether what was there becomes `{path}.old`, for `recover`. The disk holds two saves at
      any moment, as it does without: the one before the last goes before the new one is written.
      A file system without hard links needs room for two more.

  Raises:
    UserError: the disk is full or the folder cannot be written; what was there before is kept.
  """
  kept = '; the save before it is kept' if exists(path) else ''
  folder = os.path.dirname(os.path.abspath(path))
  unfinished = path + '.unfinished'  # a folder, because TensorFlow makes files of its own as well
  try:
    shutil.rmtree(unfinished, ignore_errors=True)
    _settle(path)  # where a kill left that undone
    _remove_files(path + _OLD)
    os.makedirs(unfinished, exist_ok=True)  # it may hold what others put there and nobody removes
    written = os.path.join(unfinished, 'checkpoint')
    tf.train.Checkpoint(**objects).write(written)
    for end in _ends(written):
      files.sync(written + end)
      os.replace(written + end, path + _NEW + end)
    files.sync(folder)
    if keep and os.path.exists(path + '.index'):
      _put(path, path, _OLD)
    _settle(path)
  except (OSError, tf.errors.OpError) as e:
    raise UserError(f'cannot save {path}: {files.reason(e, folder)}{kept}') from e
  finally:
    shutil.rmtree(unfinished, ignore_errors=True)


def check_path(path: str) -> None:
  """Raises UserError where a path cannot be a checkpoint's."""
  # TensorFlow's reader takes a path for a pattern; and who has a '\r' in one did not type it.
  if any(sign in path for sign in '*?[]\\'):
    raise UserError(f'checkpoint {path}: the signs * ? [ ] \\ cannot be in its path')
  if any(sign < ' ' or sign == '\x7f' for sign in path):
    raise UserError(f'checkpoint {path!r}: a control character cannot be in its path')


def _settle(path: str) -> None:
  """Puts a complete new checkpoint, where there is one, in the place of the old one."""
  if os.path.exists(path + _NEW + '.index'):
    # By way of a second name, so that the new one stays whole until the last file is over.
    _put(path + _NEW, path, '')
  _remove_files(path + _NEW)


def _put(source: str, path: str, kind: str) -> None:
  """Gives the files of a checkpoint second names, as the save of that kind at a path."""
  for end in _ends(source):
    files.put(source + end, path + kind + end, path + '.moving')


def _remove_files(path: str) -> None:
  for end in reversed(_ends(path)):
    os.remove(path + end)


def _ends(path: str) -> List[str]:
  """The endings of a checkpoint's files, the index last: where it is, the others are."""
  data = sorted(f[len(path) :] for f in glob.glob(glob.escape(path) + '.data-?????-of-?????'))
  return data + (['.index'] if os.path.exists(path + '.index') else [])


def _newest(path: str) -> str:
  """The name of the last save at a path, which a kill, or a moment, may have left beside it."""
  return path + _NEW if os.path.exists(path + _NEW + '.index') else path


def stamp(path: str) -> object:
  """What is another once another save has come; None where there is none that is whole."""
  newest = _newest(path)
  try:
    index = os.stat(newest + '.index')
  except FileNotFoundError:
    return None
  # The name, too: for a moment a save's file has two.
  return newest, index.st_ino, index.st_mtime_ns


def is_whole(path: str) -> bool:
  """Whether there is a checkpoint at `path` and all of it can be read; see `recover`."""
  check_path(path)
  return not _damage(_newest(path))


def exists(path: str) -> bool:
  """Whether there is a checkpoint at `path`, or what is left of one."""
  check_path(path)
  return bool(_ends(path)) or os.path.exists(path + _NEW + '.index')


def recover(path: str, needed: bool = True) -> bool:
  """Whether there is a save at `path` to go on from; all of it is read, to know that it is whole.

  Where the last one is damaged the one before takes its place, which the log says.

  Raises:
    UserError: it is `needed`, is damaged, and there is no other.
  """
  check_path(path)
  there = {kind: os.path.exists(path + kind + '.index') for kind in (_NEW, '', _OLD)}
  there[''] = bool(_ends(path)) or there[_OLD]
  kinds, damage = [kind for kind in there if there[kind]], []
  for kind in kinds:
    wrong = _damage(path + kind)
    if not wrong:
      break
    damage.append(wrong)
  else:
    if damage and needed:
      raise UserError(
        f'{path} is damaged: {damage[0]}; there is no other save to go on from: remove {path}.* to '
        'begin again, or choose another --sub_dir'
      )
    if damage:
      logging.warning('%s is damaged: %s', path, damage[0])
    return False
  if damage:
    logging.warning('%s is damaged: %s; going on from the save before it', path, damage[0])
    _remove_files(path + _NEW)
  if kind == _OLD:
    # By way of the name of a complete new one, so that a kill cannot part its files.
    _put(path + _OLD, path, _NEW)
    _remove_files(path + _OLD)
    _settle(path)
  return True


def _damage(path: str) -> str:
  """What is wrong with a checkpoint, from reading all of it; nothing where it is whole."""
  if not os.path.exists(path + '.index'):
    return f'{path}.index is missing'
  try:
    reader = tf.train.load_checkpoint(path)
    for key in reader.get_variable_to_shape_map():
      reader.get_tensor(key)
  except _DAMAGE as e:
    return str(e).splitlines()[0]
  return ''


def remove(path: str) -> None:
  """Removes the checkpoint at `path`, if there is one."""
  shutil.rmtree(path + '.unfinished', ignore_errors=True)
  if os.path.lexists(path + '.moving'):
    os.remove(path + '.moving')
  for kind in (_OLD, _NEW, ''):
    _remove_files(path + kind)


class Reader:
  """The variables of a checkpoint by their keys, without their suffix."""

  def __init__(self, path: str, what: str = 'checkpoint'):
    """Opens the checkpoint at `path`; `what` names it in errors.

    Raises:
      UserError: there is none, or it is damaged.
    """
    self.path, self._what = path, what
    if not exists(path):
      folder = os.path.dirname(path) or '.'
      names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
      there = [n[: -len('.index')] for n in names if n.endswith('.index')]
      there = [n for n in there if not n.endswith((_NEW, _OLD, _UNFINISHED))]
      hint = f'; in that folder there is: {", ".join(there)}' if there else ''
      raise UserError(f'no {what} at {path}{hint}')
    self.shapes: Dict[str, List[int]] = {}
    before = stamp(path)
    while True:
      try:
        self._open()
        return
      except _DAMAGE as e:
        # A run that saves at this moment puts other files in the places of these.
        if (now := stamp(path)) == before:
          raise self._damaged(str(e)) from e
        before = now

  def _open(self) -> None:
    if not os.path.exists(_newest(self.path) + '.index'):
      raise ValueError(f'{self.path}.index is missing')
    self._reader = tf.train.load_checkpoint(_newest(self.path))
    shapes = self._reader.get_variable_to_shape_map()
    self.shapes = {k[: -len(_SUFFIX)]: v for k, v in shapes.items() if k.endswith(_SUFFIX)}
    if self.shapes:  # with a number of it the file of all numbers is open, and stays so
      self._reader.get_tensor(min(self.shapes, key=lambda k: np.prod(self.shapes[k])) + _SUFFIX)

  def _damaged(self, how: str) -> UserError:
    return UserError(
      f'{self._what} {self.path} is damaged: {how.splitlines()[0]}; put a good copy in its '
      'place, or remove it and make it again'
    )

  def read(self, key: str) -> np.ndarray:
    """The value of a variable.

    Raises:
      UserError: the checkpoint lacks it, or is damaged there.
    """
    if key not in self.shapes:
      raise UserError(f'{self._what} {self.path} has no {key}')
    try:
      return self._reader.get_tensor(key + _SUFFIX)
    except _DAMAGE as e:
      raise self._damaged(str(e)) from e

  def layers(self, prefix: str) -> List[List[int]]:
    """The kernel shapes of a network's layers, found under `prefix`."""
    shapes = []
    while f'{prefix}/{len(shapes)}/kernel' in self.shapes:
      shapes.append(self.shapes[f'{prefix}/{len(shapes)}/kernel'])
    return shapes


def kept_settings(path: str) -> dict[str, str]:
  """The settings that are kept in the checkpoint at a path; none in one that has no such."""
  reader = Reader(path)
  if 'settings' not in reader.shapes:
    return {}
  try:
    return dict(json.loads(reader.read('settings')))
  except (ValueError, TypeError) as error:
    raise UserError(f'checkpoint {path}: its settings are not those of a run') from error


def variables(**objects) -> Dict[str, tf.Variable]:
  """The variables of `objects` by their keys in a checkpoint: the shortest path to each."""
  found, queue, seen = {}, [((), tf.train.Checkpoint(**objects))], set()
  while queue:
    path, node = queue.pop(0)
    if id(node) in seen:
      continue
    seen.add(id(node))
    if isinstance(node, tf.Variable):
      found['/'.join(path)] = node
    children = tf.train.TrackableView.children(node)
    queue += [((*path, name), child) for name, child in children.items()]
  found.pop('save_counter', None)
  return found


def restore(path: str, what: str = 'checkpoint', optional: tuple = (), **objects) -> List[str]:
  """Gives the variables of `objects` their values in the checkpoint, or changes nothing.

  Args:
    path: the checkpoint.
    what: its name in errors.
    optional: prefixes of keys that the checkpoint may lack, because published ones do.

  Returns:
    The keys that it lacked.

  Raises:
    UserError: it lacks another key, or has one in another shape or not finite.
  """
  reader = Reader(path, what)
  wanted = variables(**objects)
  lacking = [key for key in wanted if key not in reader.shapes]
  missing = [key for key in lacking if not key.startswith(optional)]
  if missing:
    raise UserError(
      f'{what} {path} holds only a part of what is asked for: it lacks {missing[0]}'
      + (f' and {len(missing) - 1} more' if len(missing) > 1 else '')
    )
  # What may be lacking follows from the rest: where both are of other sizes, the rest is named.
  for key, variable in sorted(wanted.items(), key=lambda item: item[0].startswith(optional)):
    shape = reader.shapes.get(key)
    if shape is not None and shape != variable.shape.as_list():
      raise UserError(
        f'{what} {path} does not fit the network asked for: {key} is {shape} there and '
        f'{variable.shape.as_list()} here'
      )
  values = {key: reader.read(key) for key in wanted if key in reader.shapes}
  for key, value in values.items():
    kind = np.asarray(value).dtype.kind
    if (kind in 'OSU') != (wanted[key].dtype == tf.string):
      raise UserError(f'{what} {path} does not fit: {key} is of another type there')
    values[key] = tf.cast(value, wanted[key].dtype)
    # Of what it is here: a number of float64 may be beyond float32.
    if kind == 'f' and not np.isfinite(values[key]).all():
      raise UserError(f'{what} {path} holds NaN or infinity: {key}')
  for key, value in values.items():
    wanted[key].assign(value)
  return lacking
