"""Commands given again, on the folder of a run that is finished or longer now."""

import os
import pathlib
import re
import shutil

import pytest
from reading import assert_same_run, files, results, scalars, unchanged
from small_world import (
  BRIEF,
  check_mistake,
  collect_args,
  gin,
  offline_args,
  offline_dir,
  online_args,
  online_dir,
  run_to,
)


def test_a_finished_offline_run_changes_nothing_and_goes_on_with_more_steps(start, world, tmp_path):
  folder = offline_dir(tmp_path / 'a', 'bc')
  args = offline_args(world, tmp_path / 'a', '--agent_name=bc')
  run_to(start, 'train_offline', *args)
  before, events = files(folder), scalars(folder / 'train')
  run_to(start, 'train_offline', *args)
  # With fewer steps than it has there is nothing to do either.
  run_to(start, 'train_offline', *args, '--total_train_steps=200')
  assert unchanged(before, files(folder))
  assert scalars(folder / 'train') == events and len(events) > 0
  # But a clone that is damaged is made again.
  with open(folder / 'agent_behavior.data-00000-of-00001', 'r+b') as f:
    f.write(b'damaged')
  run_to(start, 'train_offline', *args)
  assert unchanged(before, files(folder))

  run_to(start, 'train_offline', *args, '--total_train_steps=800')
  args = offline_args(world, tmp_path / 'b', '--agent_name=bc', '--total_train_steps=800')
  run_to(start, 'train_offline', *args)
  assert_same_run(folder, offline_dir(tmp_path / 'b', 'bc'))


def test_a_finished_online_run_changes_nothing_and_goes_on_with_more_steps(start, tmp_path):
  folder = online_dir(tmp_path / 'a')
  args = online_args(tmp_path / 'a')
  run_to(start, 'train_online', *args)
  before, events = files(folder), scalars(folder / 'train')
  run_to(start, 'train_online', *args)
  assert unchanged(before, files(folder))
  assert scalars(folder / 'train') == events and len(events) > 0

  run_to(start, 'train_online', *args, '--total_train_steps=800')
  run_to(start, 'train_online', *online_args(tmp_path / 'b', '--total_train_steps=800'))
  assert_same_run(folder, online_dir(tmp_path / 'b'))


def test_a_run_that_goes_on_says_nothing_but_its_log(finish, world, tmp_path):
  command = ['train_offline', *offline_args(world, tmp_path, *BRIEF)]
  finish(command)
  (run,) = finish([*command, '--total_train_steps=2'])
  lines = run.stderr.splitlines()
  assert len(lines) < 12 and not any(line.startswith('W') for line in lines), run.stderr


def test_a_run_goes_on_with_what_changed_where_that_is_allowed(start, world, finished, tmp_path):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  changed = ['--allow_changed_config', *gin('train_eval_offline.discount=0.5')]
  run = start('train_offline', *offline_args(world, tmp_path, '--total_train_steps=600'), *changed)
  assert run.wait() == 0
  assert re.search(r'^W.*train_eval_offline\.discount was 0\.99, is 0\.5', run.stderr, re.M)
  assert [row[0] for row in results(offline_dir(tmp_path))[1]] == [200, 400, 600]


def test_data_that_is_there_is_not_written_over(start, world):
  before = files(world / 'data')
  run = start('collect_data', *collect_args(world, 'randwalk', '--seed=8'))
  texts = ['{world}/data/Pendulum-v1/randwalk/0/data', '--sub_dir']
  check_mistake(run, world, 'collect_data', [*texts, '--seed was 0, is 8'])
  assert unchanged(before, files(world / 'data'))
  # The same command finds what it would have made.
  run = start('collect_data', *collect_args(world, 'randwalk'))
  assert run.wait() == 0 and 'there is nothing to do' in run.stderr
  assert unchanged(before, files(world / 'data'))


@pytest.mark.parametrize('small_disk', ['384k'], indirect=True)  # a run and two of its saves
def test_a_longer_online_run_that_finds_the_disk_full_loses_nothing(
  start,
  world,
  finished,
  small_disk,
  tmp_path,
):
  more = '--total_train_steps=600'
  shutil.copytree(finished / 'Pendulum-v1', tmp_path / 'Pendulum-v1')
  run_to(start, 'train_online', *online_args(tmp_path, more))
  said = set()
  for room in (30_000, 95_000):
    root = pathlib.Path(small_disk, 'run')
    shutil.copytree(online_dir(finished), online_dir(root))
    fill = os.path.join(small_disk, 'fill')
    with open(fill, 'wb') as f:
      f.write(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - room))
    run = start('train_online', *online_args(root, more))
    status = run.wait()
    if status:
      check_mistake(run, world, 'train_online', ['o space left on device (0 MB free)'])
      said.add(re.search(r'cannot (save|write to) \S*?(\w*)[:;]', run.said[0])[2])
    os.remove(fill)
    if status:
      run_to(start, 'train_online', *online_args(root, more))
    assert_same_run(online_dir(root), online_dir(tmp_path))
    shutil.rmtree(root)
  assert said == {'state', 'replay_final'}
