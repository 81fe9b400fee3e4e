"""The report on trees of runs that are written here, and so have numbers that are known."""

import csv
import os
import re
import shutil
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
import tensorflow as tf

from brac import checkpoints, results
from brac.data import provenance, references
from brac.data.references import Reference
from brac.data.replay import Dataset
from brac.data.transitions import CUT_OFF, GOES_ON, TERMINAL, Transitions
from brac.errors import UserError
from brac.grids import curves, scores, statistics
from brac.grids.data_returns import Behavior, load_behavior, write_behavior
from brac.grids.notes import differing, notes_on_runs
from brac.grids.summary import Summary

ENV = 'HalfCheetah-v2'
UNKNOWN = (
  "the data's return is not known: below --data_root_dir is no dataset of 1000 transitions that "
  'tells its episodes'
)


def write_run(root, place, columns, total=None, step=None):
  """A run with evaluations every 10 steps; its progress is told where `total` is given."""
  folder = root / place
  folder.mkdir(parents=True)
  rows = [[10 * (k + 1), *values] for k, values in enumerate(zip(*columns.values()))]
  with open(folder / 'results.csv', 'w', encoding='utf-8', newline='') as f:
    csv.writer(f).writerows([['step', *columns], *rows])
  if total:
    results.write_progress(str(folder), 10 * len(rows) if step is None else step, total)
  return folder


@pytest.fixture
def tree(tmp_path):
  """Finished, unfinished, broken and missing runs of two environments."""
  root = tmp_path / 'learn'
  eps1, pure = f'{ENV}/eps1/n1000', f'{ENV}/pure/n1000'
  for seed, last in enumerate((100.0, 200.0, 600.0)):
    columns = {'main': [0.0, last, last + 30], 'max_q': [0.0, 2 * last, 2 * last]}
    write_run(root, f'{eps1}/kl_vp/0/{seed}', columns, total=30)
  write_run(root, f'{eps1}/bc/0/0', {'main': [9e9, 400.0, 402.0]}, total=30)
  write_run(root, f'{eps1}/bc/0/1', {'main': [7e9, 7e9]}, total=30)
  write_run(root, f'{eps1}/bc/tuned/0', {'main': [1.0, 2.0, 4.0]}, total=30)
  write_run(root, f'{pure}/bc/0/0', {'main': [0.0, 800.0, 800.0]}, total=30)
  write_run(root, f'{pure}/kl_vp/0/0', {'main': [], 'max_q': []}, total=30, step=0)
  for seed in range(3):
    write_run(root, f'{pure}/w_pr/0/{seed}', {'main': [1.0, 2.0, 3.0]}, total=30)
  os.truncate(root / pure / 'w_pr/0/0/results.csv', 0)
  os.remove(root / pure / 'w_pr/0/1/results.csv')
  (root / pure / 'w_pr/0/2/results.csv').write_bytes(bytes(range(128, 256)))
  write_run(root, 'Walker2d-v2/eps1/n1000/bc/0/0', {'main': [1.0, 30.0, 30.0]}, total=30)
  (root / 'logs').mkdir()
  return root


def run_report(root, *args):
  command = [sys.executable, '-m', 'brac.report', f'--root_dir={root}', '--last=2']
  command += [f'--data_root_dir={root}/nowhere', *args]  # and not the user's own
  return subprocess.run(command, capture_output=True, text=True, cwd=os.path.dirname(root))


def read_csv(path):
  with open(path, encoding='utf-8', newline='') as f:
    return list(csv.reader(f))


def table_of(stdout):
  """The cells of the tables' rows on the terminal, the first of a name; two spaces part columns."""
  found = {}
  for line in stdout.splitlines():
    name, *cells = line.split('  ')
    found.setdefault(name, [cell.strip() for cell in cells if cell.strip()])
  return found


def test_a_tree_with_missing_unfinished_and_broken_runs(tree):
  run = run_report(tree, f'--data_root_dir={tree / "nowhere"}')
  assert run.returncode == 0 and run.stderr == ''
  cheetah, walker = run.stdout.split('Walker2d-v2 n1000', 1)
  rows = table_of(cheetah)
  assert rows[f'{ENV} n1000'] == ['eps1', 'pure']
  assert rows['behavior data'] == ['-', '-']
  # The seeds' means of the last two: 115, 215, 615 and 200, 400, 1200; 401; 800; 3.
  assert rows['kl_vp main'] == ['315 ± 216 (3)', '1 unfinished']
  assert rows['kl_vp max_q'] == ['600 ± 432 (3)', '1 unfinished']
  assert rows['bc main'] == ['401 (1), 1 unfinished', '800 (1)']
  assert rows['bc tuned main'] == ['3.0 (1)', '-']
  assert rows['w_pr'] == ['-', '3 broken']
  assert table_of(walker)['bc main'] == ['30.0 (1)']

  place = f'{ENV}/pure/n1000'
  notes = walker.splitlines()
  assert f'broken: {place}/w_pr/0/0: results.csv is empty' in notes
  assert f'broken: {place}/w_pr/0/1: there is no results.csv' in notes
  assert f'broken: {place}/w_pr/0/2: results.csv cannot be read' in notes
  bc = f'{ENV}/eps1/n1000/bc/0/1'
  assert f'unfinished: {bc}: step 20 of 30; so far main 7000000000' in notes
  assert f'unfinished: {place}/kl_vp/0/0: step 0 of 30; no evaluation so far' in notes
  assert f'missing: {ENV} eps1 n1000: w_pr' in notes
  assert f'missing: {ENV} eps1 n1000: of seed 2: bc, bc tuned' in notes
  assert f'{ENV} pure n1000: {UNKNOWN}' in notes

  out = tree / 'report'
  header, *lines = read_csv(out / f'{ENV}_n1000.csv')
  sheet = {tuple(line[:2]): dict(zip(header, line)) for line in lines}
  vp = sheet['kl_vp', 'main']
  assert float(vp['eps1 mean']) == 315 and vp['eps1 seeds'] == '3'
  assert float(vp['eps1 std']) == pytest.approx(np.std([115, 215, 615]))
  assert vp['pure mean'] == '' and vp['pure seeds'] == '0' and vp['pure unfinished'] == '1'
  assert sheet['bc', 'main']['eps1 unfinished'] == '1'
  assert sheet['w_pr', '']['pure broken'] == '3'
  page = (out / 'report.md').read_text()
  assert '| kl_vp main | 315 ± 216 (3) | 1 unfinished |' in page
  assert f'- broken: {place}/w_pr/0/0: results.csv is empty' in page
  states = [line[1] for line in read_csv(out / 'runs.csv')[1:]]
  assert {state: states.count(state) for state in states} == {
    **{'finished': 10, 'unfinished': 3, 'broken': 3}  # kl_vp has two lines a run
  }
  assert sorted(name for name in os.listdir(out) if name.endswith('.png')) == [
    f'{ENV}_eps1_n1000.png',
    f'{ENV}_pure_n1000.png',
    'Walker2d-v2_eps1_n1000.png',
  ]


def test_estimates_are_no_returns(tree):
  folder = tree / ENV / 'eps1' / 'n1000' / 'fqe' / '0' / '0'
  write_run(tree, folder.relative_to(tree), {'main': [''] * 3, 'value': [1.0, 2.0, 3.0]})
  about = results.About(ENV, 'eps1', 1000, 'fqe', '0', 0, estimates=('value',))
  results.write_progress(folder, 30, 30, about)
  (run,) = [run for run in results.read_runs(tree) if run.agent == 'fqe']
  assert run.returns['value'] == (1.0, 2.0, 3.0) and not results.without_estimates(run).returns
  done = run_report(tree)
  assert done.returncode == 0 and 'fqe value' not in done.stdout
  assert not re.search(r'\bnan\b', done.stdout.rpartition('\nas CSV')[0])
  lines = [line for line in read_csv(tree / 'report' / 'evaluations.csv') if line[3] == 'fqe']
  assert ['value', '', '3.0', 'finished'] in [line[7:] for line in lines]
  assert all(line[8:10] == ['', ''] for line in lines if line[7] == 'main')


def test_the_report_on_itself_again_is_the_same(tree):
  first = run_report(tree)
  assert first.returncode == 0 and run_report(tree).stdout == first.stdout


def test_a_folder_without_runs_is_one_line(tmp_path):
  run = run_report(tmp_path)
  assert run.returncode == 1 and run.stdout == ''
  assert run.stderr == f'report: --root_dir {tmp_path}: no runs of train_offline are below it\n'
  assert os.listdir(tmp_path) == []


def test_the_report_does_not_wait_for_tensorflow(tree):
  code = """if True:
    import runpy, sys
    sys.argv = ['report', *sys.argv[1:]]
    try:
      runpy.run_module('brac.report', run_name='__main__')
    except SystemExit as end:
      sys.exit(end.code or ('tensorflow' in sys.modules))
  """
  args = [f'--root_dir={tree}', f'--data_root_dir={tree}/nowhere']
  assert subprocess.run([sys.executable, '-c', code, *args], capture_output=True).returncode == 0


# --- Single runs ----------------------------------------------------------------------------------

GOOD = b'step,main\r\n10,1.5\r\n20,2.5\r\n'


@pytest.mark.parametrize(
  'content, fault',
  [
    (b'', 'results.csv is empty'),
    (b'step,ma', 'results.csv is cut off within a line'),
    (GOOD[:-3], 'results.csv is cut off within a line'),
    (b'main,step\n1.0,10\n', "the first line of results.csv is 'main,step', not step,main,..."),
    (b'step,main,main\n10,1,2\n', 'the first line of results.csv is'),
    (b'step,main\n10\n', "line 2 of results.csv is '10'"),
    (b'step,main\n10,1,2\n', "line 2 of results.csv is '10,1,2'"),
    (b'step,main\n10,1\n20,high\n', "line 3 of results.csv is '20,high'"),
    (b'step,main\n10,nan\n', "line 2 of results.csv is '10,nan'"),
    (b'step,main\n%s,1\n' % (b'9' * 400), "line 2 of results.csv is '9999"),
    (b'step,main\n10,1\n10,2\n', 'line 3 of results.csv is of step 10, after step 10'),
    (b'\xff\xfe\x00', 'results.csv cannot be read'),
    (b'\x00' * 20 + b'\n', 'the first line of results.csv is'),
    (b'step,main\n', 'results.csv ends at step 0, the run at 20'),
    (GOOD[:-8], 'results.csv ends at step 10, the run at 20'),
  ],
)
def test_a_broken_results_file_says_why(tmp_path, content, fault):
  folder = write_run(tmp_path, f'{ENV}/eps1/n1/bc/0/0', {'main': [1.0, 2.0]}, total=20)
  (folder / 'results.csv').write_bytes(GOOD)
  (run,) = results.read_runs(str(tmp_path))
  assert run.status == 'finished' and run.returns == {'main': (1.5, 2.5)}
  (folder / 'results.csv').write_bytes(content)
  (run,) = results.read_runs(str(tmp_path))
  assert run.status == 'broken' and run.fault.startswith(fault)


@pytest.mark.parametrize(
  'content',
  [
    *('', '{"step": 20', '{"step": "x"}', '[1, 2]', '{"step": 20}', '[' * 100_000),
    '{"step": 1e999, "total_train_steps": 1}',
  ],
)
def test_a_broken_progress_file_is_a_broken_run(tmp_path, content):
  folder = write_run(tmp_path, f'{ENV}/eps1/n1/bc/0/0', {'main': [1.0, 2.0]}, total=20)
  (folder / 'progress.json').write_text(content)
  (run,) = results.read_runs(str(tmp_path))
  assert (run.status, run.fault) == ('broken', 'progress.json cannot be read')
  assert not results.is_finished(str(folder))


def test_a_results_folder_and_an_agent_without_runs_are_broken(tmp_path):
  folder = write_run(tmp_path, f'{ENV}/eps1/n1/bc/0/0', {'main': [1.0]}, total=10)
  os.remove(folder / 'results.csv')
  (folder / 'results.csv').mkdir()
  (tmp_path / f'{ENV}/eps1/n1/sac').mkdir()
  (tmp_path / f'{ENV}/eps1/n1/w_vp/0').mkdir(parents=True)
  found = {run.algorithm: run.fault for run in results.read_runs(str(tmp_path))}
  nothing = 'there is no run in it'
  assert found == {'bc': 'results.csv cannot be read', 'sac': nothing, 'w_vp': nothing}


def test_a_sub_dir_may_be_a_path(tmp_path):
  place = tmp_path / f'{ENV}/pure/n1000/bc'
  write_run(tmp_path, place / 'tuned/alpha_1/3', {'main': [1.0]}, total=10)
  (place / 'tuned/alpha_1/3/train').mkdir()  # as TensorBoard's files have one
  write_run(tmp_path, place / '0/0', {'main': [2.0]}, total=10)
  os.symlink(place, place / 'tuned/alpha_1/round')
  os.makedirs(place / 'begun/0/train')
  found = {(run.algorithm, run.seed): run.status for run in results.read_runs(str(tmp_path))}
  assert found == {
    ('bc tuned/alpha_1', '3'): 'finished',
    ('bc', '0'): 'finished',
    ('bc begun', '0'): 'broken',
  }


def tell(folder, root, command='', **changes):
  """Lets a run that is where it was made say what it is."""
  env_name, data_name, n_train, agent, *sub_dir, seed = folder.relative_to(root).parts
  about = results.About(
    env_name, data_name, int(n_train[1:]), agent, '/'.join(sub_dir), int(seed), command
  )
  results.write_progress(str(folder), 10, 10, about._replace(**changes))
  return about._replace(**changes)


def test_a_run_is_known_by_what_it_says_wherever_it_is(tmp_path):
  made = write_run(tmp_path / 'made', f'{ENV}/eps1/n5/kl_vp/tuned/2', {'main': [1.0]}, total=10)
  about = tell(made, tmp_path / 'made', "python -m brac.train_offline --gin_bindings='a = 1'")
  assert results.read_about(str(made)) == about
  (tmp_path / 'learn' / 'old').mkdir(parents=True)
  os.rename(made, tmp_path / 'learn' / 'old' / 'second try')
  (run,) = results.read_runs(str(tmp_path / 'learn'))
  assert (run.task, run.algorithm, run.seed) == ((ENV, 'eps1', 'n5'), 'kl_vp tuned', '2')
  assert run.status == 'finished' and run.folder.endswith('/old/second try')
  # Started again it says the same; one of an older version says nothing.
  results.write_progress(str(tmp_path / 'learn/old/second try'), 20, 20, about)
  assert results.read_progress(run.folder) == (20, 20) and results.read_about(run.folder) == about
  results.write_progress(run.folder, 20, 20)
  assert results.read_about(run.folder) is None


def test_a_copied_folder_is_no_further_seed(tmp_path):
  place = f'{ENV}/eps1/n5/bc/0'
  for seed, value in (('0', 1.0), ('1', 3.0)):
    tell(write_run(tmp_path, f'{place}/{seed}', {'main': [value]}, total=10), tmp_path)
  shutil.copytree(tmp_path / place / '0', tmp_path / place / '0.bak')
  shutil.copytree(tmp_path / place / '1', tmp_path / 'backup' / '1')
  write_run(tmp_path, f'{place}/1.bak', {'main': [50.0]}, total=10)  # and says nothing
  run = run_report(tmp_path)
  assert table_of(run.stdout)['bc main'] == ['2.0 ± 1.0 (2)']
  for note in (
    f'no run: {place}/0.bak: a copy of another',
    'no run: backup/1: a copy of another',
    f"no run: {place}/1.bak: '1.bak' is no seed",
  ):
    assert note in run.stdout.splitlines()
  # Without the one that it was copied from it is the run.
  shutil.rmtree(tmp_path / place / '0')
  assert [r.seed for r in results.read_runs(str(tmp_path))] == ['0', '1']


def test_names_with_a_slash_are_names(tmp_path):
  tell(
    write_run(tmp_path, 'my:lab--Point-v0/d4rl--medium/n5/bc/0/0', {'main': [1.0]}, total=10),
    tmp_path,
    env_name='my:lab/Point-v0',
    data_name='d4rl/medium',
  )
  # As older versions left them.
  for place in ('my:lab/Old-v0/d4rl/medium', 'Old-v2/d4rl/medium', 'lab/Old-v3/eps1'):
    write_run(tmp_path, place + '/n5/bc/0/0', {'main': [1.0]}, total=10)
  run = run_report(tmp_path)
  assert run.returncode == 0, run.stderr
  assert {r.task[:2] for r in results.read_runs(str(tmp_path))} == {
    ('my:lab/Point-v0', 'd4rl/medium'),
    ('my:lab/Old-v0', 'd4rl/medium'),
    ('Old-v2', 'd4rl/medium'),
    ('lab/Old-v3', 'eps1'),
  }
  there = set(os.listdir(tmp_path / 'report'))
  assert {'my:lab--Point-v0_n5.csv', 'my:lab--Point-v0_d4rl--medium_n5.png'} <= there


def test_an_empty_cell_is_an_evaluation_that_there_is_not(tmp_path):
  folder = write_run(tmp_path, f'{ENV}/eps1/n1/bear/0/0', {'main': [1.0], 'max_q': [1.0]}, 50)
  text = 'step,main,max_q\n10,1,2\n20,3,4\n30,,\n40,5,\n50,,\n'
  (folder / 'results.csv').write_text(text)
  results.write_progress(str(folder), 50, 50)
  rows = table_of(run_report(tmp_path).stdout)
  assert rows['bear main'] == ['5.0 (1)'] and rows['bear max_q'] == ['-']  # of steps 40 and 50
  (folder / 'results.csv').write_text('step,main,max_q\n10,,\n50,,\n')
  (run,) = results.read_runs(str(tmp_path))
  assert (run.status, run.fault) == ('broken', 'it has no evaluation')


def test_all_runs_stand_in_one_table_with_their_commands(tmp_path):
  place = f'{ENV}/eps1/n5/kl_vp'
  first = write_run(tmp_path, f'{place}/0/0', {'main': [1.0, 2.0], 'max_q': [3.0, 4.0]}, total=20)
  tell(first, tmp_path, 'python -m brac.train_offline --seed=0')
  write_run(tmp_path, f'{place}/0/1', {'main': [5.0]}, total=10)
  trial = write_run(tmp_path, f'{place}/sweep/ALPHA_30/0', {'main': [7.0]}, total=10)
  tell(trial, tmp_path, 'python -m brac.train_offline --sub_dir=sweep/ALPHA_30')
  run = run_report(tmp_path)
  table = read_csv(tmp_path / 'report' / 'evaluations.csv')
  assert table[0] == [
    *('env', 'data', 'transitions', 'agent', 'sub_dir', 'seed', 'step', 'policy', 'return'),
    *('estimate', 'status'),
  ]
  assert table[1:] == [
    [ENV, 'eps1', '5', 'kl_vp', *line.split(), '', 'finished']
    for line in (
      *('0 0 10 main 1.0', '0 0 20 main 2.0', '0 0 10 max_q 3.0', '0 0 20 max_q 4.0'),
      *('0 1 10 main 5.0', 'sweep/ALPHA_30 0 10 main 7.0'),
    )
  ]
  # The trials of searches have tables of their own.
  assert 'sweep' not in run.stdout.split('mean ± standard')[0]
  assert '1 trials of searches are not in the tables; --sweeps has them there' in run.stdout
  assert table_of(run_report(tmp_path, '--sweeps').stdout)['kl_vp sweep/ALPHA_30 main']
  run_report(tmp_path)
  assert (tmp_path / 'commands.sh').read_text() == (
    '#!/usr/bin/env bash\n# The command of each run, as its folder tells it.\nset -e\n\n'
    f'# {ENV}, data eps1, 5 transitions\n'
    'python -m brac.train_offline --seed=0\n'
    '# kl_vp of seed 1 does not tell its command\n'
  )


def test_a_run_that_does_not_tell_its_length_is_compared_with_the_longest(tmp_path):
  for seed, n in enumerate((3, 2, 3)):
    write_run(tmp_path, f'{ENV}/eps1/n1/bc/0/{seed}', {'main': [1.0] * n})
  write_run(tmp_path, f'{ENV}/eps1/n1/kl_vp/0/0', {'main': [1.0] * 2})
  write_run(tmp_path, f'{ENV}/eps1/n1/sac/0/0', {'main': [1.0] * 3}, total=30)
  states = [run.status for run in results.read_runs(str(tmp_path))]
  assert states == ['finished', 'unfinished', 'finished', 'unfinished', 'finished']
  run = run_report(tmp_path)
  rows = table_of(run.stdout)
  assert rows['bc main'] == ['1.0 ± 0.0 (2)?, 1 unfinished']
  assert (rows['kl_vp main'], rows['sac main']) == (['1 unfinished'], ['1.0 (1)'])
  assert '?: no progress.json says whether these runs are finished' in run.stdout
  _, bc, *_ = read_csv(tmp_path / 'report' / f'{ENV}_n1.csv')[1:]
  assert bc[2:] == ['1.0', '0.0', '2', '?', '1', '0', '0']
  told = [line[1] for line in read_csv(tmp_path / 'report' / 'runs.csv')[1:]]
  assert told == ['finished?', 'unfinished?', 'finished?', 'unfinished?', 'finished']


@pytest.mark.parametrize(
  'fraction, version, differ',
  [('0.0', 'b', False), ('0', 'b', False), ('0.1', 'b', True), ('0.0', 'a', True)],
)
def test_a_parameter_that_an_older_version_lacks_stands_at_its_default(fraction, version, differ):
  old = {'version': 'a', 'sac_agent.Agent.ensemble_q_lambda': '1.0'}
  new = {**old, 'version': version, 'train_eval_offline.validation_fraction': fraction}
  assert ('train_eval_offline.validation_fraction' in differing([old, new, {}])) == differ
  other = {**new, 'sac_agent.Agent.ensemble_q_lambda': '1'}  # which is no other value
  assert 'sac_agent.Agent.ensemble_q_lambda' not in differing([old, other])
  # What is no parameter of ours has no default, and counts.
  assert 'Agent.alpha' in differing([old, {**new, 'Agent.alpha': '1'}])


def test_runs_of_different_lengths_or_settings_are_not_averaged_in_silence(tmp_path):
  def run(place, columns, settings='', seconds=''):
    folder = write_run(tmp_path, f'{ENV}/eps1/n1/{place}', columns, 10 * len(columns['main']))
    if settings:
      text = f'# version: {settings}\n# Parameters:\nAgent.alpha = {settings}\n'
      text += f'f.print_freq = {seconds}\n'
      text += f'Agent.long = \\\n    (1,\n     {settings})\n'
      (folder / 'operative_config.gin').write_text(text)
    return folder

  run('sac/0/0', {'main': [5000.0, 5000.0]})
  run('sac/0/1', {'main': [1.0, 2.0, 960.0, 962.0]})
  run('bc/0/0', {'main': [7.0] * 4})
  run('kl/0/0', {'main': [1.0] * 6, 'max_q': [2.0] * 6}, '0.1', 10)
  run('kl/0/1', {'main': [3.0] * 6}, '50', 10)
  run('w/0/0', {'main': [1.0] * 6}, '0.1', 10)
  run('w/0/1', {'main': [1.0] * 6}, '0.1', 20)
  rare = run('w/0/2', {'main': [1.0] * 6})
  (rare / 'results.csv').write_text('step,main\n30,1\n60,1\n')
  stdout = run_report(tmp_path).stdout
  rows, notes = table_of(stdout), stdout.splitlines()
  assert rows['sac main'] == ['961 (1), 1 shorter']
  assert rows['kl main'] == ['2.0 ± 1.0 (2)'] and rows['kl max_q'] == ['2.0 (1)']
  task = f'{ENV} eps1 n1'
  assert f'shorter: {task}: sac of seed 0 ended at step 20, others at 40; it is left out' in notes
  assert f'{task}: steps of the runs: 40 (bc, sac); 60 (kl, w)' in notes
  assert f'{task}: kl: runs of different settings: Agent.alpha, Agent.long, version' in notes
  assert f'{task}: kl of seed 1 has no max_q' in notes
  assert f'{task}: w: the last 2 evaluations are at different steps' in notes
  assert stdout.count('different settings') == 1


def test_what_a_run_was_trained_on_and_with_is_compared(tmp_path):
  def run(place, *lines, command=''):
    folder = write_run(tmp_path, f'{ENV}/eps1/n1/{place}', {'main': [1.0, 2.0]}, 20)
    text = ['# version: 1', '# with Python 3.11.7, mujoco 3.3.7', *lines, 'f.x = 1']
    (folder / 'operative_config.gin').write_text('\n'.join(text) + '\n')
    tell(folder, tmp_path, command)

  data, other = ("# --data: '1 transitions, crc32 %d'" % k for k in (1, 2))
  run('bc/0/0', data, '# --seed: 0', '# --n_eval_episodes: 20')
  run('bc/0/1', data, '# --seed: 1', '# --n_eval_episodes: 20')
  run('kl/0/0', data)
  run('kl/0/1', other, command='python -m brac.train_offline --gin_file=/a/tuned/E/kl.gin')
  run('kl/0/2')  # of an older version
  run('mmd/0/0', data, '# with mujoco 2.3.0')
  tuned = "python -m brac.train_offline '--gin_file=/a b/tuned/E/mmd.gin' --seed=1"
  run('mmd/0/1', data, '# --n_eval_episodes: 5', command=tuned)
  run('w/0/0', data)
  plain = 'python -m brac.train_offline --gin_file=/a/untuned/E/w.gin'
  run('w/0/1', data, '# at step 10: f.y was 2, is 1', command=plain)
  version = '# at step 10: version was 1, is 2'  # the rows say that they differ
  run('drawn/0/0', data, version, 'train_eval_offline.use_seed_for_data = True')
  tuned = 'python -m brac.train_offline --gin_file=tuned/E/drawn.gin'
  seeds = 'train_eval_offline.use_seed_for_data = True'
  run('drawn/0/1', other, version, seeds, command=tuned)
  notes = run_report(tmp_path).stdout.splitlines()
  task = f'{ENV} eps1 n1'
  assert [note for note in notes if 'different' in note] == [
    f'{task}: kl: runs of different settings: --data',
    f'{task}: mmd: runs of different settings: mujoco',
    f'{task}: w: runs of different settings: changed',
    f"{task}: algorithms of different --data: '1 transitions, crc32 1' (bc, kl, mmd, w); "
    "'1 transitions, crc32 2' (kl)",
    f'{task}: algorithms of different --n_eval_episodes: 20 (bc); 5 (mmd)',
  ]
  assert f'{task}: with presets that are tuned for the environment: drawn, kl, mmd' in notes
  assert f'{task}: w of seed 1 was changed on its way: at step 10: f.y was 2, is 1' in notes
  assert not [note for note in notes if 'drawn of seed 0 was changed' in note]
  assert f'{task}: kl of seed 2 does not tell its data' in notes


def test_a_return_of_data_whose_episodes_are_cut_off_is_said_to_be_that_of_the_others(tmp_path):
  write_run(tmp_path / 'learn', f'{ENV}/eps1/n5/bc/0/0', {'main': [1.0]}, 10)
  ends = [TERMINAL, GOES_ON, TERMINAL, GOES_ON, CUT_OFF]
  write_data(tmp_path / 'data' / ENV / 'eps1' / '0' / 'data', ends, [1, 2, 3, 100, 100])
  said = f"{ENV} eps1 n5: the data's return is that of its whole episodes, 60% of its rows; of the"
  for _ in range(2):  # also when the data is gone
    lines = run_report(tmp_path / 'learn', f'--data_root_dir={tmp_path}/data').stdout.splitlines()
    assert [line.startswith(said) for line in lines].count(True) == 1
    shutil.rmtree(tmp_path / 'data', ignore_errors=True)


def test_evaluations_that_are_averaged_at_other_steps_are_said(tmp_path):
  write_run(tmp_path, f'{ENV}/eps1/n1/plain/0/0', {'main': [1.0, 2.0, 3.0, 4.0]}, 40)
  folder = write_run(tmp_path, f'{ENV}/eps1/n1/often/0/0', {'main': [1.0, 2.0, 3.0, 4.0]}, 40)
  text = 'step,main\n' + ''.join(f'{step},{step}\n' for step in range(5, 45, 5))
  (folder / 'results.csv').write_text(text)
  said = 'the evaluations that are averaged are of steps 35 to 40 (often); 30 to 40 (plain)'
  assert f'{ENV} eps1 n1: {said}' in run_report(tmp_path).stdout.splitlines()


def test_evaluations_that_failed_at_the_end_are_said_and_make_no_result(tmp_path):
  columns = {'main': [1.0, 2.0, 3.0, 5.0], 'max_q': [1.0, 2.0, '', '']}
  write_run(tmp_path, f'{ENV}/eps1/n1/kl/0/0', columns, 40)
  write_run(tmp_path, f'{ENV}/eps1/n1/kl/0/1', {'main': [1.0, 2.0, 7.0, '']}, 40)
  write_run(tmp_path, f'{ENV}/eps1/n1/w/0/0', {'main': [1.0, 2.0], 'max_q': [4.0, '']}, 20)
  run = run_report(tmp_path)
  rows, notes, of = table_of(run.stdout), run.stdout.splitlines(), f'{ENV} eps1 n1: kl of seed'
  assert rows['kl main'] == ['5.5 ± 1.5 (2)']  # of 4 and 7: no older evaluation takes its place
  assert rows['kl max_q'] == ['-'] and rows['w max_q'] == ['4.0 (1)']
  assert f'{of} 0: max_q: 2 of the last 2 evaluations failed; it has no result' in notes
  failed = '1 of the last 2 evaluations failed; the mean is that of the others'
  assert f'{of} 1: main: {failed}' in notes
  assert (
    f'{ENV} eps1 n1: w of seed 0: max_q: 1 of the last 2 evaluations failed; the mean is that of '
    'the others'
  ) in notes
  assert 'shorter' not in run.stdout
  lines = read_csv(tmp_path / 'report' / 'runs.csv')
  assert [line[6] for line in lines if line[4] == 'max_q'] == ['', '4.0']


def test_another_run_of_the_same_name_is_no_copy(tmp_path):
  for tree, value in (('a', 1.0), ('b', 2.0)):
    folder = write_run(tmp_path / tree, f'{ENV}/eps1/n5/bc/0/0', {'main': [value]}, total=10)
    tell(folder, tmp_path / tree)
  place = f'{ENV}/eps1/n5/bc/0/0'
  assert (
    f'no run: b/{place}: it says that it is the run in a/{place}, and is not: give --root_dir for '
    'one of the two trees'
  ) in run_report(tmp_path).stdout.splitlines()


def test_names_of_data_may_be_long(tmp_path):
  write_run(tmp_path, f'{ENV}/{"ä" * 120}/n1/bc/0/0', {'main': [1.0]}, 10)
  run = run_report(tmp_path)
  assert run.returncode == 0 and table_of(run.stdout)['bc main'] == ['1.0 (1)']
  (figure,) = (tmp_path / 'report').glob('*.png')
  assert f']({figure.name})' in (tmp_path / 'report' / 'report.md').read_text('utf-8')


def test_names_are_not_taken_for_formulas_or_columns(tmp_path):
  write_run(tmp_path, f'{ENV}/a$_{{$/n1/b|$_{{$/0/0', {'m$_{$': [1.0]}, total=10)
  run = run_report(tmp_path)
  assert run.returncode == 0 and run.stderr == ''
  assert r'| b\|$_{$ m$_{$ | 1.0 (1) |' in (tmp_path / 'report' / 'report.md').read_text()


def test_a_reader_that_stops_early_has_the_files(tree):
  command = [sys.executable, '-u', '-m', 'brac.report', f'--root_dir={tree}']
  with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
    process.stdout.close()
    assert b'Traceback' not in process.stderr.read()
  assert {'report.md', 'iqm.csv', f'{ENV}_n1000.csv'} <= set(os.listdir(tree / 'report'))


def test_a_run_whose_name_is_not_utf8_can_be_printed(tmp_path):
  run = write_run(tmp_path, f'{ENV}/eps1/n1/bc/0/0', {'main': [1.0]}, total=10)
  os.rename(os.fsencode(run.parent), os.fsencode(run.parent.parent) + b'/l\xff')
  (run,) = results.read_runs(str(tmp_path))
  assert (run.algorithm, run.status) == (r'bc l\xff', 'finished')
  run.folder.encode()


def test_progress_is_the_saved_step_and_never_beyond_the_end(tmp_path):
  folder = str(tmp_path)
  assert results.read_progress(folder) is None and not results.is_finished(folder)
  results.write_progress(folder, 5, 10)
  assert results.read_progress(folder) == (5, 10) and not results.is_finished(folder)
  results.write_progress(folder, 10, 10)
  assert results.is_finished(folder, 10) and not results.is_finished(folder, 11)
  results.write_progress(folder, 10, 8)
  assert results.read_progress(folder) == (10, 10)
  assert os.listdir(folder) == ['progress.json']


def test_the_results_of_a_run_whose_checkpoint_is_gone_are_not_written_over(tmp_path):
  folder = write_run(tmp_path, f'{ENV}/eps1/n1/bc/0/0', {'main': [1.0]})
  results.check_not_lost(str(folder), 'agent')  # a run that was killed before its first save
  results.write_progress(str(folder), 0, 10)
  results.check_not_lost(str(folder), 'agent')
  results.write_progress(str(folder), 5, 10)
  with pytest.raises(UserError, match='saved at step 5, but its checkpoint agent is gone'):
    results.check_not_lost(str(folder), 'agent')


# --- Numbers --------------------------------------------------------------------------------------


def test_the_interquartile_mean_leaves_a_quarter_out_at_either_end():
  def iqm(*scores):
    return statistics.iqm(np.array(scores), np.ones(np.shape(scores)[-1]))

  assert iqm(8.0, 1.0, 7.0, 2.0, 6.0, 3.0, 5.0, 1e9) == (3 + 5 + 6 + 7) / 4
  # Where the number of scores is no multiple of four, parts of some go.
  assert iqm(5.0, -1e9, 1.0, 1e9, 3.0) == 3.0
  assert iqm(1.0, 2.0, 6.0) == (0.25 * 1 + 2 + 0.25 * 6) / 1.5
  assert iqm([1.0], [4.0]).tolist() == [1.0, 4.0]


def test_a_task_of_more_seeds_counts_in_the_interquartile_mean_as_one_of_fewer():
  tasks = [1.0, 2.0, 4.0, 100.0]
  assert statistics.iqm_interval([np.array([x]) for x in tasks])[0] == 3.0
  for n in (2, 4, 5):  # 5, 7 and 8 runs: the share that goes does not depend on how many there are
    for often in range(4):
      strata = [np.full(n if i == often else 1, x) for i, x in enumerate(tasks)]
      assert statistics.iqm_interval(strata)[0] == pytest.approx(3.0)


def test_the_interval_is_that_of_rliable():
  scores = np.array([[0.9, 1.4], [1.1, 2.0], [1.3, 0.2], [0.7, 1.6], [1.0, 1.2]])  # [seeds, tasks]
  mean, low, high = statistics.iqm_interval(list(scores.T))
  assert mean == pytest.approx(1.15)
  # get_interval_estimates of rliable 1.2.0, with 50,000 repetitions.
  assert low == pytest.approx(0.833, abs=0.03) and high == pytest.approx(1.383, abs=0.03)


def test_the_bootstrap_draws_within_tasks():
  # Between tasks there is much to draw from, within them nothing.
  strata = [np.array([1.0, 1.0]), np.array([5.0, 5.0]), np.array([9.0])]
  assert statistics.iqm_interval(strata) == pytest.approx((5.0,) * 3)


def test_a_score_of_one_is_as_good_as_the_data():
  assert statistics.score(400, 200) == 2 and statistics.score(-50, 200) == -0.25
  assert statistics.score(-200, -200) == 1 and statistics.score(-100, -200) == 1.5


def test_data_of_return_0_is_no_unit_and_said(tmp_path):
  for data in ('a', 'b', 'c'):
    write_run(tmp_path, f'{ENV}/{data}/n1/bc/0/0', {'main': [4.0]}, total=10)
  tasks = [(ENV, data, 'n1') for data in 'abc']
  behavior = {task: Behavior(x, 0.0, x, 1) for task, x in zip(tasks, (2.0, 2.0, 0.0))}
  of = Summary(results.read_runs(str(tmp_path)), behavior, 1)
  assert of.aggregate() == [['bc main', 2.0, '', '', '2 of 2', '2']]
  (note,) = [note for note in notes_on_runs(of, str(tmp_path)) if 'return is 0' in note]
  assert note.startswith(f'{ENV} c n1: ')


def test_a_band_is_the_mean_and_deviation_at_each_step_that_all_have():
  place = ('', *'edn', 'bc', '0')
  long = results.Run(*place, '0', (10, 20, 30), {'main': (1.0, 2.0, 3.0)})
  short = results.Run(*place, '1', (10, 30), {'main': (3.0, 9.0)})
  steps, mean, std = statistics.band([long, short], 'main')
  assert (steps.tolist(), mean.tolist(), std.tolist()) == ([10, 30], [2, 6], [1, 3])
  other = short._replace(steps=(15, 25))
  steps, mean, _ = statistics.band([long, other], 'main')
  assert (steps.tolist(), mean.tolist()) == ([10, 15, 20, 25, 30], [1, 3, 2, 9, 3])


# --- The data's own return ------------------------------------------------------------------------


def write_data(path, ends, rewards, n=None):
  """A dataset of n transitions, those that are not given of an episode that is cut off."""
  n = n or len(ends)
  rows = Transitions.zeros(n, 2, 1)
  rows.end[:] = GOES_ON
  rows.reward[: len(ends)], rows.end[: len(ends)] = rewards, ends
  checkpoints.save(str(path), data=Dataset(rows))


def test_the_datas_return_is_known_also_when_the_data_is_gone(tree):
  data = tree.parent / 'data'
  # Episodes of 30 in three steps and of 6 in one; the last row's is cut off.
  ends = [GOES_ON, GOES_ON, TERMINAL, TERMINAL, GOES_ON]
  write_data(data / ENV / 'eps1' / '0' / 'data', ends, [10, 10, 10, 6, 99], 1000)
  write_data(data / 'Walker2d-v2' / 'eps1' / '0' / 'data', ends, [10, 0, 0, -10, 99], 1000)
  (data / ENV / 'pure' / '0').mkdir(parents=True)
  (data / ENV / 'pure' / '0' / 'data.index').write_text('garbage')

  there = run_report(tree, f'--data_root_dir={data}')
  assert there.returncode == 0 and there.stderr == ''
  assert f'dataset {data}/{ENV}/pure/0/data is damaged' in there.stdout
  rows = table_of(there.stdout.split('Walker2d-v2 n1000')[0])
  assert rows['behavior data'] == ['18.0 ± 12.0 (2 ep.)', '-']
  assert rows['behavior data, by step'] == ['24.0', '-']
  assert list(rows)[1] == 'behavior data'

  shutil.rmtree(data)
  gone = run_report(tree, f'--data_root_dir={data}')
  tables = [run.stdout.split('\nunfinished: ')[0] for run in (there, gone)]
  assert (
    tables[0].replace(tables[0][tables[0].index('dataset ') :], '').strip() == tables[1].strip()
  )

  # Scores: of the cheetah's eps1 401 / 24 (bc) and of the walker's 30 / 5; no interval of one seed.
  means = {line[0]: line[1:] for line in read_csv(tree / 'report' / 'iqm.csv')}
  mean, low, high, tasks, n_runs = means['bc main']
  assert float(mean) == pytest.approx((401 / 24 + 30 / 5) / 2)
  assert (low, high, tasks, n_runs) == ('', '', '2 of 2', '2')
  mean, low, high, tasks, n_runs = means['kl_vp main']
  assert float(mean) == pytest.approx((0.25 * 115 + 215 + 0.25 * 615) / 1.5 / 24)
  assert (tasks, n_runs) == ('1 of 2', '3')
  assert 4.79 < float(low) < float(mean) < float(high) < 25.63

  # Data of the same name and another size: its return is not that of these runs.
  write_data(data / ENV / 'eps1' / '0' / 'data', [TERMINAL], [7])
  other = run_report(tree, f'--data_root_dir={data}')
  assert table_of(other.stdout.split('Walker2d-v2 n1000')[0])['behavior data'][0] == (
    '18.0 ± 12.0 (2 ep.)'
  )
  path = data / ENV / 'eps1' / '0' / 'data'
  assert f'{ENV} eps1 n1000: dataset {path} is another one, of 1 transitions' in other.stdout
  # Where none of its own was kept, the note does not say that there is no data.
  other = run_report(tree, f'--data_root_dir={data}', f'--output_dir={tree / "elsewhere"}')
  assert f'{ENV} eps1 n1000: {UNKNOWN}' in other.stdout
  shutil.rmtree(data)

  (tree / 'report' / 'behavior.csv').write_text('nonsense\n1,2\n')
  damaged = run_report(tree, f'--data_root_dir={data}')
  assert damaged.returncode == 0
  assert f'{tree}/report/behavior.csv cannot be read; it is written anew' in damaged.stdout


@pytest.mark.parametrize('kind', ['behavior', 'references'])
def test_numbers_of_a_file_that_was_cut_are_not_taken(kind, tmp_path):
  tasks = [(ENV, 'eps1', 'n1000'), ('Walker2d-v2', 'eps1', 'n1000')]
  load = {'behavior': load_behavior, 'references': scores.load_references}[kind]
  kept = tmp_path / 'kept.csv'
  if kind == 'behavior':
    write_behavior(str(kept), {task: Behavior(1.5, 2.5, 3.25, 44, 0.875) for task in tasks})
  else:
    # Of environments that no table has, so that the file alone tells them.
    tasks = [(f'{task[0]}x', *task[1:]) for task in tasks]
    kept_by_hand = {task: Reference(1.629008, 4592.3, 'Minari') for task in tasks}
    scores.write_references(str(kept), kept_by_hand)
  args = tasks, str(tmp_path / 'gone'), '0', 'data', str(kept)
  whole, notes = load(*args)
  assert set(whole) == set(tasks) and not notes
  written, n_lines = kept.read_bytes(), []
  for n in range(len(written)):
    kept.write_bytes(written[:n])
    found, notes = load(*args)
    assert found.items() <= whole.items()
    if notes:
      assert not found and notes == [f'{kept} cannot be read; it is written anew']
    else:
      n_lines.append(written[:n].count(b'\n') - 1)
      assert written[:n].endswith(b'\r\n') and len(found) == n_lines[-1]
  assert n_lines == [0, 1]


def test_reports_at_once_leave_whole_files(tree):
  command = [sys.executable, '-m', 'brac.report', f'--root_dir={tree}', '--data_root_dir=nowhere']
  for _ in range(3):
    reports = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [report.wait() for report in reports] == [0, 0, 0]
  names = sorted(os.listdir(tree / 'report'))
  before = {name: (tree / 'report' / name).read_bytes() for name in names}
  assert run_report(tree, '--last=10').returncode == 0
  assert before == {name: (tree / 'report' / name).read_bytes() for name in names}
  assert sorted(os.listdir(tree / 'report')) == names and 'unfinished' not in ''.join(names)


def test_data_that_is_not_there_or_bad_is_a_note(tmp_path):
  folder = tmp_path / ENV / 'eps1' / '0'
  write_data(folder / 'data', [TERMINAL, TERMINAL], [1, np.inf])

  def load(file):
    kept_in = str(tmp_path / 'kept.csv')
    return load_behavior([(ENV, 'eps1', 'n1')], str(tmp_path), '0', file, kept_in)

  behavior, (note,) = load('data')
  assert behavior == {} and '1 numbers of _reward are not finite' in note
  behavior, (note,) = load('nosuch')
  assert behavior == {} and f'no dataset at {folder}/nosuch; in that folder there is: data' in note
  # What is gone, and known from before, is no news.
  known = {(ENV, 'eps1', 'n1'): Behavior(1.0, 2.0, 3.0, 4)}
  write_behavior(str(tmp_path / 'kept.csv'), known)
  assert load('nosuch') == (known, [])


# --- Normalised scores ----------------------------------------------------------------------------

# D4RL's references of HalfCheetah-v2 and Walker2d-v2.
_LOW, _HIGH = -280.178953, 12135.0
_WALKER = 1.629008, 4592.3


# As the specification has them.
_REFERENCES = {
  'HalfCheetah-v2': (-280.178953, 12135.0),
  'Hopper-v2': (-20.272305, 3234.3),
  'Walker2d-v2': (1.629008, 4592.3),
  'Ant-v2': (-325.6, 3879.7),
}


@pytest.mark.parametrize('env_name', _REFERENCES)
def test_the_reference_scores_are_those_of_d4rl(env_name):
  found = references.find(env_name, {})
  assert found == (*_REFERENCES[env_name], 'D4RL')
  assert (found.score(found.low), found.score(found.high)) == (0, 100)
  assert references.find('Pendulum-v1', {}) is None


def score(x, low=_LOW, high=_HIGH):
  return 100 * (x - low) / (high - low)


def write_import(path, n, returns, lengths, **facts):
  """An import of n rows, of a source with those episodes."""
  rows, source = Transitions.zeros(n, 3, 2), tf.Module()
  rows.end[:] = TERMINAL
  source.returns, source.lengths = tf.Variable(np.array(returns)), tf.Variable(np.array(lengths))
  checkpoints.save(str(path), data=Dataset(rows), source=source)
  provenance.write(str(path), facts)


def test_scores_are_by_the_table_of_the_task_and_no_average_is_over_two(tree):
  data = tree.parent / 'data'
  own = {'min': 100.0, 'max': 300.0, 'whose': 'Minari'}
  write_import(data / ENV / 'pure' / '0' / 'data', 9, [200.0], [10], reference_scores=own)
  done = run_report(tree, f'--data_root_dir={data}')
  assert done.returncode == 0 and done.stderr == ''
  rows = table_of(done.stdout.split(': scores')[1])
  spread = 100 * np.std([115, 215, 615]) / (_HIGH - _LOW)
  assert rows['kl_vp main'] == [f'{score(315):.1f} ± {spread:.1f} (3)', '-']
  assert rows['bc main'] == [f'{score(401):.1f} (1)', '350.0 (1)']
  assert rows['behavior data'] == ['-', '50.0 ± 0.0 (1 ep.)']
  assert 'by D4RL: HalfCheetah-v2 -280.179 and 12135, Walker2d-v2 1.62901 and 4592.3' in (
    ' '.join(done.stdout.split())
  )
  assert 'by Minari: HalfCheetah-v2 pure 100 and 300' in ' '.join(done.stdout.split())

  out = tree / 'report'
  header, *lines = read_csv(out / f'{ENV}_n1000_scores.csv')
  sheet = {tuple(line[:2]): dict(zip(header, line)) for line in lines}
  vp = sheet['kl_vp', 'main']
  assert float(vp['eps1 score']) == pytest.approx(score(315))
  assert float(vp['eps1 score std']) == pytest.approx(spread)
  assert vp['eps1 seeds'] == '3' and vp['eps1 references'] == 'D4RL' and vp['pure score'] == ''
  assert sheet['bc', 'main']['pure references'] == 'Minari'
  of_data = sheet['behavior data', 'episodes']
  assert (of_data['pure score'], of_data['pure seeds']) == ('50.0', '')

  # Two tasks are by D4RL, one by itself.
  means = {tuple(line[:2]): line[2:] for line in read_csv(out / 'iqm_scores.csv')[1:]}
  assert {whose for whose, _ in means} == {'D4RL'}
  mean, low, high, tasks, n_runs = means['D4RL', 'bc main']
  assert float(mean) == pytest.approx((score(401) + score(30, *_WALKER)) / 2)
  assert (low, high, tasks, n_runs) == ('', '', '2 of 2', '2')
  page = (out / 'report.md').read_text()
  assert '## Normalized scores' in page and '100 (R - min) / (max - min)' in page

  # Other data in its place have others, or none.
  provenance.write(str(data / ENV / 'pure' / '0' / 'data'), {})
  anew = run_report(tree, f'--data_root_dir={data}', f'--output_dir={tree.parent / "anew"}')
  assert 'by Minari' not in anew.stdout
  shutil.copy(out / 'references.csv', tree.parent / 'anew')
  anew = run_report(tree, f'--data_root_dir={data}', f'--output_dir={tree.parent / "anew"}')
  assert 'by Minari' not in anew.stdout

  # Without the data its references are known from before.
  shutil.rmtree(data)
  gone = run_report(tree, f'--data_root_dir={data}')
  assert 'by Minari: HalfCheetah-v2 pure 100 and 300' in ' '.join(gone.stdout.split())


def test_there_are_no_scores_without_references(tmp_path):
  write_run(tmp_path / 'learn', 'Pendulum-v1/eps1/n1000/bc/0/0', {'main': [1.0]}, total=10)
  done = run_report(tmp_path / 'learn', f'--data_root_dir={tmp_path}')
  assert done.returncode == 0 and ': scores' not in done.stdout and 'max - min' not in done.stdout
  assert len(read_csv(tmp_path / 'learn' / 'report' / 'iqm_scores.csv')) == 1


@pytest.mark.parametrize('n_train', [998999, 10**6, 100])
def test_an_import_is_the_data_of_runs_that_ask_for_more_or_for_a_part(n_train, tmp_path):
  path = tmp_path / ENV / 'medium' / '0' / 'data'
  write_import(path, 1000, [10.0, 30.0], [500, 501])
  task = (ENV, 'medium', f'n{n_train}')
  behavior, notes = load_behavior([task], str(tmp_path), '0', 'data', str(tmp_path / 'kept.csv'))
  assert not notes
  assert (behavior[task].mean, behavior[task].episodes) == (20.0, 2)


# --- Learning curves ------------------------------------------------------------------------------


def pixels(image, color):
  """How many pixels are of a color, but for the smoothing at edges."""
  want = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
  return np.sum(np.abs(image[..., :3] - want).max(axis=-1) < 0.02)


def test_curves_show_both_policies_the_band_and_the_unfinished_run(tmp_path):
  def drawn(n_seeds, unfinished):
    root = tmp_path / f'{n_seeds}{unfinished}'
    for seed in range(n_seeds):
      rise = np.linspace(0, 1000 + 500 * seed, 10)
      columns = {'main': rise, 'max_q': 3000 - rise}
      write_run(root, f'{ENV}/eps1/n1000/kl_vp/0/{seed}', columns, total=100)
    if unfinished:
      write_run(root, f'{ENV}/eps1/n1000/kl_vp/0/9', {'main': [3000.0] * 5}, total=100)
    behavior = {(ENV, 'eps1', 'n1000'): Behavior(1500.0, 1.0, 1500.0, 5)}
    of = Summary(results.read_runs(str(root)), behavior, 2)
    curves.draw(of, (ENV, 'eps1', 'n1000'), str(root / 'curve.png'))
    return matplotlib.image.imread(root / 'curve.png')

  one, three, more = drawn(1, False), drawn(3, False), drawn(3, True)
  assert min(one.shape[:2]) > 300
  for image in (one, three, more):
    assert pixels(image, curves.BLUE) > 200 and pixels(image, curves.VERMILION) > 200
  light_blue = '#cce3f0'  # a fifth of the blue on white
  assert pixels(three, light_blue) > 2000 > 100 > pixels(one, light_blue)
  grey = '#999999'
  assert pixels(more, grey) > pixels(three, grey) + 20  # how many depends on the matplotlib
