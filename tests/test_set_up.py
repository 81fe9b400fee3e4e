"""The set-up of a clone, on machines that lack this or that: what it says where it cannot go on.

The programs of such machines are stand-ins; the real set-up is run by CI, and by who runs this.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

_ROOT = pathlib.Path(__file__).parent.parent
_TOOLS = ('bash', 'cat', 'cksum', 'cut', 'id', 'ln', 'ls', 'mkdir', 'rm', 'touch')
# A Python of some version: it tells its version, and makes environments or does not.
_PYTHON = """#!/usr/bin/env bash
if [ "$1" = --version ]; then echo "Python {0}.{1}.0"; exit; fi
if [ "$1" = -m ]; then {venv}; fi
case "$2" in
  *'sys.exit(not'*) [ {1} -ge 10 ] && [ {1} -le 13 ] ;;
  *) echo {0}.{1} ;;
esac
"""
# What makes an environment leaves this in the folder that it is given last.
_MAKES = r"""
folder="${@: -1}"; echo "$@" >> "$HOME/made"
mkdir -p "$folder/bin"; touch "$folder/pyvenv.cfg"
echo "VIRTUAL_ENV='$PWD/$folder'; PATH='$PWD/$folder/bin':\$PATH" > "$folder/bin/activate"
ln -s "$HOME/bin/supported" "$folder/bin/python"; ln -s "$HOME/bin/a_pip" "$folder/bin/pip"
exit 0"""
_PIP = """#!/usr/bin/env bash
echo "$@" >> "$HOME/pip"; exit ${PIP_STATUS:-0}"""
_SUPPORTED = '3.10, 3.11, 3.12 or 3.13'


class Machine:
  """A home with a clone's set-up, and a PATH of the programs that are put there."""

  def __init__(self, home):
    self.home = home
    (home / 'bin').mkdir()
    for name in _TOOLS:
      (home / 'bin' / name).symlink_to(shutil.which(name))
    for name in ('setup_env.sh', 'pyproject.toml', 'constraints.txt'):
      shutil.copy(_ROOT / name, home)
    (home / 'run.sh').write_text('set -euo pipefail\nsource ./setup_env.sh\n')
    self.put('supported', _PYTHON.format(3, 12, venv='exit 1'))
    self.put('a_pip', _PIP)

  def put(self, name, text):
    path = self.home / 'bin' / name
    path.write_text(text.replace('/usr/bin/env bash', shutil.which('bash')))
    path.chmod(0o755)

  def python(self, name, minor, venv='exit 1'):
    self.put(name, _PYTHON.format(3, minor, venv=venv))

  def set_up(self, **variables):
    env = {'HOME': str(self.home), 'PATH': str(self.home / 'bin'), **variables}
    return subprocess.run(
      ['bash', './run.sh'], cwd=self.home, env=env, capture_output=True, text=True
    )

  def says(self, line, **variables):
    """Whether it ends with exit status 1 and that line, and leaves no environment."""
    done = self.set_up(**variables)
    assert done.returncode == 1 and done.stdout == ''
    assert done.stderr == f'./run.sh: {line}\n'
    assert not (self.home / '.venv' / 'pyvenv.cfg').exists()


@pytest.fixture
def machine(tmp_path):
  return Machine(tmp_path)


def test_where_the_only_python_is_newer_or_older_one_line_says_so(machine):
  for minor in (14, 9):
    machine.python('python3', minor)
    machine.says(
      f'needs Python {_SUPPORTED}, and here is 3.{minor}; install one of them, or uv, which '
      'fetches one'
    )


def test_where_there_is_no_python_one_line_says_so(machine):
  machine.says(
    f"needs Python {_SUPPORTED}, and here is none; 'apt-get install python3-venv', as root, or "
    'install uv, which fetches one'
  )


def test_where_python_makes_no_environments_one_line_says_what_lets_it(machine):
  machine.python('python3', 12)
  machine.says(
    'python3 cannot make a virtual environment with pip in it; '
    "'apt-get install python3.12-venv', as root, lets it"
  )


def test_a_folder_that_is_no_environment_is_left_as_it_is(machine):
  machine.python('python3', 12, _MAKES)
  (machine.home / '.venv').mkdir()
  (machine.home / '.venv' / 'mine').write_text('mine')
  machine.says('.venv is there, and is no virtual environment')
  assert os.listdir(machine.home / '.venv') == ['mine']


@pytest.mark.parametrize('others', [('python3', 14), None])
def test_uv_fetches_a_python(machine, others):
  if others:
    machine.python(*others)
  machine.put('uv', '#!/usr/bin/env bash' + _MAKES)
  done = machine.set_up()
  assert done.returncode == 0, done.stderr
  made = (machine.home / 'made').read_text()
  assert made == 'venv --quiet --seed --python >=3.10,<3.14 .venv\n'


@pytest.mark.parametrize(
  'pythons, taken',
  [
    ({'python3': 14, 'python3.12': 12, 'python3.13': 13}, 'python3.13'),
    ({'python3': 11, 'python3.13': 13}, 'python3'),
    ({'python': 10}, 'python'),
  ],
)
def test_the_machines_own_python_comes_first_where_it_does(machine, pythons, taken):
  for name, minor in pythons.items():
    machine.python(name, minor, f'echo {name} >> "$HOME/by"; {_MAKES}')
  assert machine.set_up().returncode == 0
  assert (machine.home / 'by').read_text() == taken + '\n'


def test_what_is_installed_is_installed_once_until_it_changes(machine):
  machine.python('python3', 12, _MAKES)
  for _ in range(2):
    assert machine.set_up().returncode == 0
  (pip,) = (machine.home / 'pip').read_text().splitlines()
  assert '--editable . --constraint constraints.txt' in pip
  with open(machine.home / 'pyproject.toml', 'a', encoding='utf-8') as f:
    f.write('\n')
  assert machine.set_up().returncode == 0
  assert len((machine.home / 'pip').read_text().splitlines()) == 2
  assert len((machine.home / 'made').read_text().splitlines()) == 1


def test_where_pip_fails_a_line_says_what_mujoco_needs_and_it_is_tried_again(machine):
  machine.python('python3', 12, _MAKES)
  done = machine.set_up(PIP_STATUS='1')
  assert done.returncode == 1
  said, last = done.stderr.splitlines()
  assert said == 'installing into .venv, a few minutes the first time'
  assert last.startswith('./run.sh: pip could not install what the project needs')
  assert 'no wheel for Python 3.12.0 on this machine' in last and _SUPPORTED in last
  assert machine.set_up().returncode == 0


def test_an_environment_of_a_python_that_does_not_do_is_said(machine):
  machine.python('python3', 12, _MAKES)
  assert machine.set_up().returncode == 0
  machine.python('supported', 14)  # which the environment's python is
  done = machine.set_up()
  assert done.returncode == 1
  assert done.stderr == (
    f'./run.sh: .venv is not of Python {_SUPPORTED}; remove it, and it is made anew\n'
  )


def n_installs(machine):
  return len((machine.home / 'pip').read_text().splitlines())


@pytest.mark.parametrize('how', [shutil.move, shutil.copytree])
def test_an_environment_of_another_place_is_said(machine, tmp_path_factory, how):
  machine.python('python3', 12, _MAKES)
  assert machine.set_up().returncode == 0
  other = tmp_path_factory.mktemp('other') / 'clone'
  how(machine.home, other)
  before = machine.home
  machine.home = other
  for name, program in (('python', 'supported'), ('pip', 'a_pip')):  # which are no links in truth
    (other / '.venv' / 'bin' / name).unlink()
    (other / '.venv' / 'bin' / name).symlink_to(other / 'bin' / program)
  done = machine.set_up()
  assert done.returncode == 1 and n_installs(machine) == 1
  assert done.stderr == (
    f'./run.sh: .venv was made at {before}/.venv; remove it, and it is made anew\n'
  )
  shutil.rmtree(other / '.venv')
  assert machine.set_up().returncode == 0


@pytest.mark.parametrize('pip_fails', [True, False])
def test_what_another_set_up_may_have_changed_is_installed_again(machine, pip_fails):
  machine.python('python3', 12, _MAKES)
  for extras in ('', '[dev]', '', '[dev]'):  # which do not undo each other
    assert machine.set_up(extras=extras).returncode == 0
  assert n_installs(machine) == 2
  project = machine.home / 'pyproject.toml'
  before = project.read_text()
  project.write_text(before + '\n')
  assert machine.set_up(PIP_STATUS='1' if pip_fails else '0').returncode == pip_fails
  project.write_text(before)
  assert machine.set_up(extras='[dev]').returncode == 0
  assert n_installs(machine) == 4


def test_an_environment_without_pip_is_left_as_it_is(machine):
  machine.python('python3', 12, _MAKES)
  venv = machine.home / '.venv'
  (venv / 'bin').mkdir(parents=True)
  (venv / 'bin' / 'activate').write_text('')
  (venv / 'bin' / 'python').symlink_to(machine.home / 'bin' / 'supported')
  for name in ('pyvenv.cfg', 'mine'):
    (venv / name).write_text('mine')
  done = machine.set_up()
  assert done.returncode == 1 and not (machine.home / 'made').exists()
  assert done.stderr == (
    './run.sh: .venv has no pip, and its Python cannot put one there; remove it, and it is made '
    'anew\n'
  )
  assert sorted(os.listdir(venv)) == ['bin', 'mine', 'pyvenv.cfg']


def test_a_python_with_a_space_in_its_path(machine):
  folder = machine.home / 'bin' / 'a folder'
  folder.mkdir()
  machine.python('a folder/python', 11, _MAKES)
  done = machine.set_up(BRAC_PYTHON=str(folder / 'python'))
  assert done.returncode == 0, done.stderr


_PROGRAM = """#!/usr/bin/env bash
if [ "$1" = -c ]; then exit 0; fi
echo "$@" >> "$HOME/ran"
if [ "$2" = brac.train_offline ]; then
  trap 'echo saved >> "$HOME/ran"; exit 143' TERM
  touch "$HOME/trains"
  while :; do sleep 0.05; done
fi"""


def test_a_run_that_is_told_to_stop_lets_its_program_save(machine):
  machine.python('python3', 12, _MAKES)
  shutil.copy(_ROOT / 'run.sh', machine.home)
  for name in ('dirname', 'sleep'):
    (machine.home / 'bin' / name).symlink_to(shutil.which(name))
  machine.put('supported', _PROGRAM)
  env = {'HOME': str(machine.home), 'PATH': str(machine.home / 'bin')}
  command = ['bash', './run.sh', "o'brien"]
  process = subprocess.Popen(
    command, cwd=machine.home, env=env, stderr=subprocess.PIPE, start_new_session=True
  )
  try:
    while not (machine.home / 'trains').exists():
      assert process.poll() is None, process.stderr.read()
      time.sleep(0.02)
    process.terminate()
    assert process.wait() == 143
  finally:
    with contextlib.suppress(ProcessLookupError):  # as it should be, nothing is left
      os.killpg(process.pid, signal.SIGKILL)
  collection, training, saved = (machine.home / 'ran').read_text().splitlines()
  assert 'brac.collect_data' in collection and 'brac.train_offline' in training
  assert saved == 'saved'
