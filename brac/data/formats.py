"""The formats that data are read from and written in: a module each, with `read` and `write`."""

import os

from brac.data import d4rl, minari, npz

FORMATS = {'d4rl': d4rl, 'minari': minari, 'npz': npz}


understand = d4rl.understand


def guess(name: str) -> str:
  """The format that a file or a dataset of that name probably has."""
  ending = os.path.splitext(name)[1].lower()
  default = 'd4rl' if os.path.isfile(name) else 'minari'
  return {'.hdf5': 'd4rl', '.h5': 'd4rl', '.npz': 'npz'}.get(ending, default)
