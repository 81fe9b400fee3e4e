"""The world that the tests of programs share."""

import os
import shutil
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from small_world import CONFIGS, collect_args, offline_args, online_args

from brac import checkpoints, rng
from brac.data.replay import Dataset
from brac.data.stored import load
from brac.networks import Actor, Box


@pytest.fixture(scope='session')
def world(tmp_path_factory, finish):
  """A folder with datasets of Pendulum-v1, good and bad, policies and configs."""
  folder = tmp_path_factory.mktemp('world')
  (folder / 'configs').mkdir()
  for name, source in CONFIGS.items():
    (folder / 'configs' / f'{name}.py').write_text(textwrap.dedent(source))
  (folder / 'broken.gin').write_text('train_eval_offline.batch_size = 8\nthis is not gin\n')
  (folder / 'good.gin').write_text('train_eval_offline.batch_size = 8\n')
  (folder / 'rows.gin').write_text('train_eval_offline.shuffle_steps = 1000\n')
  (folder / 'file').write_text('mine')
  (folder / 'file.gif').write_text('mine')
  finish(['collect_data', *collect_args(folder, 'randwalk')])
  data = folder / 'data' / 'Pendulum-v1'
  shutil.copytree(data, folder / 'data' / 'HalfCheetah-v2')
  shutil.copytree(data / 'randwalk', folder / 'data' / 'HalfCheetah-v2' / 'eps1')
  shutil.copytree(data / 'randwalk', data / 'damaged')
  os.truncate(data / 'damaged' / '0' / 'data.index', 100)
  rows = load(str(data / 'randwalk' / '0' / 'data'), 3, 1)
  checkpoints.save(str(data / 'empty' / '0' / 'data'), data=Dataset(rows, size=0))
  rows.s2[7, 1] = np.nan
  checkpoints.save(str(data / 'nan' / '0' / 'data'), data=Dataset(rows))
  rows.s2[7, 1] = 0
  for name, field, values in (
    ('discounts', '_discount', rows.discount + 6),
    ('text', '_s1', rows.s1.astype(str)),
    ('outside', '_a1', rows.a1 + 9),
    ('many_sizes', '_current_size', [10, 20]),
  ):
    other = Dataset(rows)
    setattr(other, field, tf.Variable(values))
    checkpoints.save(str(data / name / '0' / 'data'), data=other)
  shutil.copytree(data / 'randwalk', data / 'no_index')
  os.remove(data / 'no_index' / '0' / 'data.index')
  nan = Actor(3, (8,), Box(np.zeros(1, np.float32), np.ones(1, np.float32)), rng.Rng(0))
  nan.variables[0].assign(nan.variables[0] * np.nan)
  checkpoints.save(str(folder / 'policies' / 'nan'), policy=nan)
  for name, n_states, n_actions in (('pendulum', 3, 1), ('cheetah', 17, 6)):
    ones = np.ones(n_actions, np.float32)
    actor = Actor(n_states, (8,), Box(0 * ones, 2 * ones), rng.Rng(0))
    checkpoints.save(str(folder / 'policies' / name), policy=actor)
  return folder


@pytest.fixture(scope='session')
def finished(finish, world, tmp_path_factory):
  root = tmp_path_factory.mktemp('finished')
  finish(['train_offline', *offline_args(world, root)], ['train_online', *online_args(root)])
  return root
