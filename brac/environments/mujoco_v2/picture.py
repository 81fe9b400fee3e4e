"""Pictures of a simulation, on machines with a screen and without."""

import atexit
import contextlib
import copy
import functools
import importlib
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator

import mujoco
import numpy as np

from brac import patches
from brac.environments.mujoco_v2.tasks import TORSO
from brac.errors import UserError, blaming

_LIBRARIES = 'egl', 'osmesa'  # that draw without a screen, by their names in MUJOCO_GL
_TRY = """
from mujoco.gl_context import GLContext
GLContext._context = None  # for the same as in _Renderer
GLContext(16, 16).free()
"""


class Camera:
  """Takes pictures of one model from the camera that its file calls `track`."""

  def __init__(self, model: mujoco.MjModel, width: int, height: int):
    """Takes the pictures' size in pixels.

    Raises:
      UserError: nothing here can draw.
    """
    if patches.tensorflow_shares_symbols():
      raise UserError('no picture can be drawn here: import brac before tensorflow')
    self.size = width, height
    self._model = copy.copy(model)
    self._model.vis.global_.offwidth, self._model.vis.global_.offheight = self.size
    with blaming('no picture can be drawn here, which takes libEGL or libOSMesa'):
      with chosen_library() as failure:
        if failure:
          raise ValueError(failure)
        importlib.reload(mujoco.gl_context)  # which looked at MUJOCO_GL when it was imported
      mujoco.gl_context.GLContext._context = None  # for the same as in _Renderer
      self._renderer = _Renderer(self._model, height, width)
    atexit.register(_close, weakref.ref(self))  # before EGL ends, after which it would fail

  def take(self, data: mujoco.MjData) -> np.ndarray:
    """A picture `[height, width, 3]` uint8 of a state."""
    data = copy.copy(data)  # whose positions of bodies may be of a step before
    mujoco.mj_kinematics(self._model, data)
    mujoco.mj_comPos(self._model, data)
    mujoco.mj_camlight(self._model, data)
    self._renderer.update_scene(data, 'track')
    self._move_floor(data.xpos[TORSO, :2])
    return self._renderer.render()

  def _move_floor(self, place: np.ndarray) -> None:
    """Takes the floor along, by whole tiles: it ends 40 m away, and HalfCheetah runs further."""
    scene = self._renderer.scene
    for geom in scene.geoms[: scene.ngeom]:
      if geom.type == mujoco.mjtGeom.mjGEOM_PLANE:
        tile = 2 * geom.size[:2] / self._model.mat_texrepeat[geom.matid]
        geom.pos[:2] += np.round(place / tile) * tile

  def close(self) -> None:
    self._renderer.close()


def _close(camera: weakref.ref) -> None:
  if camera():
    camera().close()


class _Renderer(mujoco.Renderer):
  """One which, where it could not be made, is deleted without a word of what it has not yet."""

  _gl_context = _mjr_context = None


@contextlib.contextmanager
def chosen_library() -> Iterator[str]:
  """Chooses what draws where there is no screen, and leaves no trace for other programs.

  Gives nothing, or why neither library works.
  """
  if os.environ.get('DISPLAY') or 'MUJOCO_GL' in os.environ:
    yield ''
    return
  failures = _failures()
  works = len(failures) < len(_LIBRARIES)
  os.environ['MUJOCO_GL'] = _LIBRARIES[len(failures) if works else 0]
  try:
    yield '' if works else '; '.join(failures)
  finally:
    del os.environ['MUJOCO_GL']


@functools.cache
def _failures() -> list[str]:
  """Why the libraries that need no screen do not work, up to the first that does."""
  failures = []
  for library in _LIBRARIES:
    # In a process of its own: where libEGL is loaded once MuJoCo draws with no other.
    env = {**os.environ, 'MUJOCO_GL': library}
    tried = subprocess.run([sys.executable, '-c', _TRY], env=env, capture_output=True, text=True)
    if tried.returncode == 0:
      break
    failures.append(': '.join([library, *tried.stderr.splitlines()[-1:]]))
  return failures
