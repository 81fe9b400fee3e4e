"""What is installed: all that stands in the clone, and nothing else; from an sdist, too."""

import itertools
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
from packaging.requirements import Requirement

_ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """The source distribution's files, and those of the wheel that is built of it; bytes by name."""
  for module in ('build', 'hatchling'):
    pytest.importorskip(module)
  folder = tmp_path_factory.mktemp('dist')
  command = [sys.executable, '-m', 'build', '--no-isolation', '--outdir', str(folder), str(_ROOT)]
  subprocess.run(command, check=True, capture_output=True)
  with tarfile.open(next(folder.glob('*.tar.gz'))) as archive:
    files = [member for member in archive.getmembers() if member.isfile()]
    source = {m.name.split('/', 1)[1]: archive.extractfile(m).read() for m in files}
  with zipfile.ZipFile(next(folder.glob('*.whl'))) as archive:
    wheel = {name: archive.read(name) for name in archive.namelist()}
  return source, wheel


def files_below(folder):
  paths = (path for path in (_ROOT / folder).rglob('*') if path.is_file())
  return {
    path.relative_to(_ROOT / folder): path for path in paths if '__pycache__' not in path.parts
  }


@pytest.mark.parametrize('folder', ['brac', 'configs', 'trained_policies'])
def test_the_wheel_has_all_that_is_in_the_clone(built, folder):
  inside = 'brac' if folder == 'brac' else f'brac/{folder}'
  files = files_below(folder)
  assert files
  for name, path in files.items():
    assert built[1][f'{inside}/{name}'] == path.read_bytes()


def test_the_wheel_has_nothing_else(built):
  folders = {'brac': 'brac', 'brac/configs': 'configs', 'brac/trained_policies': 'trained_policies'}
  known = {f'{inside}/{n}' for inside, folder in folders.items() for n in files_below(folder)}
  assert {name for name in built[1] if '.dist-info/' not in name} == known


def test_a_source_distribution_can_set_itself_up_and_test_itself(built):
  tests = {f'tests/{name}' for name in files_below('tests') if name.suffix == '.py'}
  assert tests | {'pyproject.toml', 'constraints.txt', 'run_tests.sh', 'setup_env.sh'} <= set(
    built[0]
  )


@pytest.mark.parametrize('python', ['3.10', '3.11', '3.12', '3.13'])
def test_the_constraints_have_one_version_of_each_requirement(python):
  tomllib = pytest.importorskip('tomllib')  # from Python 3.11 on
  where = {'python_version': python, 'python_full_version': f'{python}.9', 'extra': ''}

  def applies(requirement):
    return requirement.marker is None or requirement.marker.evaluate(where)

  lines = (_ROOT / 'constraints.txt').read_text().splitlines()
  pins = [r for r in map(Requirement, lines) if applies(r)]
  versions = {r.name: next(iter(r.specifier)).version for r in pins}
  assert len(versions) == len(pins)
  project = tomllib.loads((_ROOT / 'pyproject.toml').read_text())['project']
  extras = project['optional-dependencies'].values()
  for requirement in map(Requirement, [*project['dependencies'], *itertools.chain(*extras)]):
    if applies(requirement):
      assert requirement.specifier.contains(versions[requirement.name]), requirement


def test_the_extras_that_pages_install_leave_the_clone_in_its_place():
  with open(_ROOT / 'pyproject.toml', encoding='utf-8') as f:
    (table,) = re.findall(r'^\[project.optional-dependencies\]\n(.*?)^\[', f.read(), re.M | re.S)
  extras, n_found = set(re.findall(r'^([\w-]+) = \[', table, re.M)), 0
  for path in [_ROOT / 'README.md', *(_ROOT / 'docs').glob('*.md')]:
    for options, names in re.findall(
      r'pip install (.*?)"\.\[([\w,-]+)\]', path.read_text(encoding='utf-8')
    ):
      n_found += 1
      # Without it pip takes a copy in the place of the clone, which is not what is edited then.
      assert options == '--editable ', path
      assert set(names.split(',')) <= extras, path
  assert n_found > 4
