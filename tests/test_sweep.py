"""Searches: what they try, stop, take up again and leave. Most trials are scripts of a moment."""

import csv
import errno
import fcntl
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import matplotlib.image
import pytest
from matplotlib.figure import Figure

from brac import gin_config, results
from brac.data_config import project_folder
from brac.errors import UserError
from brac.grids import grid_flags, outcome, ranking, space, statistics
from brac.grids.jobs import Job, Local, is_in_use
from brac.grids.metrics import Returns, Values

optuna = pytest.importorskip('optuna', reason='a search needs optuna: pip install "brac[sweep]"')

from brac.grids.search import JOURNAL, Halving, Search, Trial, run_searches  # noqa: E402

# Like train_offline: locks its folder, goes on from where it is, writes an evaluation every 10
# steps, stops at SIGTERM; at the rungs it waits until the search has seen what it is worth, as
# `tell_what_was_seen` says, and has stopped it or not. Best: ALPHA = 10, POLICY_LR = 1e-4.
TRIAL = """
import fcntl, json, math, os, signal, sys, time
folder, total, alpha, lr, seconds = sys.argv[1], *map(float, sys.argv[2:])
lock = open(folder + '/lock', 'a')
try:
  fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
  sys.exit(75)
stops = []
signal.signal(signal.SIGTERM, lambda *_: stops.append(1))
path = folder + '/results.csv'
text = open(path).read() if os.path.exists(path) else 'step,main\\n'
begin = step = 10 * (text.count('\\n') - 1)
print('from', step, flush=True)
if alpha == 668 or alpha == 667 and not os.path.exists(folder + '/killed'):
  open(folder + '/killed', 'a').write('+')
  os.kill(os.getpid(), signal.SIGKILL)
if alpha in (664, 665) and not begin:  # somebody else stops it, beyond a rung or before
  total = 40 if alpha == 664 else 10
killed = os.path.join(os.path.dirname(__file__), 'killed_at_its_rungs')
killed = float(open(killed).read()) if os.path.exists(killed) else None
peak = 1000 - 100 * abs(math.log10(alpha) - 1) - 50 * abs(math.log10(lr) + 4)
def wait(seconds, seen):
  end = time.monotonic() + seconds
  while time.monotonic() < end and not stops and not seen():
    time.sleep(0.005)
def is_seen():
  path = folder + '/seen'
  return os.path.exists(path) and int(open(path).read()) >= step
while step < total and not stops:
  wait(seconds, lambda: False)
  step += 10
  value = '' if alpha == 669 else peak + 0.01 * step
  text += f'{step},{value}\\n'
  open(path + '.new', 'w').write(text)
  os.replace(path + '.new', path)
  if step in (30, 90) and killed == alpha and not os.path.exists(f'{folder}/killed{step}'):
    open(f'{folder}/killed{step}', 'w').close()
    os.kill(os.getpid(), signal.SIGKILL)
  if step in (30, 90) and step < total:
    wait(60, is_seen)
with open(folder + '/starts', 'a') as f:
  f.write(f'{begin} {step}\\n')
if alpha == 666:
  sys.exit('it does not do')
sys.exit(143 if step < float(sys.argv[2]) else 0)
"""
VALUES = {'ALPHA': [0.1, 0.3, 1.0, 3.0, 10.0], 'POLICY_LR': [3e-6, 1e-5, 3e-5, 1e-4, 3e-4]}
SCHEDULE = Halving(total_train_steps=270, first_rung=30, reduction=3, max_trials=10**6)


@pytest.fixture(autouse=True)
def tell_what_was_seen(monkeypatch):
  """Whoever looked at a trial leaves the step of what it saw, once it has stopped what it stops."""
  advance = Trial.advance

  def advance_and_tell(trial):
    over = advance(trial)
    path = os.path.join(trial.search.run_folder(trial.point), 'seen')
    with open(f'{path}.{os.getpid()}', 'w', encoding='utf-8') as f:
      f.write(f'{10 * trial._n_reported}')
    os.replace(f.name, path)
    return over

  monkeypatch.setattr(Trial, 'advance', advance_and_tell)


@pytest.fixture
def trial_script(tmp_path):
  path = tmp_path / 'trial.py'
  path.write_text(TRIAL)
  return path


def make_search(
  root,
  script,
  values=VALUES,
  schedule=SCHEDULE,
  seconds=0.01,
  name='search',
  metric=None,
  others=(),
):
  folder = root / name

  def job_of(point, total):
    run = folder / point.name / '0'
    numbers = [total, *(point.values[macro] for macro in ('ALPHA', 'POLICY_LR')), seconds]
    command = [sys.executable, '-I', '-S', str(script), str(run), *map(str, numbers)]
    return Job(point.name, command, str(root / 'logs' / f'{point.name}.log'), (), str(run))

  tried = space.Space('grid.json', 'main', values, others)
  return Search(name, tried, schedule, str(folder), 0, job_of, metric or Returns(2))


def run(searches, backend):
  run_searches(searches, backend, poll_seconds=0.03)


def states(search):
  return [trial.state.name for trial in search._study.get_trials(deepcopy=False)]


def levels(search):
  return {standing.point.name: standing.level for standing in search.standings()}


def check_result(search):
  """What holds at the end of any search of the 25 points, however it went."""
  standings = search.standings()
  assert all(s.level >= 1 for s in standings)
  for k, n in ((0, 25 // 3), (1, 25 // 3 // 3)):
    ranked = sorted((s for s in standings if s.level > k), key=lambda s: -s.values[k])
    assert all(s.level > k + 1 for s in ranked[:n])
  assert search.best(standings).point.values == {'ALPHA': 10.0, 'POLICY_LR': 1e-4}
  assert search.best(standings).level == 3
  # Bad ones are stopped when they are seen to be bad.
  assert sum(s.level == 1 for s in standings) >= 12
  assert all(s.curve.steps[-1] <= 270 for s in standings)


# --- The grid -------------------------------------------------------------------------------------


def test_points_come_coarse_first_and_have_the_names_of_their_values():
  tried = space.Space('', 'main', VALUES)
  points = tried.points()
  coarse = [p.values for p in points[:9]]
  assert len(points) == 25 and [p.is_coarse for p in points] == [True] * 9 + [False] * 16
  assert {v['ALPHA'] for v in coarse} == {0.1, 1.0, 10.0}
  assert {v['POLICY_LR'] for v in coarse} == {3e-6, 3e-5, 3e-4}
  (point,) = space.Space('', 'main', {'POLICY_LR': [3e-5], 'ALPHA': [30.0]}).points()
  assert point.name == 'ALPHA_30,POLICY_LR_3e-05'
  assert point.bindings == ['ALPHA=30.0', 'POLICY_LR=3e-05']


@pytest.mark.parametrize('preset', grid_flags.PRESETS)
def test_each_preset_has_a_grid_that_it_has_a_use_for(preset):
  tried = space.read(os.path.join(project_folder('configs'), 'grids', preset + '.json'))
  assert tried.policy == ('max_q' if preset == 'bear' else '')
  assert 'POLICY_LR' in tried.values
  for values in tried.values.values():
    for a, b in zip(values, values[1:]):
      assert math.log10(b / a) == pytest.approx(0.5, abs=0.03)
  path = os.path.join(project_folder('configs'), preset + '.gin')
  bindings = tried.points()[-1].bindings
  preset = gin_config.parse([path], bindings)
  assert preset.idle == () and preset.macros.items() >= tried.points()[-1].values.items()


@pytest.mark.parametrize(
  'content, text',
  [
    ('{', 'is no JSON'),
    ('[1]', 'reads {"values"'),
    ('{"values": {}}', 'reads {"values"'),
    ('{"values": {"ALPHA": [1]}, "polcy": "main"}', 'reads {"values"'),
    ('{"values": {"A B": [1]}}', "'A B' is no name"),
    ('{"values": {"ALPHA": [1, "x"]}}', 'ALPHA has a list of numbers'),
    ('{"values": {"ALPHA": []}}', 'ALPHA has a list of numbers'),
    ('{"values": {"ALPHA": [NaN]}}', 'ALPHA has a list of numbers'),
    ('{"values": {"ALPHA": [1' + 400 * '0' + ']}}', 'ALPHA has a list of numbers'),
    ('{"values": {"ALPHA": [1], "ALPHA": [2]}}', "'ALPHA' is there twice"),
    (100000 * '[', 'is no JSON that can be read'),
    ('{"values": {"ALPHA": [1.0000001, 1]}}', 'of ALPHA two values are the same'),
  ],
)
def test_what_is_no_grid_is_one_line(tmp_path, content, text):
  path = tmp_path / 'grid.json'
  path.write_text(content)
  with pytest.raises(UserError, match=text) as error:
    space.read(str(path))
  assert str(path) in str(error.value) and '\n' not in str(error.value)
  with pytest.raises(UserError, match='No such file'):
    space.read(str(path) + 'x')


def test_what_a_run_is_worth_is_the_mean_of_its_last_evaluations():
  curve = space.Curve((10, 20, 30, 40), (1.0, 3.0, math.nan, 8.0))
  assert curve.mean(2) == 8.0 and curve.mean(2, 20) == 2.0 and curve.mean(9, 15) == 2.0
  assert curve.mean(2, 25) == 3.0
  assert math.isnan(curve.mean(2, 41)) and curve.mean(1, 30) == -math.inf  # which failed
  assert math.isnan(space.Curve().mean(2))


# --- The trials -----------------------------------------------------------------------------------


def test_a_search_finds_the_best_and_stops_the_others(tmp_path, trial_script):
  search = make_search(tmp_path, trial_script)
  run([search], Local(3))
  check_result(search)
  assert {s.curve.steps[-1] for s in search.standings() if s.level == 1} == {30}
  assert 'RUNNING' not in states(search) and search.faults == {}
  whole = sum(level == 3 for level in levels(search).values())
  assert states(search).count('COMPLETE') == whole < 9
  # Nothing is trained twice.
  for point in search._points:
    with open(os.path.join(search.run_folder(point), 'starts'), encoding='utf-8') as f:
      starts = [tuple(map(int, line.split())) for line in f]
    assert starts[0][0] == 0 and all(a[1] == b[0] for a, b in zip(starts, starts[1:]))
  # Once more there is nothing to do.
  n = len(states(search))
  run([search], Local(3))
  assert len(states(search)) == n


def test_no_more_than_so_many_are_tried_and_few_have_a_winner(tmp_path, trial_script):
  search = make_search(tmp_path, trial_script, schedule=SCHEDULE._replace(max_trials=2))
  run([search], Local(2))
  assert sorted(levels(search).values())[-3:] == [0, 1, 3]


def test_runs_that_are_there_are_taken_and_not_run_again(tmp_path, trial_script):
  values = {'ALPHA': [1.0, 3.0, 10.0], 'POLICY_LR': [1e-4]}
  search = make_search(tmp_path, trial_script, values)
  folders = {p.values['ALPHA']: search.run_folder(p) for p in search._points}
  for alpha, (n, value) in {1.0: (3, 5000.0), 10.0: (27, 6000.0)}.items():
    os.makedirs(folders[alpha])
    with open(os.path.join(folders[alpha], 'results.csv'), 'w', encoding='utf-8') as f:
      f.write('step,main\n' + ''.join(f'{10 * k + 10},{value}\n' for k in range(n)))
  search = make_search(tmp_path, trial_script, values)
  assert sorted(states(search)) == ['COMPLETE', 'PRUNED']
  run([search], Local(1))
  assert not os.path.exists(os.path.join(folders[10.0], 'starts'))
  assert not os.path.exists(os.path.join(folders[1.0], 'starts'))
  assert search.best().point.values['ALPHA'] == 10.0
  with open(os.path.join(folders[3.0], 'starts'), encoding='utf-8') as f:
    assert f.read().startswith('0 ')


def test_a_search_that_is_through_waits_for_no_room(tmp_path, trial_script):
  class Full(Local):
    def has_room(self):
      return False

  search = make_search(tmp_path, trial_script, values={**VALUES, 'POLICY_LR': [1e-4]})
  run([search], Local(2))
  assert search.is_through()
  run([search], Full(1))  # as a cluster whose nodes have left
  begun = make_search(tmp_path, trial_script, name='begun')
  assert not begun.is_through()


def test_a_trial_that_fails_is_named_and_the_others_go_on(tmp_path, trial_script):
  values = {'ALPHA': [10.0, 666.0, 1.0], 'POLICY_LR': [1e-4]}
  schedule = SCHEDULE._replace(total_train_steps=20, first_rung=30)
  search = make_search(tmp_path, trial_script, {**values, 'ALPHA': [666.0, 10.0]}, schedule)
  run([search], Local(1))
  assert states(search) == ['COMPLETE', 'COMPLETE']
  search = make_search(tmp_path, tmp_path / 'no_such.py', values, name='other')
  run([search], Local(1))
  (fault, *_) = search.faults.values()
  assert len(search.faults) == 3 and 'exit status 2: ' in fault and "no_such.py'" in fault
  assert states(search) == ['FAIL'] * 3


def test_a_trial_whose_program_is_killed_is_tried_again_but_not_for_ever(tmp_path, trial_script):
  values = {'ALPHA': [667.0, 668.0], 'POLICY_LR': [1e-4]}
  search = make_search(tmp_path, trial_script, values)
  run([search], Local(1))
  once, always = search._points
  assert levels(search)[once.name] == 3 and search.best().point == once
  assert list(search.faults) == [always.name]
  assert 'killed by signal 9' in search.faults[always.name]
  with open(os.path.join(search.run_folder(always), 'killed'), encoding='utf-8') as f:
    assert f.read() == '+++'


@pytest.mark.parametrize('killed', [0.1, 1.0, 10.0])
def test_a_trial_that_is_killed_at_its_rungs_does_not_compete_with_itself(
  killed, tmp_path, trial_script
):
  values = {'ALPHA': [0.1, 1.0, 10.0], 'POLICY_LR': [1e-4]}
  undisturbed = make_search(tmp_path, trial_script, values, name='undisturbed')
  run([undisturbed], Local(1))
  (tmp_path / 'killed_at_its_rungs').write_text(str(killed))
  search = make_search(tmp_path, trial_script, values)
  run([search], Local(1))
  assert levels(search) == levels(undisturbed) and search.faults == {}
  for point in search._points:
    one, other = (s.curve(point) for s in (search, undisturbed))
    assert one == other
  (point,) = [point for point in search._points if point.values['ALPHA'] == killed]
  assert os.path.exists(os.path.join(search.run_folder(point), 'killed30'))


def test_a_trial_whose_program_others_stop_goes_on(tmp_path, trial_script):
  values = {'ALPHA': [665.0], 'POLICY_LR': [1e-4]}
  search = make_search(tmp_path, trial_script, values)
  run([search], Local(1))
  (point,) = search._points
  assert search.faults == {} and search.best().level == 3
  with open(os.path.join(search.run_folder(point), 'starts'), encoding='utf-8') as f:
    assert f.read() == '0 10\n10 270\n'


def test_a_trial_that_others_stop_between_rungs_goes_on(tmp_path, trial_script):
  values = {'ALPHA': [664.0, 0.01], 'POLICY_LR': [1e-4]}
  search = make_search(tmp_path, trial_script, values)
  run([search], Local(1))
  first, other = search._points
  assert levels(search) == {first.name: 3, other.name: 1} and search.best().point == first
  starts = [os.path.join(search.run_folder(point), 'starts') for point in (first, other)]
  with open(starts[0], encoding='utf-8') as f:
    assert f.read() == '0 40\n40 270\n'
  assert os.path.getmtime(starts[0]) < os.path.getmtime(starts[1])  # as if nobody had stopped it


def test_a_search_that_is_killed_between_rungs_goes_on_with_the_trial_that_was_ahead(
  tmp_path, trial_script, monkeypatch
):
  values = {'ALPHA': [10.0, 1.0], 'POLICY_LR': [1e-4]}
  advance = Trial.advance

  def advance_and_die(trial):
    advance(trial)
    if trial._n_reported >= 3:
      os.kill(os.getpid(), signal.SIGKILL)

  with monkeypatch.context() as patch:
    patch.setattr(Trial, 'advance', advance_and_die)
    child = forked(lambda: run([make_search(tmp_path, trial_script, values)], Local(1)))
  assert os.waitpid(child, 0)[1] == signal.SIGKILL
  search = make_search(tmp_path, trial_script, values)
  while is_in_use(search.run_folder(search._points[0])):  # the trial, which it takes with it
    time.sleep(0.01)
  run([search], Local(1))
  assert list(levels(search).values()) == [3, 1]
  assert search.best().point.values == {'ALPHA': 10.0, 'POLICY_LR': 1e-4}
  starts = [os.path.join(search.run_folder(point), 'starts') for point in search._points]
  assert os.path.getmtime(starts[0]) < os.path.getmtime(starts[1])


def test_what_was_to_be_stopped_when_the_search_was_killed_does_not_go_on(tmp_path, trial_script):
  values = {'ALPHA': [10.0, 1.0], 'POLICY_LR': [1e-4]}
  search = make_search(tmp_path, trial_script, values)
  first, other = search._points
  write_evaluations(search, first, 27 * [2000.0])
  write_evaluations(search, other, 4 * [1000.0])
  search._settle()
  search.ask(other)  # its process dies before it has reported
  search = make_search(tmp_path, trial_script, values)
  assert search.is_through() and levels(search) == {first.name: 3, other.name: 1}
  assert states(search)[-1] == 'PRUNED'


def write_evaluations(search, point, returns):
  """Leaves a run's evaluations, one every ten steps; '' is one that failed."""
  os.makedirs(search.run_folder(point), exist_ok=True)
  with open(os.path.join(search.run_folder(point), 'results.csv'), 'w', encoding='utf-8') as f:
    f.write('step,main\n' + ''.join(f'{10 * k + 10},{x}\n' for k, x in enumerate(returns)))


def test_a_trial_that_failed_here_and_that_another_machine_brought_on_counts(tmp_path):
  values = {'ALPHA': [666.0, 1.0], 'POLICY_LR': [1e-4]}
  search = make_search(tmp_path, tmp_path / 'no_such.py', values)
  run([search], Local(1))
  assert len(search.faults) == 2 and search.best() is None
  failed, other = search._points
  write_evaluations(search, failed, 27 * [2000.0])
  assert search.faults.keys() == {other.name} and search.best().point == failed
  assert [row[-1] for row in outcome.rows(search)] == ['whole', 'failed']
  assert 'ALPHA = 666.0' in outcome.tuned_text(search, 'kl_vp.gin', [])
  # Another that fails where it stands stays failed, an evaluation that failed or not.
  write_evaluations(search, other, ['', ''])
  assert search.faults == {}
  search.note_fault(other, 'again')
  assert search.faults == {other.name: 'again'}


def test_where_the_best_fails_its_last_evaluations_another_wins(tmp_path, trial_script):
  values = {'ALPHA': [0.1, 1.0, 3.0], 'POLICY_LR': [1e-4]}
  search = make_search(tmp_path, trial_script, values)
  for point in search._points:
    bad = point.values['ALPHA'] == 1
    write_evaluations(
      search, point, 9 * [5000.0] + 18 * [''] if bad else 3 * [900 + point.values['ALPHA']]
    )
  assert search.best().level == 1 and not search.is_through()
  run([search], Local(1))
  assert search.best().level == 3 and search.best().point.values['ALPHA'] == 3.0


def test_where_the_best_has_collapsed_it_is_said_which_were_worth_more(tmp_path, trial_script):
  values = {'ALPHA': [0.1, 1.0, 3.0], 'POLICY_LR': [1e-4]}
  search = make_search(tmp_path, trial_script, values)
  worth = {0.1: 3 * [100.0], 1.0: 3 * [5000.0] + 24 * [500.0], 3.0: 3 * [900.0]}
  for point in search._points:
    write_evaluations(search, point, worth[point.values['ALPHA']])
  assert search.is_through() and search.best().point.values['ALPHA'] == 1.0
  (said,) = outcome.surpassing(search)
  assert said == 'ALPHA_3,POLICY_LR_0.0001 with 900 at 30'
  text = outcome.tuned_text(search, 'kl_vp.gin', [])
  assert f'# stopped, and worth more when it was: {said}\n' in text


def test_what_is_begun_counts_among_those_that_are_tried_at_most(tmp_path, trial_script):
  schedule = SCHEDULE._replace(max_trials=3)
  search = make_search(tmp_path, trial_script, schedule=schedule)
  first, second = search.next(), search.next()
  write_evaluations(search, search.space.points()[8], 3 * [5000.0])  # the best is at the other end
  assert len([search.next() for _ in range(3)]) == 3 and search.others_run
  assert len([p for p in search._points if os.path.isdir(search.run_folder(p))]) == 3
  for trial in (first, second):
    trial.end(interrupted=True)


def test_near_the_best_is_told_by_the_values_of_all_grids(tmp_path, trial_script):
  best = space.Point((), {'ALPHA': 10.0, 'POLICY_LR': 1e-4})
  fine = {'ALPHA': [0.03, 1.0, 30.0], 'POLICY_LR': [1e-5, 1e-4]}
  tried = space.Space('', 'main', fine, (best,))
  near = sorted(tried.points()[:-1], key=tried.distance_from(best))
  assert [p.values['ALPHA'] for p in near if p.values['POLICY_LR'] == 1e-4] == [1.0, 30.0, 0.03]
  assert list(map(tried.distance_from(best), near[:2])) == [1, 1]


def test_a_number_of_units_of_another_grid_stays_a_whole_one(tmp_path):
  for units in (16, 64, 1000000):
    os.makedirs(tmp_path / space.Point((), {'UNITS': units, 'X': 0.5}).name)
  others = space.points_beside(space.Space('', '', {'UNITS': [32], 'X': [0.5]}), str(tmp_path))
  assert sorted(point.values['UNITS'] for point in others) == [16, 64, 1000000]
  assert 'UNITS=64' in [point.bindings[0] for point in others]  # and not 64.0


def test_machines_that_leave_a_search_at_a_time_do_not_meet(tmp_path, trial_script):
  search = make_search(tmp_path, trial_script, {'ALPHA': [1.0], 'POLICY_LR': [1e-4]})
  write_evaluations(search, search._points[0], 27 * [900.0])

  def leave():
    for _ in range(60):
      with outcome.alone(search):
        outcome.write_tables(search)

  children = [forked(leave) for _ in range(3)]
  assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def test_a_trial_whose_evaluations_fail_is_the_worst_and_is_begun_once(tmp_path, trial_script):
  values = {'ALPHA': [669.0, 0.1, 1.0], 'POLICY_LR': [1e-4]}
  search = make_search(tmp_path, trial_script, values)
  run([search], Local(1))
  failed = next(point for point in search._points if point.values['ALPHA'] == 669)
  assert search.faults == {} and levels(search)[failed.name] >= 1
  assert search.best().point.values['ALPHA'] == 1.0
  with open(os.path.join(search.run_folder(failed), 'starts'), encoding='utf-8') as f:
    assert len(f.readlines()) == 1
  only = make_search(tmp_path, trial_script, {'ALPHA': [669.0], 'POLICY_LR': [1e-4]}, name='only')
  run([only], Local(1))
  assert only.best() is None


def test_a_file_system_without_flock_does(tmp_path, trial_script, monkeypatch):
  def flock(*_):
    raise OSError(errno.ENOSYS, 'Function not implemented')

  monkeypatch.setattr(fcntl, 'flock', flock)
  search = make_search(tmp_path, trial_script)
  run([search], Local(3))
  check_result(search)
  assert 'RUNNING' not in states(search) and search.faults == {}


def test_a_grid_that_gains_a_value_of_zero_takes_the_trials_that_are_there(tmp_path, trial_script):
  values = {'ALPHA': [0.1, 1.0], 'POLICY_LR': [1e-4]}
  run([make_search(tmp_path, trial_script, values)], Local(2))
  search = make_search(tmp_path, trial_script, {**values, 'ALPHA': [0.0, 0.1, 1.0]})
  assert len(states(search)) == 2 and search.best().point.values['ALPHA'] == 1.0


def test_the_best_of_all_grids_wins_and_what_is_of_another_is_not_begun(tmp_path, trial_script):
  coarse = {'ALPHA': [0.1, 10.0], 'POLICY_LR': [1e-4]}
  run([make_search(tmp_path, trial_script, coarse)], Local(2))
  for name in ('ALPHA_3,POLICY_LR_0.0001', 'ALPHA_x,POLICY_LR_1', 'ALPHA_1', 'LR_1,POLICY_LR_1'):
    os.makedirs(tmp_path / 'search' / name / '0')
  begun = tmp_path / 'search' / 'ALPHA_3,POLICY_LR_0.0001' / '0' / 'results.csv'
  begun.write_text('step,main\n10,5000.0\n')
  new = tmp_path / 'search' / 'ALPHA_0.3,POLICY_LR_0.0001' / '0' / 'results.csv'
  os.makedirs(new.parent)
  new.write_text('step,main\n')
  fine = {'ALPHA': [1.0, 30.0], 'POLICY_LR': [1e-4]}
  tried = space.Space('', 'main', fine)
  others = space.points_beside(tried, str(tmp_path / 'search'))
  assert [point.values['ALPHA'] for point in others] == [0.1, 0.3, 10.0, 3.0]
  search = make_search(
    *(tmp_path, trial_script, fine), SCHEDULE._replace(max_trials=2), others=tuple(others)
  )
  run([search], Local(2))
  assert search.best().point.values == {'ALPHA': 10.0, 'POLICY_LR': 1e-4}
  assert levels(search)['ALPHA_1,POLICY_LR_0.0001'] and levels(search)['ALPHA_30,POLICY_LR_0.0001']
  assert begun.read_text() == 'step,main\n10,5000.0\n' and new.read_text() == 'step,main\n'
  table = outcome.rows(search)
  assert [row[0] for row in table][0] == 10.0 and len(table) == 5
  text = outcome.tuned_text(search, 'kl_vp.gin', ['Data eps1.'])
  assert 'ALPHA = 10.0  # of 0.1, 1, 3, 10, 30\n' in text
  outcome.draw(search, str(tmp_path / 'all.png'))


def forked(work):
  """A process of this one's that does some work; its id."""
  child = os.fork()
  if not child:
    try:
      with open(os.devnull, 'w', encoding='utf-8') as sys.stdout:
        work()
      os._exit(0)
    finally:
      os._exit(1)
  return child


def test_a_search_that_is_killed_again_and_again_goes_on(tmp_path, trial_script):
  draw = random.Random(0)
  for _ in range(6):
    child = forked(lambda: run([make_search(tmp_path, trial_script)], Local(3)))
    time.sleep(draw.uniform(0.3, 2))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
  with open(tmp_path / 'search' / JOURNAL, 'a', encoding='utf-8') as f:
    f.write('{"op_code": ')  # half a line, as a machine leaves that lost its power
  last = make_search(tmp_path, trial_script)
  run([last], Local(3))
  check_result(last)
  assert 'RUNNING' not in states(last) and last.faults == {}


def test_a_damaged_journal_is_put_aside_and_the_folders_tell_the_search(tmp_path, trial_script):
  values = {'ALPHA': [10.0, 1.0], 'POLICY_LR': [1e-4]}
  search = make_search(tmp_path, trial_script, values)
  run([search], Local(2))
  before = sorted(states(search))
  journal = tmp_path / 'search' / JOURNAL
  journal.write_text('garbage\n' + journal.read_text())
  again = make_search(tmp_path, trial_script, values)
  assert (tmp_path / 'search' / (JOURNAL + '.damaged')).exists()
  assert set(states(again)) == set(before)
  run([again], Local(2))
  assert len(states(again)) == 2


@pytest.mark.parametrize('line', ['null', '5', '[]', '{"op_code": 99}', '{"op_code": 0}', '"x"'])
def test_a_journal_with_a_line_of_something_else_is_put_aside(line, tmp_path, trial_script):
  values = {'ALPHA': [10.0], 'POLICY_LR': [1e-4]}
  run([make_search(tmp_path, trial_script, values)], Local(1))
  with open(tmp_path / 'search' / JOURNAL, 'a', encoding='utf-8') as f:
    f.write(line + '\n')
  again = make_search(tmp_path, trial_script, values)
  assert (tmp_path / 'search' / (JOURNAL + '.damaged')).exists()
  assert states(again) == ['COMPLETE']


def test_half_a_line_of_a_machine_that_died_ends_no_other_machines_search(tmp_path, trial_script):
  values = {'ALPHA': [10.0, 1.0, 0.1], 'POLICY_LR': [1e-4]}
  search = make_search(tmp_path, trial_script, values)
  with open(tmp_path / 'search' / JOURNAL, 'a', encoding='utf-8') as f:
    f.write('{"op_code": ')
  run([search], Local(1))
  assert search.best().level == 3 and search.faults == {}
  assert len(states(make_search(tmp_path, trial_script, values))) == len(states(search))
  assert not (tmp_path / 'search' / (JOURNAL + '.damaged')).exists()


def test_what_another_search_trained_meanwhile_counts_in_the_end(tmp_path, trial_script):
  here, there = ({'ALPHA': [alpha], 'POLICY_LR': [1e-4]} for alpha in (1.0, 10.0))
  search = make_search(tmp_path, trial_script, here)
  run([search, make_search(tmp_path, trial_script, there)], Local(2))
  assert search.best().point.values['ALPHA'] == 1.0
  search.take_in(space.points_beside(search.space, search.folder))
  assert search.best().point.values['ALPHA'] == 10.0
  assert 'ALPHA = 10.0  # of 1, 10\n' in outcome.tuned_text(search, 'kl_vp.gin', [])


def test_machines_share_the_trials_of_a_search(tmp_path, trial_script):
  children = [
    forked(lambda: run([make_search(tmp_path, trial_script)], Local(2))) for _ in range(3)
  ]
  for child in children:
    assert os.waitpid(child, 0)[1] == 0
  search = make_search(tmp_path, trial_script)
  check_result(search)
  assert 'RUNNING' not in states(search)
  # No two had a trial at a time: whoever finds a folder locked does nothing there.
  for point in search._points:
    with open(os.path.join(search.run_folder(point), 'starts'), encoding='utf-8') as f:
      assert len(f.readlines()) <= 3


def test_what_another_program_trains_is_waited_for(tmp_path, trial_script):
  values = {'ALPHA': [10.0], 'POLICY_LR': [1e-4]}
  search = make_search(tmp_path, trial_script, values)
  (point,) = search._points
  os.makedirs(search.run_folder(point))
  job = search.job_of(point, 30)
  with subprocess.Popen([*job.command[:-1], '0.5'], stdout=subprocess.PIPE, text=True) as other:
    assert other.stdout.readline() == 'from 0\n'  # it has the lock
    run([search], Local(1))
  assert other.returncode == 0
  with open(os.path.join(job.folder, 'starts'), encoding='utf-8') as f:
    assert f.read() == '0 30\n30 270\n'


# --- Without a simulator --------------------------------------------------------------------------

# Such a trial tells its step as well; and what estimates it, which finds the worst the best.
TELLS = """told = {'step': int(step), 'total_train_steps': int(total)}
open(folder + '/progress.new', 'w').write(json.dumps(told))
os.replace(folder + '/progress.new', folder + '/progress.json')
"""
ESTIMATE = """
import json, os, sys
root, folder, step = sys.argv[1:]
place = f'{root}/E-v0/d/n1/fqe/{step}/0'
os.makedirs(place)
last = open(folder + '/results.csv').read().splitlines()[-1].split(',')
assert last[0] == step
with open(place + '/results.csv', 'w') as f:
  f.write(f'step,main,value\\n5,,1e9\\n10,,{-float(last[1]) - 1}\\n15,,{-float(last[1]) + 1}\\n')
json.dump({'step': 15, 'total_train_steps': 15}, open(place + '/progress.json', 'w'))
"""


@pytest.fixture
def make_by_values(tmp_path):
  """`make(rates, **settings)`: a search by values, of three trials for each learning rate."""
  trial, estimate = tmp_path / 'trial.py', tmp_path / 'estimate.py'
  leaves = "with open(folder + '/starts'"
  trial.write_text(TRIAL.replace(leaves, TELLS + leaves))
  estimate.write_text(ESTIMATE)

  def evaluate(root, folder, step):
    command = [sys.executable, '-I', '-S', str(estimate), root, folder, str(step)]
    return Job(f'{folder} {step}', command, str(tmp_path / 'logs' / 'fqe.log'))

  def make(rates, possible=(-math.inf, math.inf), **settings):
    values = {'ALPHA': [0.1, 1.0, 10.0], 'POLICY_LR': rates}
    metric = Values(2, 15, evaluate, settings, possible)
    return make_search(tmp_path, trial, values, metric=metric)

  return make


def test_a_search_by_values_trains_to_its_rungs_alone_and_takes_the_best_value(
  make_by_values, tmp_path
):
  make = make_by_values
  search = make([1e-4, 3e-4])
  run([search], Local(2))
  assert search.faults == {} and 'RUNNING' not in states(search)
  # At least 2 of 6 come to the second rung; and of too few for a part of them the best goes on.
  assert sorted(levels(search).values())[1:] >= [1, 1, 1, 2, 3]
  assert sorted(levels(search).values())[0] == 1
  assert search.best().point.values == {'ALPHA': 0.1, 'POLICY_LR': 3e-4}
  assert states(search).count('COMPLETE') == 1
  for point in search._points:
    with open(os.path.join(search.run_folder(point), 'starts'), encoding='utf-8') as f:
      legs = ['0 30', '30 90', '90 270'][: levels(search)[point.name]]
      assert f.read().splitlines() == legs
  path = outcome.write_tables(search)
  with open(path + '.csv', encoding='utf-8', newline='') as f:
    table = list(csv.DictReader(f))
  assert list(table[0])[-6:] == ['value', 'at 30', 'at 90', 'at 270', 'return', 'status']
  assert float(table[0]['value']) == pytest.approx(-float(table[0]['return']), abs=0.1)
  ranked = ranking.summary(ranking.read_columns(path + '.csv', 'value', 'return'))
  assert ranked.startswith("6 policies: Spearman's rank correlation -1.00; regret at 1 ")
  with open(path + '.md', encoding='utf-8') as f:
    assert 'A value is what fitted Q evaluation of main tells of the data' in f.read()
  outcome.draw(search, path + '.png')
  again = make([1e-4, 3e-4])
  n = len(states(again))
  run([again], Local(2))
  assert len(states(again)) == n
  # Other estimates are none of this search's, and are made; a trial is as far as it was.
  other = make([1e-4, 3e-4], discount=0.5)
  assert set(levels(other).values()) == {0}
  run([other], Local(2))
  assert levels(other) == levels(again) and other.faults == {}


def test_a_value_that_no_rewards_can_give_does_not_win(make_by_values):
  search = make_by_values([3e-4], possible=(-1000.0, -850.0))  # ALPHA = 0.1 has about -776
  run([search], Local(2))
  assert search.faults == {} and min(levels(search).values()) >= 1
  assert search.best().point.values['ALPHA'] == 1.0


def write_trial(search, point, step, total):
  """The run of a trial as it was saved at a step on its way to another."""
  folder = search.run_folder(point)
  os.makedirs(folder)
  with open(os.path.join(folder, 'results.csv'), 'w', encoding='utf-8') as f:
    f.write('step,main\n' + ''.join(f'{k},5000\n' for k in range(10, step + 1, 10)))
  results.write_progress(folder, step, total)
  return folder


def test_a_damaged_trial_of_a_search_by_values_ends_that_trial_alone(make_by_values):
  search = make_by_values([1e-4])
  damaged, *others = search._points
  os.makedirs(search.run_folder(damaged))
  with open(os.path.join(search.run_folder(damaged), 'progress.json'), 'w', encoding='utf-8') as f:
    f.write('{"step": 3')
  run([search], Local(2))
  assert search.faults.keys() == {damaged.name}
  assert search.faults[damaged.name].startswith(search.run_folder(damaged))
  assert all(levels(search)[point.name] for point in others)
  assert states(search).count('FAIL') == 1 and 'RUNNING' not in states(search)


def test_what_a_search_by_returns_has_stopped_is_estimated_where_it_stands(make_by_values):
  search = make_by_values([1e-4])
  stopped = search._points[2]  # the worst by value, which goes no further
  folder = write_trial(search, stopped, 40, 270)
  run([search], Local(2))
  assert search.faults == {} and levels(search)[stopped.name] == 1
  assert search.curve(stopped).steps == (40,)
  assert not os.path.exists(os.path.join(folder, 'starts'))


def test_the_estimates_of_a_run_that_is_gone_are_not_those_of_the_next(make_by_values):
  search = make_by_values([1e-4])
  gone, shorter, _ = search._points
  folder = write_trial(search, gone, 30, 30)
  write_trial(search, shorter, 30, 30)
  run([search], Local(2))
  before = levels(search)
  assert before[gone.name] and before[shorter.name]
  os.remove(os.path.join(folder, 'progress.json'))
  results.write_progress(search.run_folder(shorter), 20, 30)  # a run that was begun anew
  assert levels(search) == {**before, gone.name: 0, shorter.name: 0}
  again = Search(
    *(getattr(search, x) for x in ('name', 'space', 'schedule', 'folder')),
    0,
    search.job_of,
    search.metric,
  )
  run([again], Local(2))
  assert again.faults.keys() == {gone.name, shorter.name}
  place = os.path.join(folder, 'fqe')
  assert again.faults[gone.name].startswith(f'{place} tells of a run that is gone, beyond step 0 ')


def test_ranks_and_regret():
  assert statistics.spearman([1, 2, 3, 4], [10, 20, 25, 99]) == pytest.approx(1)
  assert statistics.spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
  # 1 - 6 Σd² / (n (n² - 1)) of ranks 1 2 3 4 5 and 2 1 4 3 5.
  assert statistics.spearman([0.1, 0.2, 5, 6, 7], [20, 10, 40, 30, 50]) == pytest.approx(0.8)
  # Equal numbers share the mean of their ranks: 1.5 1.5 3 and 1 2 3.
  assert statistics.spearman([7, 7, 9], [1, 2, 3]) == pytest.approx(0.5 * 3**0.5)
  assert math.isnan(statistics.spearman([1, 1], [1, 2]))
  assert statistics.regret_at_1([3, 9, 5], [100, 60, 80]) == 40
  assert statistics.regret_at_1([3, 9, 9], [100, 60, 80]) == 40


def test_a_table_is_ranked_and_what_is_none_is_one_line(tmp_path):
  def rank(*flags):
    command = [sys.executable, '-m', 'brac.rank', *flags]
    return subprocess.run(command, capture_output=True, text=True)

  table = tmp_path / 'table.csv'
  table.write_text('ALPHA,value,return,status\n1,5,100,whole\n3,9,60,whole\n9,2,,stopped\n')
  done = rank(f'--table={table}')
  assert done.stdout == (
    "2 policies: Spearman's rank correlation -1.00; regret at 1 40, 100 % of their spread\n"
  )
  done = rank(f'--table={table}', '--truth=retrun')
  assert done.returncode == 1 and done.stdout == ''
  assert done.stderr == (
    f"rank: --table {table} has no column 'retrun'; there is 'ALPHA', 'value', 'return', 'status'\n"
  )
  table.write_text('ALPHA,value,return,status\n')
  done = rank(f'--table={table}')
  assert done.stderr == 'rank: ranking needs at least two policies with both numbers, not 0\n'
  table.write_text('')
  assert rank(f'--table={table}').stderr.endswith("has no column 'value'; there is none\n")
  table.unlink()
  done = rank(f'--table={table}')
  assert done.stderr == f'rank: --table {table} cannot be read: No such file or directory\n'


# --- What it leaves -------------------------------------------------------------------------------


def drawn_within(path):
  """Whether nothing of a figure reaches its edges."""
  pixels = matplotlib.image.imread(path)
  return bool((pixels[:, [0, -1]] == 1).all() and (pixels[[0, -1]] == 1).all())


@pytest.mark.parametrize('longest', ['TARGET', 'SOME_TARGET_DIVERGENCE', 'A_LONG_' * 12])
def test_the_figure_has_room_for_its_legend_and_its_axes(tmp_path, monkeypatch, longest):
  values = {'ALPHA': [1.0, 10.0], 'POLICY_LR': [3e-5, 1e-4, 3e-4, 1e-3, 3e-3]}
  values[longest] = [0.05, 0.15, 0.5, 1.5, 5.0]
  search = make_search(tmp_path, None, values, Halving(30, 30, 3, 100))
  for n, point in enumerate(search.space.points()):
    os.makedirs(search.run_folder(point))
    with open(os.path.join(search.run_folder(point), 'results.csv'), 'w', encoding='utf-8') as f:
      f.write(f'step,main\n20,{1900 + n}\n30,{1900 + n}\n')
  drawn, save = [], Figure.savefig
  monkeypatch.setattr(Figure, 'savefig', lambda self, path: (drawn.append(self), save(self, path)))
  outcome.draw(search, str(tmp_path / 'figure.png'))
  assert drawn_within(str(tmp_path / 'figure.png'))
  (axes,) = drawn[0].axes
  assert axes.get_window_extent().height > 2.5 * drawn[0].dpi
  assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 1949
  assert 'stopped' not in drawn[0].get_suptitle()


def test_the_table_the_figure_and_the_tuned_preset(tmp_path, trial_script):
  values = {'ALPHA': [1.0, 3.0, 10.0], 'POLICY_LR': [1e-5, 1e-4]}
  search = make_search(tmp_path, trial_script, values)
  run([search], Local(2))
  path = outcome.write_tables(search)
  with open(path + '.csv', encoding='utf-8', newline='') as f:
    table = list(csv.DictReader(f))
  assert list(table[0]) == [
    *('ALPHA', 'POLICY_LR', 'steps', 'return', 'at 30', 'at 90', 'at 270', 'status')
  ]
  assert (table[0]['ALPHA'], table[0]['POLICY_LR'], table[0]['steps']) == ('10.0', '0.0001', '270')
  assert float(table[0]['at 270']) == pytest.approx(1002.65)
  assert float(table[0]['at 30']) == pytest.approx(1000.25)
  assert {row['status'] for row in table} == {'whole', 'stopped'} and len(table) == 6
  stopped = next(row for row in table if row['status'] == 'stopped')
  assert stopped['at 270'] == '' and int(stopped['steps']) < 270
  with open(path + '.md', encoding='utf-8') as f:
    assert '| 10 | 0.0001 | 270 | 1003 |' in f.read()
  outcome.draw(search, path + '.png')
  assert min(matplotlib.image.imread(path + '.png').shape[:2]) > 300

  assert drawn_within(path + '.png')

  # The winner goes on, and what it is compared by stays.
  winner = search.best().point
  table = outcome.rows(search)
  with open(os.path.join(search.run_folder(winner), 'results.csv'), 'a', encoding='utf-8') as f:
    f.write('280,9000\n290,9000\n')
  assert outcome.rows(search) == table

  # The tuned preset is the preset with these values, and says how they were found.
  tuned = tmp_path / 'tuned' / 'Hopper-v2' / 'kl_vp.gin'
  tuned.parent.mkdir(parents=True)
  tuned.write_text(outcome.tuned_text(search, 'kl_vp.gin', ['Data eps1.']))
  text = tuned.read_text()
  assert outcome.SIGN in text.splitlines()[0]
  text = text.replace('\n# ', ' ')
  for said in ('Data eps1. Seed 0.', 'step 30, 90,', 'one in 3'):
    assert said in text
  assert re.search(r' 10 +0\.0001 +270 +1003 +1000 ', text)
  preset = gin_config.parse([str(tuned)], [])
  assert preset.bound['brac_primal_agent.Agent.alpha'] == 10.0
  assert preset.bound['train_eval_offline.batch_size'] == 256
  bound = ['train_eval_offline.batch_size = 32', 'brac_primal_agent.Agent.n_div_samples = 3']
  shutil.copy(os.path.join(project_folder('configs'), 'kl_vp.gin'), tmp_path / "o'b.gin")
  for name in ('brac_primal.gin', 'common.gin'):
    shutil.copy(os.path.join(project_folder('configs'), name), tmp_path)
  tuned.write_text(outcome.tuned_text(search, "../../o'b.gin", [], bound))
  given = gin_config.parse([str(tuned)], [])
  assert given.bound['train_eval_offline.batch_size'] == 32
  assert given.bound['brac_primal_agent.Agent.alpha'] == 10.0
  assert preset.bound['train_eval_offline.optimizers'][1] == ('adam', 1e-4)
  assert preset.name == 'kl_vp'


def test_without_optuna_one_line_says_so(tmp_path):
  (tmp_path / 'optuna.py').write_text('raise ImportError')
  code = 'import sys; sys.path.insert(0, sys.argv.pop(1))\n'
  code += 'import runpy; runpy.run_module("brac.sweep", run_name="__main__", alter_sys=True)'
  command = [sys.executable, '-c', code, str(tmp_path), f'--root_dir={tmp_path}/learn']
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 1 and done.stdout == ''
  assert done.stderr == (
    'sweep: a search needs optuna, which is not here: pip install "brac[sweep]"\n'
  )
  assert set(os.listdir(tmp_path)) <= {'optuna.py', '__pycache__'}  # Python's own
