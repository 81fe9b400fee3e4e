"""The rooms import each other one way; what `import brac` changes in others it does at any time."""

import ast
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parent.parent


def imports():
  """The modules of the package, and which of them each imports."""
  paths = {
    '.'.join(path.relative_to(_ROOT).with_suffix('').parts).removesuffix('.__init__'): path
    for path in (_ROOT / 'brac').rglob('*.py')
  }
  found = {}
  for module, path in paths.items():
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
      if isinstance(node, ast.Import):
        names |= {alias.name for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        whole = {f'{node.module}.{alias.name}' for alias in node.names}
        names |= {name if name in paths else node.module for name in whole}
    found[module] = names & paths.keys() - {module}
  return found


def test_no_module_is_imported_by_what_it_imports():
  left = imports()
  assert len(left) > 30 and 'brac.errors' in left['brac.gin_config']
  while True:  # what imports nothing that is left goes, until nothing can
    leaves = [module for module, names in left.items() if not names & left.keys()]
    if not leaves:
      break
    for module in leaves:
      del left[module]
  assert not left, 'a circle: ' + os.linesep.join(f'{m} imports {n}' for m, n in left.items())


_PATCHED = {
  'gym': "gym.spec('Hopper-v2').entry_point.startswith('brac.')",
  'tf_agents.environments.gym_wrapper': (
    "tf_agents.environments.gym_wrapper.GymWrapper._step.__module__ == 'brac.patches'"
  ),
}


@pytest.mark.parametrize('asks', [True, False])
@pytest.mark.parametrize('name', _PATCHED)
def test_what_is_patched_is_so_though_somebody_asked_whether_it_is_there(name, asks):
  if importlib.util.find_spec(name.partition('.')[0]) is None:
    pytest.skip(f'no package {name.partition(".")[0]}')
  ask = f'importlib.util.find_spec({name!r}); ' * (2 * asks)
  code = f'import importlib.util, brac; {ask}import {name}; assert {_PATCHED[name]}'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
