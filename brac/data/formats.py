"""The formats of data, a module each: `read`, `write`, `place` (where it writes), and `ENDINGS`."""

import os
from types import ModuleType
from typing import Optional

from brac.data import d4rl, minari, npz
from brac.errors import UserError, nearest

FORMATS = {'d4rl': d4rl, 'minari': minari, 'npz': npz}


def find(name: Optional[str], path: str) -> ModuleType:
  """A format by its name; by that of a file or a dataset, where it has none.

  Raises:
    UserError: there is no such format.
  """
  if name is None:
    ending = os.path.splitext(path)[1].lower()
    fallback = 'd4rl' if os.path.isfile(path) else 'minari'
    name = next((name for name, form in FORMATS.items() if ending in form.ENDINGS), fallback)
  if name not in FORMATS:
    raise UserError(f'--format {name}: there are {", ".join(FORMATS)}{nearest(name, FORMATS)}')
  return FORMATS[name]
