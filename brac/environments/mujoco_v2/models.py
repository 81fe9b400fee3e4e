"""Models with the physics of MuJoCo 2.1.0, derived from gym's own asset files."""

import os
from xml.etree import ElementTree

import gym
import mujoco
import numpy as np
from absl import logging

_MEASURED_MUJOCO = '3.3.7'  # 3.5 sums contact margins and 4.0 changes free joints


def derive_model(asset: str) -> mujoco.MjModel:
  """The model that MuJoCo 2.1.0 made of one of gym's asset files.

  Today's compiler differs in three ways that are undone here: it refuses global coordinates, it
  refuses numbers such as `0.13/2` (once read as 0.13), and it gives a capsule its exact inertia,
  where that of a cylinder stood until 2.1.2. So the file is made local, and every body gets the old
  inertia as an explicit `inertial`. `settotalmass` then scales masses and inertias alike, as ever.

  Args:
    asset: the file's name in gym's `envs/mujoco/assets`.
  """
  if mujoco.__version__ != _MEASURED_MUJOCO:
    logging.log_first_n(
      logging.WARNING,
      'The physics of the -v2 tasks was measured with mujoco %s; this is %s',
      1,
      _MEASURED_MUJOCO,
      mujoco.__version__,
    )
  path = os.path.join(os.path.dirname(gym.__file__), 'envs', 'mujoco', 'assets', asset)
  root = ElementTree.parse(path).getroot()
  compiler = root.find('compiler')
  if compiler.attrib.pop('coordinate') == 'global':
    for body in root.findall('worldbody/body'):
      _make_local(body, np.zeros(3))
  # Otherwise the compiler would put its own inertias in the place of the explicit ones.
  del compiler.attrib['inertiafromgeom']
  density = float(root.find('default/geom').get('density', 1000))
  geometry = _compile(root)
  for body_id, body in enumerate(root.iter('body'), start=1):
    body.append(_old_inertial(geometry, body_id, density))
  return _compile(root)


def _compile(root: ElementTree.Element) -> mujoco.MjModel:
  return mujoco.MjModel.from_xml_string(ElementTree.tostring(root, encoding='unicode'))


def _numbers(text: str) -> np.ndarray:
  return np.array([float(word.split('/')[0]) for word in text.split()])


def _text(numbers: np.ndarray) -> str:
  return ' '.join(map(repr, numbers.tolist()))


def _make_local(body: ElementTree.Element, parent: np.ndarray) -> None:
  """Restates the positions in `body` relative to the body that they are in; no body is turned."""
  position = _numbers(body.get('pos'))
  body.set('pos', _text(position - parent))
  for child in body:
    if child.tag == 'body':
      _make_local(child, position)
      continue
    for name in ('pos', 'fromto'):
      if name in child.attrib:
        points = _numbers(child.get(name))
        child.set(name, _text(points - np.resize(position, points.shape)))


def _old_inertial(model: mujoco.MjModel, body_id: int, density: float) -> ElementTree.Element:
  """The `inertial` of a body by the rules of MuJoCo 2.1.0, from the geoms of the compiled model."""
  geoms = np.flatnonzero(model.geom_bodyid == body_id)
  masses, inertias = zip(*(_old_mass_and_inertia(model, geom, density) for geom in geoms))
  mass = sum(masses)
  center = masses @ model.geom_pos[geoms] / mass
  offsets = model.geom_pos[geoms] - center
  inertia = sum(inertias) + sum(
    m * (d @ d * np.eye(3) - np.outer(d, d)) for m, d in zip(masses, offsets)
  )
  return ElementTree.Element(
    'inertial',
    mass=repr(float(mass)),
    pos=_text(center),
    fullinertia=_text(inertia[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]),
  )


def _old_mass_and_inertia(
  model: mujoco.MjModel, geom: int, density: float
) -> tuple[float, np.ndarray]:
  """Mass of a sphere or capsule, and inertia `[3, 3]` about its center in the body's axes."""
  radius, half_length = model.geom_size[geom, :2]
  if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_SPHERE:
    mass = density * 4 / 3 * np.pi * radius**3
    moments = np.full(3, 2 / 5 * mass * radius**2)
  else:
    # The old rule for a capsule: a cylinder, one radius longer than the capsule's straight part.
    length = 2 * half_length + radius
    mass = density * np.pi * radius**2 * length
    across = mass * (3 * radius**2 + length**2) / 12
    moments = np.array([across, across, mass * radius**2 / 2])
  axes = np.empty(9)
  mujoco.mju_quat2Mat(axes, model.geom_quat[geom])
  axes = axes.reshape(3, 3)
  return mass, axes * moments @ axes.T
