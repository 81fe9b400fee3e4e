"""Programs that are stopped or killed, and started again."""

import os
import re
import signal
import subprocess
import sys

import pytest
from reading import (
  assert_same_run,
  assert_same_values,
  checkpoint_names,
  files,
  n_rows,
  no_litter,
  results,
  scalars,
  unchanged,
  values,
)
from small_world import (
  check_mistake,
  collect_args,
  offline_args,
  offline_dir,
  online_args,
  online_dir,
  run_to,
)

from brac import checkpoints
from brac.results import read_progress

LONG = '--total_train_steps=1600'

LONG_GIN = dict(save_freq=350, eval_freq=100)


@pytest.fixture(scope='module')
def straight(finish, world, tmp_path_factory):
  """Runs that nobody stopped."""
  root = tmp_path_factory.mktemp('straight')
  finish(
    ['train_offline', *offline_args(world, root, LONG, **LONG_GIN)],
    ['train_online', *online_args(root, LONG, '--eval_target=-1e9', **LONG_GIN)],
  )
  return root


def stop_and_go_on(start, command, folder, save):
  """Stops a run in each way, some rows of its results apart, and lets it end."""
  run = start(*command, stop=(signal.SIGTERM, 'step 100: return '))
  assert run.wait() == 143 and n_rows(folder) == 1
  (line,) = run.said
  step = re.fullmatch(
    r'stopped by SIGTERM; step (\d+) is saved: the same command goes on from there', line
  )
  assert values(folder / save)['global_step'] == int(step[1]) < 1600

  run = start(*command, stop=(signal.SIGINT, 'step 400: return '))
  assert run.wait() == 130 and n_rows(folder) == 4
  assert run.said[-1].startswith('stopped by SIGINT; step ')
  assert f'going on from step {step[1]} of ' in run.stderr

  # As a crash: what was written after the last save is to go.
  run = start(*command, stop=(signal.SIGKILL, 'step 800: return '))
  assert run.wait() == -signal.SIGKILL and n_rows(folder) == 8

  # Before its last evaluation, without which it is not finished.
  run = start(*command, stop=(signal.SIGTERM, '1600 of 1600'))
  assert run.wait() == 143 and n_rows(folder) == 15
  is_online = save == 'state'  # whose folder tells no progress
  assert read_progress(folder) == (None if is_online else (1500, 1600))
  assert start(*command).wait() == 0
  assert read_progress(folder) == (None if is_online else (1600, 1600))


def test_an_offline_run_that_was_stopped_equals_one_that_was_not(start, world, straight, tmp_path):
  command = ['train_offline', *offline_args(world, tmp_path, LONG, **LONG_GIN)]
  folder = offline_dir(tmp_path)
  stop_and_go_on(start, command, folder, 'agent')
  assert_same_run(folder, offline_dir(straight))
  assert no_litter(folder)


def test_an_online_run_that_was_stopped_equals_one_that_was_not(start, straight, tmp_path):
  command = ['train_online', *online_args(tmp_path, LONG, '--eval_target=-1e9', **LONG_GIN)]
  folder = online_dir(tmp_path)
  stop_and_go_on(start, command, folder, 'state')
  assert checkpoint_names(folder) == [
    *('agent-1050', 'agent-1400', 'agent-350', 'agent-700'),
    *('agent_final', 'agent_partial_target', 'replay_final', 'replay_partial_target'),
  ]
  assert_same_run(folder, online_dir(straight))
  assert no_litter(folder)


STOPPED_AFTER_AN_EVALUATION = """
import os
from brac.runs.record import Record
evaluation = Record.evaluation
def stopped(record, step, *args):
  evaluation(record, step, *args)
  if step == 200:
    os.kill(os.getpid(), NUMBER)
Record.evaluation = stopped
from brac import programs, train_online
programs.run(train_online.main, takes_preset=True, stops_itself=True)
"""


def stop_after_an_evaluation(command, number):
  """Trains online, and sends itself a signal after the evaluation at step 200."""
  script = STOPPED_AFTER_AN_EVALUATION.replace('NUMBER', str(int(number)))
  return subprocess.run([sys.executable, '-c', script, *command[1:]], capture_output=True)


def test_an_online_run_that_is_killed_before_it_saved_a_step_starts_afresh(start, world, tmp_path):
  command, folder = ['train_online', *online_args(tmp_path)], online_dir(tmp_path)
  command.append('--eval_target=-1e9')
  assert stop_after_an_evaluation(command, signal.SIGKILL).returncode == -signal.SIGKILL
  assert n_rows(folder) == 1 and values(folder / 'state')['global_step'] == 0
  # Another run would leave this one's partially trained policy among its own files.
  check_mistake(start(*command, '--seed=1'), world, 'train_online', ['--seed was 0, is 1'])
  assert start(*command).wait() == 0
  assert [row[0] for row in results(folder)[1]] == [200, 400]
  assert [step for _, step, _ in scalars(folder / 'eval' / 'main')] == [200, 400]


STOPPED_WHILE_IT_EXPLORES = """
import os, signal
from brac.rollouts import OnlineRollout
explore = OnlineRollout.explore
def stopped(rollout, n):
  explore(rollout, n)
  if rollout.n_explored == 300:
    os.kill(os.getpid(), signal.SIGTERM)
OnlineRollout.explore = stopped
from brac import programs, train_online
programs.run(train_online.main, takes_preset=True, stops_itself=True)
"""


def test_an_online_run_that_was_stopped_while_it_explored_equals_one_that_was_not(start, tmp_path):
  roots = tmp_path / 'stopped', tmp_path / 'straight'
  commands = [['train_online', *online_args(r, initial_explore_steps=1000)] for r in roots]
  script = [sys.executable, '-c', STOPPED_WHILE_IT_EXPLORES, *commands[0][1:]]
  run = subprocess.run(script, capture_output=True, text=True)
  assert run.returncode == 143
  said = 'stopped by SIGTERM; step 0 is saved: the same command goes on from there'
  assert run.stderr.splitlines()[-1] == said
  assert values(online_dir(roots[0]) / 'state')['rollout/n_explored'] == 300
  for command in commands:
    assert start(*command).wait() == 0
  assert_same_run(*map(online_dir, roots))


STOPPED_WHILE_IT_COMPILES = """
import os, signal
from brac.agents.loop import Loop
compile = Loop.compile
def stopped(loop, n):
  compile(loop, n)
  os.kill(os.getpid(), signal.SIGTERM)
Loop.compile = stopped
from brac import programs, train_online
programs.run(train_online.main, takes_preset=True, stops_itself=True)
"""


def test_an_online_run_that_was_stopped_before_its_first_step_begins_anew(start, tmp_path):
  command = ['train_online', *online_args(tmp_path)]
  done = subprocess.run(
    [sys.executable, '-c', STOPPED_WHILE_IT_COMPILES, *command[1:]], capture_output=True, text=True
  )
  assert done.returncode == 143
  said = 'stopped by SIGTERM; nothing was done yet: the same command begins anew'
  assert done.stderr.splitlines()[-1] == said
  run_to(start, *command)
  assert checkpoints.exists(str(online_dir(tmp_path) / 'agent_final'))


def test_an_online_run_whose_save_is_gone_does_not_write_over_its_results(start, world, tmp_path):
  command, folder = ['train_online', *online_args(tmp_path)], online_dir(tmp_path)
  run_to(start, *command)
  for path in folder.glob('*_final.*'):
    path.unlink()
  before = files(folder)
  done = start(*command)
  assert done.wait() == 1 and 'has the results of a run whose state is gone' in done.said[0]
  assert files(folder) == before


def test_an_online_run_killed_while_it_ends_goes_on(start, tmp_path):
  """At the end the state gives way to two files: whichever of them is missing, nothing is lost."""
  folder = online_dir(tmp_path)
  command = ['train_online', *online_args(tmp_path)]
  assert stop_after_an_evaluation(command, signal.SIGTERM).returncode == 143
  state = {
    n: content for n, content in files(folder).items() if re.match(r'state\.(index|data)', n)
  }
  assert len(state) == 2
  run_to(start, *command)
  finished = files(folder)
  for missing in ('agent_final', 'replay_final', 'neither'):
    for name in finished:
      if name.startswith(missing):
        os.remove(folder / name)
    for name, content in state.items():
      (folder / name).write_bytes(content)
    run_to(start, *command)
    assert unchanged(finished, files(folder), 'lock$|tfevents'), missing


def test_a_collection_that_was_stopped_equals_one_that_was_not(start, finish, world, tmp_path):
  given = ['--gin_bindings=collect.n_envs=3', '--n_samples=12000']
  place = 'Pendulum-v1/mixture/0'
  folder = tmp_path / 'stopped' / place
  command = ['collect_data', *collect_args(world, 'mixture', *given, root=tmp_path / 'stopped')]
  # The policy that it is at says so before it begins.
  run = start(*command, stop=(signal.SIGTERM, 'untrained: '))
  assert run.wait() == 143
  (line,) = run.said
  assert line.startswith('stopped by SIGTERM; ') and 'goes on from there' in line
  assert not checkpoints.exists(str(folder / 'data'))
  finish(
    command,
    ['collect_data', *collect_args(world, 'mixture', *given, root=tmp_path / 'straight')],
  )
  assert checkpoint_names(folder) == ['data']
  assert_same_values(folder / 'data', tmp_path / 'straight' / place / 'data')


STOPPED_WHILE_IT_FILMS = """
import os
from brac import films, programs, record_video
side_by_side, n = films.side_by_side, 0
def stopped(pictures):
  global n
  n += 1
  if n == FRAME:
    os.kill(os.getpid(), NUMBER)
  return side_by_side(pictures)
films.side_by_side = stopped
programs.run(record_video.main, takes_preset=True, stops_itself=True)
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize('frame', [2, 9])  # the last
def test_a_film_ends_at_the_first_signal_and_leaves_nothing(number, frame, world, tmp_path):
  command = ['--env_name=Pendulum-v1', f'--output={tmp_path}/film.gif', '--steps=8', '--fps=50']
  command += [f'--checkpoint={world}/policies/pendulum']
  script = STOPPED_WHILE_IT_FILMS.replace('NUMBER', f'{number:d}').replace('FRAME', f'{frame}')
  run = subprocess.run([sys.executable, '-c', script, *command], capture_output=True, text=True)
  assert run.returncode == 128 + number, run.stderr
  assert run.stderr.splitlines()[-1] == f'stopped by {number.name}; there is no film'
  assert not os.listdir(tmp_path)


SWALLOWED = """
import os
from brac import programs
class Swallows:
  def __del__(self):
    os.kill(os.getpid(), 15)
def main():
  Swallows()
  print('went on')
programs.run(main)
"""


def test_a_signal_that_python_swallows_in_a_destructor_is_told_in_the_end():
  done = subprocess.run([sys.executable, '-c', SWALLOWED], capture_output=True, text=True)
  assert (done.returncode, done.stdout) == (143, 'went on\n')
  assert 'stopped by SIGTERM; it was done before that was seen' in done.stderr


STOPPED_AT_WORK = """
import os
from brac import programs, runs
def main():
  os.kill(os.getpid(), NUMBER)
  print(runs.stop_requested())
programs.run(main, stops_itself=STOPS)
"""


@pytest.mark.parametrize(
  'number, stops_itself',
  [(signal.SIGTERM, True), (signal.SIGTERM, False), (signal.SIGINT, False)],
)
def test_a_program_that_does_not_stop_itself_ends_at_the_first_signal(number, stops_itself):
  script = STOPPED_AT_WORK.replace('NUMBER', f'{number:d}').replace('STOPS', f'{stops_itself}')
  done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
  expected = (0, 'True\n') if stops_itself else (128 + number, '')
  assert (done.returncode, done.stdout) == expected and 'Traceback' not in done.stderr


STOPPED_WHILE_IT_ENDS = """
import atexit, os, time
from brac import programs, runs
def close():
  os.kill(os.getpid(), 2)
  time.sleep(60)
atexit.register(close)
def main():
  os.kill(os.getpid(), NUMBER)
  runs.stop('it is saved')
programs.run(main, stops_itself=STOPS)
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('stops_itself', [True, False])
def test_a_further_signal_ends_what_is_still_to_be_closed(number, stops_itself):
  script = STOPPED_WHILE_IT_ENDS.replace('NUMBER', f'{number:d}')
  script = script.replace('STOPS', f'{stops_itself}')
  done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
  assert done.returncode == -signal.SIGINT
  assert done.stderr == f'stopped by {number.name}; it is saved\n' * stops_itself
