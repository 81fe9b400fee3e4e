"""Runs a module as if packages were not installed: `run_without.py tf_agents,... MODULE ARGS`."""

import importlib.abc
import runpy
import sys


class _Blocker(importlib.abc.MetaPathFinder):
  def __init__(self, names):
    self._names = names

  def find_spec(self, name, path, target=None):
    if name.partition('.')[0] in self._names:
      raise ModuleNotFoundError(f'No module named {name!r}', name=name)


if __name__ == '__main__':
  names, module, *sys.argv[1:] = sys.argv[1:]
  sys.meta_path.insert(0, _Blocker(names.split(',')))
  runpy.run_module(module, run_name='__main__', alter_sys=True)
