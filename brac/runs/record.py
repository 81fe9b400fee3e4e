"""What a run writes down for people: TensorBoard's event files and `results.csv`."""

import functools
import glob
import math
import os
import struct
import types
from typing import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorboard.plugins.image import metadata
from tensorflow.core.util import event_pb2

from brac import files, results
from brac.errors import UserError


def _writes(method: Callable) -> Callable:
  """A method of `Record` that raises UserError where its folder cannot be written."""

  @functools.wraps(method)
  def wrapped(self, *args):
    with files.writing(self.folder, (OSError, tf.errors.OpError)):
      return method(self, *args)

  return wrapped


class Record:
  """TensorBoard's event files and `results.csv` in a run's folder.

  Each method raises UserError where the folder cannot be written.

  Attributes:
    results: the rows of `results.csv`: the step, then the mean return of each of its policies, NaN
      where there is none.
  """

  def __init__(self, folder: str, policy_names: Sequence[str], step: int = 0):
    """Opens the record of a run that stands at `step`: what was written after it goes.

    A policy that was evaluated before and is not now keeps its column.

    Raises UserError where the `results.csv` that is there is damaged.
    """
    self.folder = folder
    self._csv = os.path.join(folder, results.RESULTS)
    self._names = list(policy_names)
    self.results: list[list[float]] = []
    self._writers = {}
    self._open(step)

  @_writes
  def _open(self, step: int) -> None:
    os.makedirs(self.folder, exist_ok=True)
    if os.path.exists(self._csv):
      try:
        steps, returns = results.read_results(self._csv)
      except ValueError as error:
        raise UserError(
          f'{self.folder}: {error}; put a good copy in its place, or remove it and lose its rows'
        ) from error
      self._names = list(dict.fromkeys([*returns, *self._names]))
      columns = [returns.get(name, [math.nan] * len(steps)) for name in self._names]
      self.results = [list(row) for row in zip(steps, *columns) if row[0] <= step]
    self._write_results()
    for part in ('train', 'validation', 'estimate', *(_eval(name) for name in self._names)):
      _cut_events(os.path.join(self.folder, part), step)

  def _write_results(self) -> None:
    rows = [['step', *self._names]]
    rows += [['' if math.isnan(x) else x for x in row] for row in self.results]
    files.write_text(self._csv, ''.join(','.join(map(str, row)) + '\n' for row in rows))

  def _writer(self, part: str) -> tf.summary.SummaryWriter:
    """That of a part of the folder, which has an event file from its first number on."""
    if part not in self._writers:
      self._writers[part] = tf.summary.create_file_writer(os.path.join(self.folder, part))
    return self._writers[part]

  @_writes
  def summary(self, step: int, info: Mapping[str, float], part: str = 'train') -> None:
    """Writes the numbers of a training step under their tags, in a part of the folder."""
    with self._writer(part).as_default(step):
      for tag, value in info.items():
        tf.summary.scalar(tag, value)

  @_writes
  def evaluation(
    self,
    step: int,
    returns: Mapping[str, np.ndarray],
    estimates: Mapping[str, float] = types.MappingProxyType({}),
  ) -> None:
    """Writes the mean returns of an evaluation, and what was estimated besides.

    A policy that is not in it gets an empty cell.
    """
    means = {name: float(np.mean(values)) for name, values in returns.items()}
    for name, mean in means.items():
      with self._writer(_eval(name)).as_default(step):
        tf.summary.scalar('episode_mean', mean)
    if estimates:
      self.summary(step, estimates, 'estimate')
    means.update(estimates)
    # What is not finite is no return of a policy, but the environment's fault.
    row = [means.get(name, math.nan) for name in self._names]
    self.results.append([step, *(x if math.isfinite(x) else math.nan for x in row)])
    self._write_results()
    self.flush()

  @_writes
  def films(self, step: int, gifs: Mapping[str, bytes]) -> None:
    """Writes an animated gif of each policy, which TensorBoard has among the images."""
    for name, gif in gifs.items():
      size = struct.unpack('<HH', gif[6:10])
      with self._writer(_eval(name)).as_default(step):
        # `tf.summary.image` makes a PNG of what it is given.
        image = tf.constant([*map(str, size), gif])
        tf.summary.write('film', image, metadata=metadata.create_summary_metadata(None, None))
    self.flush()

  def mean_returns(self, name: str) -> list[float]:
    """Those of a policy in all evaluations."""
    return [row[1 + self._names.index(name)] for row in self.results]

  @_writes
  def flush(self) -> None:
    for writer in self._writers.values():
      writer.flush()


def _eval(policy_name: str) -> str:
  return os.path.join('eval', policy_name)


def _cut_events(folder: str, step: int) -> None:
  """Takes the events after a step out of a folder's event files, and what a crash left half."""
  for path in sorted(glob.glob(os.path.join(glob.escape(folder), 'events.out.tfevents.*'))):
    kept, dropped = [], False
    try:
      for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        if event_pb2.Event.FromString(record).step <= step:
          kept.append(record)
        else:
          dropped = True
    except tf.errors.DataLossError:
      dropped = True
    if dropped:
      unfinished = os.path.join(folder, 'cut.unfinished')  # no name that TensorBoard looks for
      with tf.io.TFRecordWriter(unfinished) as writer:
        for record in kept:
          writer.write(record)
      os.replace(unfinished, path)
