"""What runs leave, read back."""

import csv
import glob
import os
import re

import numpy as np
import tensorflow as tf

from brac import checkpoints


def shared_data():
  """The folder of reference data above this one; None where it is not there."""
  place = os.path.dirname(os.path.abspath(__file__))
  while place != os.path.dirname(place):
    place = os.path.dirname(place)
    if os.path.isdir(os.path.join(place, 'shared', 'data')):
      return os.path.join(place, 'shared', 'data')
  return None


def files(folder):
  """The contents of the files below a folder, by their relative paths."""
  found = {}
  for root, _, names in os.walk(folder):
    for name in names:
      with open(os.path.join(root, name), 'rb') as f:
        found[os.path.relpath(f.name, folder)] = f.read()
  return found


def checkpoint_names(folder):
  paths = glob.glob(os.path.join(glob.escape(str(folder)), '**', '*.index'), recursive=True)
  names = sorted(os.path.relpath(path, folder)[: -len('.index')] for path in paths)
  return [name for name in names if not name.endswith('.old')]


def values(path):
  reader = checkpoints.Reader(str(path))
  return {key: reader.read(key) for key in reader.shapes}


def scalars(folder):
  """`(tag, step, value)` of the TensorBoard events in a folder, in order of steps and tags."""
  found = []
  for path in glob.glob(os.path.join(glob.escape(str(folder)), 'events.out.tfevents.*')):
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
      event = tf.compat.v1.Event.FromString(record)
      found += [(v.tag, event.step, float(tf.make_ndarray(v.tensor))) for v in event.summary.value]
  return sorted(found, key=lambda x: (x[1], x[0]))


def tags(folder):
  return {tag for tag, _, _ in scalars(folder)}


def results(folder):
  """The header of `results.csv` and its rows."""
  try:
    with open(os.path.join(folder, 'results.csv'), encoding='utf-8', newline='') as f:
      header, *rows = csv.reader(f)
  except FileNotFoundError:
    return [], []
  return header, [[int(step), *map(float, means)] for step, *means in rows]


def n_rows(folder):
  return len(results(folder)[1])


def assert_same_values(path, other):
  a, b = values(path), values(other)
  assert a.keys() == b.keys()
  for key in a:
    np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def assert_same_run(folder, other):
  """Weights, optimizers, random state, replay, results and TensorBoard's numbers, bit for bit."""
  assert checkpoint_names(folder) == checkpoint_names(other)
  for name in checkpoint_names(folder):
    assert_same_values(os.path.join(folder, name), os.path.join(other, name))
  assert files(folder)['results.csv'] == files(other)['results.csv']
  parts = ['train'] + [os.path.join('eval', name) for name in os.listdir(folder / 'eval')]
  for part in parts:
    assert scalars(folder / part) == scalars(other / part)
    # No step is there twice.
    assert len({x[:2] for x in scalars(folder / part)}) == len(scalars(folder / part))


def no_litter(folder):
  return not any(
    re.search(r'unfinished|\.new|\.moving|_temp|tempst', name) for name in files(folder)
  )


def unchanged(before, after, but='lock$'):
  """Compares but for the lock, which a process that does not clean up leaves with its number."""
  keep = [name for name in {*before, *after} if not re.search(but, name)]
  return all(before.get(name) == after.get(name) for name in keep)
