"""The tables that the project shows: that they are those of the files kept beside them."""

import csv
import filecmp
import os
import shutil
import subprocess
import sys

import pytest

from brac import results
from brac.grids import shipped

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def read_page(name):
  with open(os.path.join(_ROOT, 'docs', name), encoding='utf-8') as f:
    return f.read()


@pytest.mark.parametrize('runs', ['tuned', 'first_runs'])
def test_the_report_that_is_kept_is_that_of_the_runs_that_are_kept(runs, tmp_path):
  kept = os.path.join(_ROOT, 'results', runs, 'report')
  shutil.copy(os.path.join(kept, 'behavior.csv'), tmp_path)  # the data itself is not kept
  done = subprocess.run(
    [sys.executable, '-m', 'brac.report', f'--root_dir=results/{runs}',
     '--data_root_dir=nowhere', f'--output_dir={tmp_path}'],
    cwd=_ROOT, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  tables = [name for name in sorted(os.listdir(kept)) if not name.endswith('.png')]
  assert filecmp.cmpfiles(kept, tmp_path, tables, shallow=False) == (tables, [], [])
  tables, found, _ = done.stdout.partition('\n\nmean ± standard deviation')
  assert found
  if runs == 'first_runs':
    assert f'```\n{tables}\n```' in read_page('first_runs.md'), 'the page has another table'


def read_table_of_the_comparison(page):
  """Its cells that are not empty, by row and environment."""
  _, found, table = read_page(page).partition('| `eps1`: `main` / `max_q` |')
  assert found, 'the page has no table of the comparison'
  header, _, *rows = table.partition('\n\n')[0].splitlines()
  envs = [e.strip() for e in header.strip('|').split('|')]
  shown = {}
  for line in rows:
    row, *cells = (c.strip() for c in line.strip('|').split('|'))
    shown |= {(row, env): cell for env, cell in zip(envs, cells, strict=True) if cell}
  return shown


def read_kept(table):
  path = os.path.join(_ROOT, 'results', 'tuned', 'report', table)
  with open(path, encoding='utf-8') as f:
    return list(csv.DictReader(f))


def data_of_the_comparison():
  return {
    ('data, by step', data['env']): f'{float(data["mean by step"]):.0f}'
    for data in read_kept('behavior.csv')
  }


def test_the_table_of_the_comparison_has_every_run_that_is_kept():
  wanted = data_of_the_comparison()
  for run in read_kept('runs.csv'):
    env, _, _, row, _, seed = run['folder'].split('/')
    assert run['status'] == 'finished'
    cell = f'{row}, seed {seed}', env
    mean = f'{float(run["mean of last"]):.0f}'
    wanted[cell] = f'{wanted[cell]} / {mean}' if cell in wanted else mean
  assert read_table_of_the_comparison('results.md') == wanted


def test_the_table_of_the_readme_has_the_means_of_the_report():
  wanted = data_of_the_comparison()
  for env in [env for _, env in wanted]:
    returns = {}
    for row in read_kept(f'{env}_n1000000.csv'):
      if row['algorithm'] != 'behavior data':
        means, _ = returns.setdefault((row['algorithm'], env), ([], row['eps1 seeds']))
        means.append(f'{float(row["eps1 mean"]):.0f}')
    for cell, (means, n) in returns.items():
      wanted[cell] = ' / '.join(means) + (f' ({n})' if n != '1' else '')
  assert read_table_of_the_comparison('../README.md') == wanted


def test_the_tables_of_the_searches_are_those_of_the_evaluations_that_are_kept(tmp_path):
  pytest.importorskip('optuna', reason='a search needs optuna: pip install "brac[sweep]"')
  kept = os.path.join(_ROOT, 'results', 'search')
  program = os.path.join(kept, 'tables.py')
  done = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  tables = sorted(name for name in os.listdir(tmp_path) if name.endswith('.csv'))
  assert tables == sorted(n for n in os.listdir(kept) if n.endswith('_seed0.csv')) != []
  tables.append('best.md')
  with open(os.path.join(kept, 'best.md'), encoding='utf-8') as f:
    assert f.read() in read_page('results.md'), 'the page has another table of the searches'
  assert filecmp.cmpfiles(kept, tmp_path, tables, shallow=False) == (tables, [], [])


def test_the_page_has_the_returns_of_the_manifest():
  page = read_page('environments.md')
  for place, entry in shipped.read(os.path.join(_ROOT, 'trained_policies')).items():
    if place.endswith('/agent_partial_target'):
      cells = ['{mean:.0f} ± {std:.0f}'.format(**entry.returns[how]) for how in ('mode', 'sample')]
      assert f'| {os.path.dirname(place)} | {" | ".join(cells)} |' in page


def test_a_table_that_a_spreadsheet_has_saved_is_read(tmp_path):
  (tmp_path / 'results.csv').write_bytes(b'\xef\xbb\xbfstep,main\r\n10,1.5\r\n')
  assert results.read_results(str(tmp_path / 'results.csv')) == ((10,), {'main': (1.5,)})
