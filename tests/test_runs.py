"""A run's record, its watch over the numbers, and the signals that it waits for."""

import glob
import os
import signal

import numpy as np
import pytest
import tensorflow as tf
from reading import files, results, scalars, unchanged

from brac import files as brac_files
from brac import results as brac_results
from brac import runs, training
from brac.errors import UserError


def test_a_record_that_is_taken_up_drops_what_came_after_and_what_is_half_written(tmp_path):
  record = runs.Record(str(tmp_path), ['main', 'max_q'])
  for step in (10, 20, 30):
    record.summary(step, {'q_loss': step / 8, 'p_loss': step / 4})
    record.evaluation(step, {'main': np.array([step, 3.0]), 'max_q': np.array([0.5])})
  (path,) = glob.glob(str(tmp_path / 'train' / '*'))
  os.truncate(path, os.path.getsize(path) - 5)

  record = runs.Record(str(tmp_path), ['main', 'max_q'], 20)
  train = [('p_loss', 10, 2.5), ('q_loss', 10, 1.25), ('p_loss', 20, 5.0), ('q_loss', 20, 2.5)]
  assert scalars(tmp_path / 'train') == train
  assert scalars(tmp_path / 'eval' / 'max_q') == [
    (*('episode_mean', step), 0.5) for step in (10, 20)
  ]
  rows = [[10, 6.5, 0.5], [20, 11.5, 0.5]]
  assert results(tmp_path) == (['step', 'main', 'max_q'], rows) and record.results == rows

  record.evaluation(40, {'main': np.array([1.0]), 'max_q': np.array([2.0])})
  assert results(tmp_path)[1] == [*rows, [40, 1.0, 2.0]]
  assert scalars(tmp_path / 'eval' / 'main')[-1] == ('episode_mean', 40, 1.0)


def test_a_record_on_a_full_disk_is_an_error(small_disk):
  record = runs.Record(small_disk, ['main'])
  with open(os.path.join(small_disk, 'fill'), 'wb') as f:
    f.write(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - 4096))
  with pytest.raises(UserError) as error:
    for step in range(300):
      record.summary(step, {'q_loss': 1.0})
    record.flush()
  message = str(error.value)
  assert f'cannot write to {small_disk}: ' in message and '\n' not in message
  assert '0 MB free' in message and 'what was saved before is kept' in message
  assert 'function_node' not in message


@pytest.mark.parametrize(
  'content',
  ['', 'step,main\n10,1.5', 'step,main\nabc,1.5\n', 'step,main\n2,x\n', b'\xff\xfe'],
)
def test_a_damaged_results_csv_is_one_line_and_is_not_written_over(tmp_path, content):
  path = tmp_path / 'results.csv'
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  before = files(tmp_path)
  with pytest.raises(UserError, match=rf'{tmp_path}: .*results\.csv .*; put a good copy'):
    runs.Record(str(tmp_path), ['main'], 20)
  assert files(tmp_path) == before


@pytest.mark.parametrize('what', ['lock', 'progress.json'])
def test_what_a_full_disk_does_not_take_is_one_line(small_disk, what):
  write = {
    'lock': lambda: runs.lock(small_disk),
    'progress.json': lambda: brac_results.write_progress(small_disk, 1, 2),
  }[what]
  if what != 'lock':
    with open(os.path.join(small_disk, what), 'w') as f:
      f.write('the one before')
  with pytest.raises(OSError), open(os.path.join(small_disk, 'fill'), 'wb', 0) as f:
    while True:
      f.write(bytes(4096))
  before = files(small_disk)
  with pytest.raises(UserError) as error, brac_files.writing(small_disk):
    write()
  message = str(error.value)
  assert message.startswith(f'cannot write to {small_disk}: No space left on device (0 MB free)')
  assert unchanged(before, files(small_disk), 'lock$|unfinished$')


def test_a_number_that_stands_still_for_long_is_warned_of_once():
  watch, said = runs.Watch(['alpha', 'div_mean']), {}
  for step in range(100, 40_000, 100):
    # α is at its bound from step 5,000 on, but for one summary; D moves.
    alpha = 500.0 if step >= 5000 and step != 12_000 else step / 100
    for line in watch.look(step, {'alpha': alpha, 'div_mean': step * 1.0, 'q_loss': 1.0}):
      said[step] = line
  assert list(said) == [22_100]
  assert said[22_100].startswith(
    'alpha has been 500 in every summary from step 12100 to step 22100'
  )


@pytest.mark.parametrize('value', [np.nan, -np.inf])
def test_a_weight_that_is_not_finite_stops_the_run_at_the_next_summary(make_agent, tmp_path, value):
  # A bias of -inf is nothing that a loss tells of: behind the ReLU its unit is 0.
  agent, saves = make_agent('bc', model_params=((8, 8),)), []
  schedule = training.Schedule(100, 10, 10, 1000, 5, 10.0)
  record, clock = runs.Record(str(tmp_path), ['main']), runs.Clock()

  def save(step):
    saves.append(step)
    if step == 25:
      agent.pi.variables[0].assign(tf.fill(agent.pi.variables[0].shape, np.float32(value)))

  with pytest.raises(UserError, match='at step 30; the last finite values were .*p_loss'):
    training.train('bc', agent, schedule, {}, record, clock, save)
  assert saves == [5, 10, 15, 20, 25]


def test_a_second_signal_does_not_wait(monkeypatch):
  monkeypatch.setattr(runs, '_stop_signals', [])
  before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
  try:
    runs.catch_stops()
    os.kill(os.getpid(), signal.SIGINT)
    assert runs.stop_requested()
    with pytest.raises(KeyboardInterrupt) as second:
      os.kill(os.getpid(), signal.SIGTERM)
    assert second.value.args == (signal.SIGTERM,)
  finally:
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGTERM, before[1])
