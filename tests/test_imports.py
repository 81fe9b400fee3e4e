"""The rooms import each other one way: no circle, also not of imports within functions."""

import ast
import os
import pathlib

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
