"""What TensorBoard's HParams tab and its texts show of a run: its values, when it began and ended.

They stand in event files of the run's folder itself, above `train/`, `validation/` and `eval/`:
there TensorBoard takes the numbers of all of these for the metrics of the run's session.
"""

import glob
import os
import textwrap
from collections.abc import Iterator, Mapping

import tensorflow as tf
from tensorboard.plugins.hparams import api_pb2, metadata, summary, summary_v2
from tensorflow.core.util import event_pb2

from brac import files

TEXT = 'operative_config'  # the tag of the text


def begin(folder: str, name: str, values: Mapping[str, object], config: str) -> None:
  """Writes the session of a run, which is there once however often the run goes on.

  A session that has ended, or has other values, is taken out, and begins anew at its old time.

  Args:
    folder: the run's.
    name: of the run, by which its row in the table is known.
    values: the columns: numbers, texts, booleans.
    config: the operative configuration, which the texts show.

  Raises:
    UserError: it cannot be written.
  """
  config = textwrap.indent(config, '    ')  # Markdown's mark of code
  there = dict(_values(folder))
  then = there.get(metadata.SESSION_START_INFO_TAG)
  then = then and metadata.parse_session_start_info_plugin_data(then.metadata.plugin_data.content)
  start = summary_v2.hparams_pb(values, name, then and then.start_time_secs)
  (wanted,) = start.value
  wanted = metadata.parse_session_start_info_plugin_data(wanted.metadata.plugin_data.content)
  if then == wanted and metadata.SESSION_END_INFO_TAG not in there and _text(there) == config:
    return
  with files.writing(folder, (OSError, tf.errors.OpError)):
    for path in _paths(folder):
      os.remove(path)
    with tf.summary.create_file_writer(folder).as_default(0):
      tf.summary.experimental.write_raw_pb(start.SerializeToString())
      tf.summary.text(TEXT, config)
      tf.summary.flush()


def end(folder: str) -> None:
  """Writes, once, that a run came to its end; raises UserError where that cannot be written."""
  if metadata.SESSION_END_INFO_TAG in dict(_values(folder)):
    return
  pb = summary.session_end_pb(api_pb2.STATUS_SUCCESS)
  with files.writing(folder, (OSError, tf.errors.OpError)):
    with tf.summary.create_file_writer(folder).as_default(0):
      tf.summary.experimental.write_raw_pb(pb.SerializeToString())
      tf.summary.flush()


def _paths(folder: str) -> list[str]:
  return sorted(glob.glob(os.path.join(glob.escape(folder), 'events.out.tfevents.*')))


def _values(folder: str) -> Iterator[tuple[str, object]]:
  """The values of the event files of a folder by their tags, as far as they can be read."""
  for path in _paths(folder):
    try:
      for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        for value in event_pb2.Event.FromString(record).summary.value:
          yield value.tag, value
    except tf.errors.DataLossError:
      pass  # what a crash left half


def _text(there: Mapping[str, object]) -> str:
  return tf.make_ndarray(there[TEXT].tensor).item().decode() if TEXT in there else ''
