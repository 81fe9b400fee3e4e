"""The notebook in examples/: its code cells run, one after the other, as small as they can be."""

import csv
import json
import os
import pathlib
import subprocess
import sys

from environment_helpers import needs_library
from PIL import Image

_ROOT = pathlib.Path(__file__).parent.parent


def cells():
  notebook = json.loads((_ROOT / 'examples' / 'brac_tour.ipynb').read_text('utf-8'))
  assert notebook['nbformat'] == 4
  return notebook['cells']


def test_the_notebook_has_ten_cells_and_is_as_if_nobody_ran_it():
  assert len(cells()) == 10
  for cell in cells():
    assert not cell.get('outputs') and cell.get('execution_count') is None


@needs_library
def test_the_notebook_runs(tmp_path):
  code = '\n'.join(''.join(cell['source']) for cell in cells() if cell['cell_type'] == 'code')
  for long, short in (("'--steps=200'", "'--steps=60'"), ('episodes=5', 'episodes=1')):
    assert code.count(long) == 1
    code = code.replace(long, short)
  env = {
    **os.environ, 'TOUR_SIZE': '0.01', 'TOUR_DIR': str(tmp_path), 'MPLBACKEND': 'agg',
    'PYTHONPATH': str(_ROOT),
  }  # fmt: skip
  ran = subprocess.run(
    [sys.executable, '-c', code + '\nassert Film()._repr_html_().startswith("<img")'],
    cwd=tmp_path, env=env, capture_output=True, text=True,
  )  # fmt: skip
  assert ran.returncode == 0, ran.stderr
  assert '1000 transitions of 17 states and 6 actions' in ran.stdout
  assert all(f'\n{kind} [' in ran.stdout for kind in ('main', 'sample', 'max_q'))
  with Image.open(tmp_path / 'film.gif') as film:
    assert film.size == (720, 180) and film.n_frames > 20
  results = tmp_path / 'learn/HalfCheetah-v2/eps1/n1000/kl_vp/0/0/results.csv'
  rows = list(csv.DictReader(results.read_text('utf-8').splitlines()))
  assert [row['step'] for row in rows] == [str(50 * i) for i in range(1, 7)]
