"""The docs: the site builds without a warning, its commands are commands, its Python runs."""

import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

import pytest

_ROOT = pathlib.Path(__file__).parent.parent
_PAGES = sorted([_ROOT / 'README.md', *(_ROOT / 'docs').rglob('*.md')])
_BLOCK = re.compile(r'^```(\w*)\n(.*?)^```', re.M | re.S)


def blocks(kind):
  """The blocks of that kind as `(page, text)`."""
  found = [(p.relative_to(_ROOT), b) for p in _PAGES for b in _BLOCK.findall(p.read_text('utf-8'))]
  return [(page, text) for page, (language, text) in found if language == kind]


def commands():
  """Every `python -m brac.NAME ...` that a page has, as its words."""
  for page, text in [*blocks('sh'), *blocks('')]:
    for line in text.replace('\\\n', ' ').splitlines():
      if 'python -m brac.' in line and '$(' not in line:
        words = shlex.split(line, comments=True)
        if 'python' in words:
          yield pytest.param(words[words.index('python') :], id=f'{page}: {line.strip()[:60]}')


def test_the_site_builds_without_a_warning(tmp_path):
  for package in ('mkdocs', 'latex2mathml', 'pymdownx'):
    if importlib.util.find_spec(package) is None:
      pytest.skip(f'{package} is not installed: pip install brac[docs]')
  command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(tmp_path)]
  built = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
  assert built.returncode == 0, built.stderr
  assert 'WARNING' not in built.stderr
  for page in (tmp_path / 'algorithms').rglob('index.html'):
    text = page.read_text('utf-8')
    assert '<math' in text and 'arithmatex' not in text and '$$' not in text and '\\[' not in text


def test_a_person_reads_the_readme():
  assert len((_ROOT / 'README.md').read_text('utf-8').splitlines()) <= 200


def test_the_readme_has_a_line_on_each_difference_from_the_published_code():
  """Those of section 7 of the specification; the page has them too."""
  told = '`--seed` seeds', 'Targets start', 'restore', 'time limit is not', '`shuffle_steps=0`'
  told += (
    '`bcq_agent.Agent.paper_code=True`',
    'what a flag sets',
    'per row',
    'Optimizers and random',
  )
  for page in (_ROOT / 'README.md', _ROOT / 'docs' / 'differs.md'):
    _, found, text = page.read_text('utf-8').partition('What differs from the published code')
    section = text.partition('\n## ')[0]
    items = [' '.join(item.split()) for item in section.split('\n- ')[1:]]
    assert found and all(sum(words in item for item in items) == 1 for words in told), page


@pytest.mark.parametrize('words', commands())
def test_a_command_names_a_program_and_flags_that_there_are(words):
  name = words[2].removeprefix('brac.')
  source = (_ROOT / 'brac' / f'{name}.py').read_text('utf-8')
  shared = [_ROOT / 'brac' / 'programs.py', *(_ROOT / 'brac' / 'grids').glob('*flags*.py')]
  source += ''.join(path.read_text('utf-8') for path in shared)
  defined = set(re.findall(r"DEFINE_\w+\(\s*'(\w+)'", source)) | {'help', 'helpfull'}
  given = {word[2:].partition('=')[0] for word in words if word.startswith('--')}
  assert {g.removeprefix('no') if g not in defined else g for g in given} <= defined


def test_the_readmes_python_runs():
  ((page, text),) = [b for b in blocks('python') if b[0] == pathlib.Path('README.md')]
  ran = subprocess.run([sys.executable, '-c', text], cwd=_ROOT, capture_output=True, text=True)
  assert ran.returncode == 0, ran.stderr
  assert ran.stdout.startswith('tf.Tensor(')


# A program as the job scripts start it: it saves when it is told to stop.
_TRAINING = """#!/usr/bin/env bash
echo "$@" >> ran
trap 'echo saved >> ran; exit 143' TERM
touch started
while [ ! -e ends ]; do sleep 0.05; done
exit $(cat ends)"""


@pytest.mark.parametrize('script', [text for _, text in blocks('bash') if '#SBATCH' in text])
@pytest.mark.parametrize('ends, requeues', [('TERM', True), ('75', None), ('0', False)])
def test_a_job_of_slurm_queues_its_own_task_again(script, ends, requeues, tmp_path):
  for name, text in (('python', _TRAINING), ('scontrol', '#!/bin/sh\necho "$@" >> queued')):
    (tmp_path / 'bin').mkdir(exist_ok=True)
    (tmp_path / 'bin' / name).write_text(text)
    (tmp_path / 'bin' / name).chmod(0o755)
  (tmp_path / 'commands.txt').write_text('python -m one\npython -m brac.train_offline "a b"\n')
  (tmp_path / 'job.sh').write_text(script)
  # The task whose job has the number of the whole array.
  task = {'SLURM_JOB_ID': '70', 'SLURM_ARRAY_JOB_ID': '70', 'SLURM_ARRAY_TASK_ID': '2'}
  env = {**task, 'PATH': f'{tmp_path}/bin:{os.environ["PATH"]}'}
  job = subprocess.Popen(['bash', 'job.sh'], cwd=tmp_path, env=env)
  try:
    while not (tmp_path / 'started').exists():
      assert job.poll() is None
      time.sleep(0.02)
    if ends == 'TERM':
      job.terminate()
    else:
      (tmp_path / 'ends.new').write_text(ends)
      (tmp_path / 'ends.new').rename(tmp_path / 'ends')
    assert job.wait() == (143 if ends == 'TERM' else int(ends))
  finally:
    (tmp_path / 'ends').write_text(ends.replace('TERM', '1'))  # nothing waits for ever
  ran, *saved = (tmp_path / 'ran').read_text().splitlines()
  assert ran.startswith('-m brac.') and saved == ['saved'] * (ends == 'TERM')
  if requeues is None:  # 75: where each task is a run, another may have its folder
    requeues = 'commands.txt' in script
  queued = (tmp_path / 'queued').read_text() if (tmp_path / 'queued').exists() else ''
  assert queued == 'requeue 70_2\n' * requeues
