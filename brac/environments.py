"""Environments, many copies side by side: the -v2 MuJoCo tasks, and whatever else gym knows.

`HalfCheetah-v2`, `Hopper-v2`, `Walker2d-v2` and `Ant-v2` run on the maintained `mujoco` bindings
with the physics of gym 0.23 on mujoco-py and MuJoCo 2.1.0. Their models are derived from gym's own
asset files (`derive_model`), their arithmetic repeats gym's to the bit (the `_Task` classes), and
one implementation (`_Simulation`, float64) serves both `make_batch` and, once this module is
imported, `gym.make` and tf_agents' `suite_gym.load`. Any other id runs as gym made it, in a loop.
"""

import concurrent.futures
import contextlib
import copy
import copyreg
import difflib
import importlib
import inspect
import os
import pickle
import types
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional, Union
from xml.etree import ElementTree

import gin
import gym
import mujoco
import numpy as np
import tensorflow as tf
from absl import logging
from gym.utils import seeding
from tf_agents.environments import gym_wrapper
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from brac.errors import UserError, check_bool, check_whole

# How an episode goes on after a step. A time limit says nothing about the state it was reached in,
# so only TERMINAL may cut a bootstrap.
GOES_ON, TERMINAL, TIME_LIMIT = np.arange(3, dtype=np.int8)

_BACKENDS = ('mujoco', 'mujoco_py')
_MEASURED_MUJOCO = '3.3.7'  # 3.5 sums contact margins and 4.0 changes free joints
# Packages that gym's environments need and gym does not install, by where the environments live.
_NEEDED_PACKAGES = {'gym.envs.mujoco': 'mujoco_py', 'gym.envs.box2d': 'Box2D'}
# What a later step reads of an MjData, but for the torso's position, which Ant's reward reads late.
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_TORSO = 1


# --- Choices ------------------------------------------------------------------------------------


class Physics(NamedTuple):
  """What `physics` says; its arguments explain the fields."""

  backend: str
  ant_contact_forces: bool
  n_threads: Optional[int]


@gin.configurable
def physics(
  backend: str = 'mujoco', ant_contact_forces: bool = False, n_threads: Optional[int] = None
) -> Physics:
  """How `HalfCheetah-v2`, `Hopper-v2`, `Walker2d-v2` and `Ant-v2` are simulated.

  Args:
    backend: 'mujoco' for the maintained bindings, or 'mujoco_py' for gym's own classes on an
      installed mujoco-py, which `make_batch` then steps one after another.
    ant_contact_forces: whether Ant's 84 contact numbers, and the contact cost in its reward, are
      the real forces, as under MuJoCo 1.50; from 2.0 on they are zero. For backend 'mujoco'.
    n_threads: threads that step the simulations of a batch, by default one per available core. The
      numbers do not depend on it. For backend 'mujoco'.
  """
  return Physics(backend, ant_contact_forces, n_threads)


def _chosen_physics() -> Physics:
  # Checked out here because gin adds lines of its own to an error that leaves a configurable.
  chosen = physics()
  if chosen.backend not in _BACKENDS:
    raise UserError(f'physics.backend must be one of {_BACKENDS}, not {chosen.backend!r}')
  check_bool('physics', ant_contact_forces=chosen.ant_contact_forces)
  n_threads = len(os.sched_getaffinity(0)) if chosen.n_threads is None else chosen.n_threads
  return chosen._replace(n_threads=check_whole('physics', 1, n_threads=n_threads))


# --- Models -------------------------------------------------------------------------------------


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


# --- Tasks --------------------------------------------------------------------------------------


class _Task:
  """What a -v2 task adds to its physics, on arrays of `k` rows, in gym's own order of arithmetic.

  Source: gym 0.23, `gym/envs/mujoco/{half_cheetah,hopper,walker2d,ant}.py`.
  """

  asset: str
  frame_skip: int
  stock_class: str  # gym's own, on mujoco-py
  max_episode_steps = 1000

  @staticmethod
  def start_noise(rng: np.random.Generator, nq: int, nv: int) -> tuple[np.ndarray, np.ndarray]:
    """What a reset adds to the model's initial `qpos` `[nq]` and `qvel` `[nv]`."""
    raise NotImplementedError

  @staticmethod
  def forward_position(data: mujoco.MjData) -> np.ndarray:
    """The number, as a view `[1]`, whose growth is rewarded."""
    return data.qpos[:1]

  @staticmethod
  def observe(qpos: np.ndarray, qvel: np.ndarray, forces: np.ndarray) -> np.ndarray:
    """Observations `[k, S]` of positions, velocities and clipped contact forces."""
    raise NotImplementedError

  @staticmethod
  def judge(speed, effort, qpos, qvel, forces) -> tuple[np.ndarray, np.ndarray, dict]:
    """Rewards `[k]`, whether the states are terminal `[k]`, and the arrays of gym's info dict.

    Takes forward speeds `[k]`, sums of squared actions `[k]`, and what `observe` takes.
    """
    raise NotImplementedError


class _HalfCheetah(_Task):
  asset = 'half_cheetah.xml'
  frame_skip = 5
  stock_class = 'gym.envs.mujoco:HalfCheetahEnv'

  @staticmethod
  def start_noise(rng, nq, nv):
    return rng.uniform(-0.1, 0.1, nq), rng.standard_normal(nv) * 0.1

  @staticmethod
  def observe(qpos, qvel, forces):
    return np.concatenate([qpos[:, 1:], qvel], axis=1)

  @staticmethod
  def judge(speed, effort, qpos, qvel, forces):
    reward_ctrl = -0.1 * effort
    info = {'reward_run': speed, 'reward_ctrl': reward_ctrl}
    return reward_ctrl + speed, np.zeros(len(speed), bool), info


class _Hopper(_Task):
  asset = 'hopper.xml'
  frame_skip = 4
  stock_class = 'gym.envs.mujoco:HopperEnv'

  @staticmethod
  def start_noise(rng, nq, nv):
    return rng.uniform(-0.005, 0.005, nq), rng.uniform(-0.005, 0.005, nv)

  @staticmethod
  def observe(qpos, qvel, forces):
    return np.concatenate([qpos[:, 1:], np.clip(qvel, -10, 10)], axis=1)

  @staticmethod
  def judge(speed, effort, qpos, qvel, forces):
    state = np.concatenate([qpos, qvel], axis=1)
    well = (
      np.isfinite(state).all(axis=1)
      & (np.abs(state[:, 2:]) < 100).all(axis=1)
      & (qpos[:, 1] > 0.7)
      & (np.abs(qpos[:, 2]) < 0.2)
    )
    return speed + 1.0 - 1e-3 * effort, ~well, {}


class _Walker2d(_Hopper):
  asset = 'walker2d.xml'
  frame_skip = 4
  stock_class = 'gym.envs.mujoco:Walker2dEnv'

  @staticmethod
  def judge(speed, effort, qpos, qvel, forces):
    height, angle = qpos[:, 1], qpos[:, 2]
    well = (height > 0.8) & (height < 2.0) & (angle > -1.0) & (angle < 1.0)
    return speed + 1.0 - 1e-3 * effort, ~well, {}


class _Ant(_HalfCheetah):
  asset = 'ant.xml'
  frame_skip = 5
  stock_class = 'gym.envs.mujoco:AntEnv'

  @staticmethod
  def forward_position(data):
    # A step leaves the xpos of its last sub-step behind, not that of the new qpos; gym reads it so.
    return data.xpos[_TORSO, :1]

  @staticmethod
  def observe(qpos, qvel, forces):
    return np.concatenate([qpos[:, 2:], qvel, forces], axis=1)

  @staticmethod
  def judge(speed, effort, qpos, qvel, forces):
    ctrl_cost = 0.5 * effort
    contact_cost = 0.5 * 1e-3 * np.square(forces).sum(axis=1)
    well = (
      np.isfinite(qpos).all(axis=1)
      & np.isfinite(qvel).all(axis=1)
      & (qpos[:, 2] >= 0.2)
      & (qpos[:, 2] <= 1.0)
    )
    info = {
      'reward_forward': speed,
      'reward_ctrl': -ctrl_cost,
      'reward_contact': -contact_cost,
      'reward_survive': np.ones(len(speed)),
    }
    return speed - ctrl_cost - contact_cost + 1.0, ~well, info


_TASKS = {
  'HalfCheetah-v2': _HalfCheetah,
  'Hopper-v2': _Hopper,
  'Walker2d-v2': _Walker2d,
  'Ant-v2': _Ant,
}


# --- Physics ------------------------------------------------------------------------------------


class _Simulation:
  """`n` simulations of one task over one model, in float64.

  All that one step leaves to the next stands in `datas`, which a user may read and write.
  """

  def __init__(self, task: type[_Task], n: int, chosen: Physics):
    self.model = derive_model(task.asset)
    self.datas = [mujoco.MjData(self.model) for _ in range(n)]
    self._task = task
    self._with_forces = task is _Ant and chosen.ant_contact_forces
    self._n_threads = min(chosen.n_threads, n)
    self._hold()

  def _hold(self) -> None:
    """Makes what a copy must make anew: views of the `datas`, and threads."""
    self._forward = _Field([self._task.forward_position(data) for data in self.datas])
    self._ctrl = _Field([data.ctrl for data in self.datas])
    self._qpos = _Field([data.qpos for data in self.datas])
    self._qvel = _Field([data.qvel for data in self.datas])
    self._forces = _Field([data.cfrc_ext.reshape(-1) for data in self.datas])
    self._no_forces = np.zeros([len(self.datas), self.model.nbody * 6])
    # The thread that calls `step` does a share of the work itself.
    self._pool = concurrent.futures.ThreadPoolExecutor(max(1, self._n_threads - 1))

  def __getstate__(self):
    return self.model, self.datas, self._task, self._with_forces, self._n_threads

  def __setstate__(self, state):
    self.model, self.datas, self._task, self._with_forces, self._n_threads = state
    self._hold()

  @property
  def dt(self) -> float:
    """Seconds of one step of the environment."""
    return self.model.opt.timestep * self._task.frame_skip

  def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest actions, `[A]` float32 each."""
    low, high = self.model.actuator_ctrlrange.astype(np.float32).T
    return low, high

  def reset(self, row: int, rng: np.random.Generator) -> None:
    """Starts an episode as gym does, with noise from `rng`."""
    mujoco.mj_resetData(self.model, self.datas[row])
    qpos_noise, qvel_noise = self._task.start_noise(rng, self.model.nq, self.model.nv)
    self.set_state(row, self.model.qpos0 + qpos_noise, qvel_noise)

  def set_state(self, row: int, qpos: np.ndarray, qvel: np.ndarray) -> None:
    """Puts a simulation into a state and computes what follows from it."""
    data = self.datas[row]
    data.qpos[:] = qpos
    data.qvel[:] = qvel
    # Two things that mj_forward itself did in MuJoCo 2.1.0: it left unit quaternions behind, and it
    # kept the accelerations for the solver to start the next step from.
    mujoco.mj_normalizeQuat(self.model, data.qpos)
    mujoco.mj_forward(self.model, data)
    data.qacc_warmstart[:] = data.qacc
    if self._with_forces:
      mujoco.mj_rnePostConstraint(self.model, data)

  def observe(self, rows: Sequence[int]) -> np.ndarray:
    """Observations `[k, S]` of the present states."""
    return self._task.observe(*self._coordinates(rows))

  def step(
    self, rows: Sequence[int], actions: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    """Takes one step with actions `[k, A]`: observations, rewards, terminals and info arrays."""
    # gym sums in the actions' own precision, and goes on in float64.
    effort = np.square(actions).sum(axis=1).astype(np.float64)
    before = self._forward[rows]
    self._ctrl[rows] = actions
    self._simulate([self.datas[row] for row in rows])
    speed = (self._forward[rows] - before)[:, 0] / self.dt
    coordinates = self._coordinates(rows)
    rewards, terminals, info = self._task.judge(speed, effort, *coordinates)
    return self._task.observe(*coordinates), rewards, terminals, info

  def _simulate(self, datas: Sequence[mujoco.MjData]) -> None:
    k, n_shares = len(datas), min(self._n_threads, len(datas))
    mine, *others = [datas[k * i // n_shares : k * (i + 1) // n_shares] for i in range(n_shares)]
    pending = [self._pool.submit(self._simulate_share, share) for share in others]
    self._simulate_share(mine)
    for share in pending:
      share.result()

  def _simulate_share(self, datas: Sequence[mujoco.MjData]) -> None:
    model, frame_skip, mj_step = self.model, self._task.frame_skip, mujoco.mj_step
    for data in datas:
      mj_step(model, data, frame_skip)
      if self._with_forces:
        mujoco.mj_rnePostConstraint(model, data)

  def _coordinates(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if self._with_forces:
      forces = np.clip(self._forces[rows], -1, 1)
    else:
      forces = self._no_forces[: len(rows)]
    return self._qpos[rows], self._qvel[rows], forces

  @property
  def state(self) -> np.ndarray:
    """Everything that later steps depend on, `[n, .]` float64."""
    states = np.empty([len(self.datas), mujoco.mj_stateSize(self.model, _STATE) + 3])
    for state, data in zip(states, self.datas):
      mujoco.mj_getState(self.model, data, state[:-3], _STATE)
      state[-3:] = data.xpos[_TORSO]
    return states

  @state.setter
  def state(self, states: np.ndarray) -> None:
    for state, data in zip(states, self.datas):
      mujoco.mj_setState(self.model, data, state[:-3], _STATE)
      data.xpos[_TORSO] = state[-3:]


class _Field:
  """The same field `[m]` of `n` MjDatas as one array `[n, m]`, read and written at given rows.

  To visit the small arrays one by one would cost a tenth of HalfCheetah's physics, most of it in
  cache misses. So this looks at all of them through one view of the memory, from the lowest of
  their addresses to the highest, and knows the places of their numbers in it.
  """

  def __init__(self, arrays: Sequence[np.ndarray]):
    """Takes views of the field, of MjDatas that the caller keeps."""
    addresses = np.array([array.ctypes.data for array in arrays])
    lowest, width = arrays[addresses.argmin()], arrays[0].size
    offsets = (addresses - addresses.min()) // lowest.itemsize
    self._memory = np.lib.stride_tricks.as_strided(lowest, [offsets.max() + width])
    self._places = offsets[:, np.newaxis] + np.arange(width)

  def __getitem__(self, rows: Sequence[int]) -> np.ndarray:
    return self._memory[self._places[rows]]

  def __setitem__(self, rows: Sequence[int], values: np.ndarray) -> None:
    self._memory[self._places[rows]] = values


# --- Batches ------------------------------------------------------------------------------------


class BatchEnvironment:
  """`n` copies of one environment, stepped side by side. Made by `make_batch`.

  Nothing resets itself: a row whose episode has ended waits for `reset`.

  Attributes:
    n: how many environments there are.
    observation_spec: of one observation, `[S]` float32.
    action_spec: of one action, `[A]` float32, with a minimum and a maximum for each number.
    max_episode_steps: after how many steps an episode ends by the time limit, or None.
  """

  def __init__(
    self,
    env_name: str,
    n: int,
    observation_space: gym.spaces.Box,
    action_space: gym.spaces.Box,
    max_episode_steps: Optional[int],
  ):
    self.n = n
    self.observation_spec = _spec(observation_space, 'observation')
    self.action_spec = _spec(action_space, 'action')
    self.max_episode_steps = max_episode_steps
    self._env_name = env_name
    self._action_shape = action_space.shape
    self._elapsed = np.zeros(n, np.int64)

  def reset(self, rows: Optional[np.ndarray] = None) -> np.ndarray:
    """Starts new episodes.

    Args:
      rows: indices of the environments, `[k]`, or a mask `[n]`; all of them by default.

    Returns:
      Their first observations, `[k, S]` float32.
    """
    rows = self._indices(rows)
    self._elapsed[rows] = 0
    if not rows.size:
      return np.zeros([0, *self.observation_spec.shape], np.float32)
    return self._reset(rows).astype(np.float32)

  def step(
    self, actions: np.ndarray, rows: Optional[np.ndarray] = None
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Takes one step.

    Args:
      actions: `[k, A]`, one for each of the rows.
      rows: indices of the environments, `[k]`, none twice, or a mask `[n]`; all by default.

    Returns:
      Observations `[k, S]` float32, rewards `[k]` float32, and how the episodes go on, `[k]` int8:
      TERMINAL in a terminal state (at the time limit too), else TIME_LIMIT at it, else GOES_ON.

    Raises:
      ValueError: the actions' shape is another one.
    """
    rows = self._indices(rows)
    # C order, because the order in which a row's float32 squares are added depends on it.
    actions = np.asarray(actions, order='C')
    if actions.shape != (len(rows), *self._action_shape):
      raise ValueError(f'actions {actions.shape} for {len(rows)} rows of {self._action_shape}')
    if not rows.size:
      return self.reset(rows), np.zeros(0, np.float32), np.zeros(0, np.int8)
    self._elapsed[rows] += 1
    late = self._elapsed[rows] >= (self.max_episode_steps or np.inf)
    observations, rewards, ends = self._step(actions, rows)
    ends[late & (ends == GOES_ON)] = TIME_LIMIT
    return observations.astype(np.float32), rewards.astype(np.float32), ends

  @property
  def state(self) -> bytes:
    """Everything that a later step depends on.

    A batch made by the same call and given these bytes goes on with the same bits. They are a
    pickle: take them from no stranger.

    Raises:
      UserError: the environment cannot be saved, or (when set) the state is of another batch.
    """
    with _blaming(f'{self._env_name} cannot be saved'):
      once = pickle.dumps((self._identity(), self._elapsed, self._get_rows()))
    # A pickle also tells which equal parts are one object. Loading settles that, so that a batch
    # that was restored and one that never stopped give the same bytes.
    return pickle.dumps(pickle.loads(once))

  @state.setter
  def state(self, value: bytes) -> None:
    identity, elapsed, rows = pickle.loads(value)
    if identity != self._identity():
      raise UserError(f'the saved environments are {identity}, these are {self._identity()}')
    self._elapsed = elapsed
    self._set_rows(rows)

  def _indices(self, rows: Optional[np.ndarray]) -> np.ndarray:
    return np.arange(self.n)[slice(None) if rows is None else rows]

  def _identity(self) -> str:
    return f'{self.n} x {self._env_name} ({type(self).__name__})'

  def _reset(self, rows: Sequence[int]) -> np.ndarray:
    raise NotImplementedError

  def _step(
    self, actions: np.ndarray, rows: Sequence[int]
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `step`, but in any precision, and without the time limit that is counted there."""
    raise NotImplementedError

  def _get_rows(self) -> Any:
    raise NotImplementedError

  def _set_rows(self, rows: Any) -> None:
    raise NotImplementedError


def _spec(space: gym.spaces.Box, name: str) -> tensor_spec.BoundedTensorSpec:
  return tensor_spec.BoundedTensorSpec(space.shape, tf.float32, space.low, space.high, name)


def row_seeds(seed: int, n: int) -> list[int]:
  """The seed of each environment of a batch, as `gym.Env.reset` takes it."""
  if seed < 0:
    raise UserError(f'seed must be 0 or more, not {seed}')
  return [int(np.random.SeedSequence((seed, row)).generate_state(1)[0]) for row in range(n)]


class MujocoBatch(BatchEnvironment):
  """A batch of one of the four tasks, simulated on all cores."""

  def __init__(self, env_name: str, seeds: Sequence[int], chosen: Physics):
    task = _TASKS[env_name]
    self._simulation = _Simulation(task, len(seeds), chosen)
    spaces = _spaces(self._simulation)
    super().__init__(env_name, len(seeds), *spaces, task.max_episode_steps)
    self._generators = [seeding.np_random(seed)[0] for seed in seeds]

  def _reset(self, rows):
    for row in rows:
      self._simulation.reset(row, self._generators[row])
    return self._simulation.observe(rows)

  def _step(self, actions, rows):
    observations, rewards, terminals, _ = self._simulation.step(rows, actions)
    return observations, rewards, terminals * TERMINAL

  def _get_rows(self):
    return self._generators, self._simulation.state

  def _set_rows(self, rows):
    self._generators, self._simulation.state = rows


def _spaces(simulation: _Simulation) -> tuple[gym.spaces.Box, gym.spaces.Box]:
  """gym's observation and action spaces of a task."""
  n_observations = simulation.observe([0]).shape[1]
  low, high = simulation.action_bounds()
  return (
    gym.spaces.Box(-np.inf, np.inf, [n_observations], np.float64),
    gym.spaces.Box(low, high, dtype=np.float32),
  )


class GymBatch(BatchEnvironment):
  """A batch of any gym environment whose spaces are flat boxes, in a Python loop."""

  def __init__(self, spec: gym.envs.registration.EnvSpec, seeds: Sequence[int]):
    n = len(seeds)
    spec = copy.copy(spec)
    max_episode_steps = spec.max_episode_steps
    # gym's own TimeLimit would end an episode as a terminal state does.
    spec.max_episode_steps = None
    self._envs = [_make_gym(spec) for _ in range(n)]
    env = self._envs[0]
    _check_boxes(spec.id, env.observation_space, env.action_space)
    super().__init__(spec.id, n, env.observation_space, env.action_space, max_episode_steps)
    # A row's seed serves its first reset; its generator lives on from there.
    self._seeds: list[Optional[int]] = list(seeds)
    # An EzPickle pickles how it was made and not how it is. To save such a row is to note the
    # random state before its reset and the actions since, to restore it is to do the same again.
    self._replays = isinstance(env.unwrapped, gym.utils.EzPickle)
    self._notes: list[Optional[tuple[Any, list[list[float]]]]] = [None] * n

  def _reset(self, rows):
    with _blaming(f'{self._env_name} cannot be reset'):
      return self._checked([self._reset_row(row) for row in rows])

  def _reset_row(self, row: int) -> np.ndarray:
    env, seed = self._envs[row], self._seeds[row]
    if self._replays:
      start = copy.deepcopy(env.unwrapped.np_random) if seed is None else seed
      self._notes[row] = start, []
    if seed is None:
      return env.reset()
    self._seeds[row] = None
    if 'seed' in inspect.signature(env.unwrapped.reset).parameters:
      return env.reset(seed=seed)
    env.seed(seed)
    return env.reset()

  def _step(self, actions, rows):
    observations, rewards, ends = [], [], []
    with _blaming(f'{self._env_name} cannot be stepped'):
      for row, action in zip(rows, actions.astype(np.float32)):
        observation, reward, done, info = self._envs[row].step(action)
        if self._replays:
          self._notes[row][1].append(action.tolist())
        observations.append(observation)
        rewards.append(float(reward))
        # An environment that counts for itself says so as gym's wrapper does.
        end = TIME_LIMIT if info.get('TimeLimit.truncated', False) else TERMINAL
        ends.append(end if done else GOES_ON)
      return self._checked(observations), _finite(rewards, 'a reward'), np.array(ends)

  def _checked(self, observations: Sequence[np.ndarray]) -> np.ndarray:
    stacked = np.stack(observations)
    if stacked.shape[1:] != self.observation_spec.shape:
      shapes = f'{list(stacked.shape[1:])}, not {list(self.observation_spec.shape)}'
      raise ValueError(f'it gave observations of shape {shapes}')
    return _finite(stacked, 'an observation')

  def _get_rows(self):
    return self._seeds, self._notes if self._replays else self._envs

  def _set_rows(self, rows):
    self._seeds, saved = rows
    if not self._replays:
      self._envs = saved
      return
    for row, note in enumerate(saved):
      if note is not None:
        self._replay(row, *note)

  def _replay(self, row: int, start: Any, actions: list[list[float]]) -> None:
    if isinstance(start, int):
      self._seeds[row] = start
    else:
      self._envs[row].unwrapped.np_random = start
    self._reset_row(row)
    for action in actions:
      self._step(np.array([action], np.float32), [row])


def _finite(values: Sequence, what: str) -> np.ndarray:
  """The values as float32, in which datasets have them; raises where one is not finite there."""
  with np.errstate(over='ignore'):
    values = np.asarray(values).astype(np.float32)
  if not np.isfinite(values).all():
    raise ValueError(f'it gave {what} that is not finite')
  return values


@contextlib.contextmanager
def _blaming(what: str) -> Iterator[None]:
  """Makes one line that begins with `what` of anything that a stranger's code raises."""
  try:
    yield
  except (Exception, SystemExit) as error:
    first = str(error).strip().split('\n')[0]
    kind = '' if type(error) is ValueError else type(error).__name__  # which says little
    raise UserError(': '.join(filter(None, (what, kind, first)))) from error


def _make_gym(spec: gym.envs.registration.EnvSpec) -> gym.Env:
  """Makes one environment, or says in one line why that cannot be done here."""
  with _blaming(f'{spec.id} cannot be made here'):
    for module, package in _NEEDED_PACKAGES.items():
      if str(spec.entry_point).startswith(module):
        importlib.import_module(package)
    return spec.make()


def _check_boxes(env_name: str, observations: gym.Space, actions: gym.Space) -> None:
  box = gym.spaces.Box
  if not isinstance(observations, box) or len(observations.shape) != 1:
    raise UserError(f'{env_name} observes a {observations}; needed is a flat Box, of one dimension')
  if (
    not isinstance(actions, box)
    or len(actions.shape) != 1
    or actions.dtype.kind != 'f'
    or not actions.is_bounded()
    or not actions.shape[0]
    or not (actions.low < actions.high).all()
  ):
    raise UserError(
      f'{env_name} acts in a {actions}; needed is a flat Box of floats with bounds, low below high'
    )


def make_batch(env_name: str, n: int, seed: Union[int, Sequence[int]]) -> BatchEnvironment:
  """Makes `n` copies of an environment.

  Row i draws its random numbers from `row_seeds(seed, n)[i]` on, through all of its episodes, as a
  gym environment does whose first reset is given that seed. See `physics` for what can be chosen.

  Args:
    env_name: the id of one of the four tasks, or any other that gym knows.
    n: how many, from 1 up.
    seed: 0 or more, or one for each row. Equal seeds give equal bits.

  Raises:
    UserError: the id is unknown, its dependencies are missing, or it has spaces of another kind
      than flat boxes, the actions' with bounds.
  """
  seeds = row_seeds(seed, n) if np.isscalar(seed) else list(seed)
  chosen = _chosen_physics()
  if env_name in _TASKS and chosen.backend == 'mujoco':
    return MujocoBatch(env_name, seeds, chosen)
  return GymBatch(_find_spec(env_name), seeds)


def _find_spec(env_name: str) -> gym.envs.registration.EnvSpec:
  module, colon, _ = env_name.partition(':')
  if colon:  # gym imports it too, but says less where it fails
    with _blaming(f'unknown environment {env_name!r}'):
      importlib.import_module(module)
  try:
    spec = gym.spec(env_name)
  except gym.error.Error:
    raise UserError(
      f'unknown environment {env_name!r}; the nearest known is {_nearest_id(env_name)!r}'
    ) from None
  if env_name in _TASKS:
    spec = copy.copy(spec)
    spec.entry_point, spec.kwargs = _TASKS[env_name].stock_class, {}
  return spec


def _nearest_id(env_name: str) -> str:
  def likeness(known):
    return difflib.SequenceMatcher(None, env_name.lower(), known.lower()).ratio()

  return max(gym.envs.registry.env_specs, key=likeness)


# --- Single environments, for gym and tf_agents ---------------------------------------------------


class MujocoEnv(gym.Env):
  """One of the four tasks as a gym 0.23 environment: `gym.make('HalfCheetah-v2')`.

  Has the attributes of gym's class of the same name that do not draw pictures. Observations are
  float64. It can be pickled and copied.
  """

  def __init__(self, task: str):
    """Takes the id of the task, and the rest from `physics`; the backend is always 'mujoco'."""
    self._simulation = _Simulation(_TASKS[task], 1, _chosen_physics())
    self.frame_skip = _TASKS[task].frame_skip
    self.init_qpos = self.model.qpos0.copy()
    self.init_qvel = np.zeros(self.model.nv)
    self.observation_space, self.action_space = _spaces(self._simulation)

  @property
  def model(self) -> mujoco.MjModel:
    """MuJoCo's model."""
    return self._simulation.model

  @property
  def data(self) -> mujoco.MjData:
    """MuJoCo's state of it, to be read and written."""
    return self._simulation.datas[0]

  @property
  def sim(self) -> types.SimpleNamespace:
    """What mujoco-py calls a simulation: `model` and `data`."""
    return types.SimpleNamespace(model=self.model, data=self.data)

  @property
  def dt(self) -> float:
    """Seconds of one step."""
    return self._simulation.dt

  def reset(
    self, *, seed: Optional[int] = None, return_info: bool = False, options: Optional[dict] = None
  ):
    """Starts an episode; returns an observation `[S]`, with an empty dict if `return_info`."""
    super().reset(seed=seed)
    self._simulation.reset(0, self.np_random)
    observation = self._simulation.observe([0])[0]
    return (observation, {}) if return_info else observation

  def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, dict]:
    """Takes an action `[A]`; returns an observation `[S]`, the reward, whether it ends, and info.

    Raises:
      ValueError: the action's shape is another one.
    """
    action = np.asarray(action)
    if action.shape != self.action_space.shape:
      raise ValueError(f'an action of shape {action.shape}, not {self.action_space.shape}')
    observations, rewards, terminals, info = self._simulation.step([0], action[np.newaxis])
    info = {name: values[0] for name, values in info.items()}
    return observations[0], rewards[0], bool(terminals[0]), info

  def set_state(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
    """Puts the simulation into a state: positions `[nq]` and velocities `[nv]`."""
    assert qpos.shape == (self.model.nq,) and qvel.shape == (self.model.nv,)
    self._simulation.set_state(0, qpos, qvel)

  def state_vector(self) -> np.ndarray:
    """Positions and velocities, `[nq + nv]`."""
    return np.concatenate([self.data.qpos, self.data.qvel])

  def get_body_com(self, body_name: str) -> np.ndarray:
    """The position `[3]` of a body's frame, as of the last sub-step."""
    return self.data.body(body_name).xpos


def _register() -> None:
  """Puts `MujocoEnv` in the place of the four classes that need mujoco-py."""
  for name in _TASKS:
    spec = gym.spec(name)
    spec.entry_point, spec.kwargs = f'{__name__}:MujocoEnv', {'task': name}


def _keep_discounts() -> None:
  """Makes `suite_gym.load` of the four tasks keep discount 1 at the time limit.

  `gym.make` and `suite_gym.load` call the same `spec.make()`, so both get gym's TimeLimit, whose
  `done` tf_agents' GymWrapper takes for a terminal state. The info dict tells the two apart. All
  other environments stay as tf_agents has them.
  """
  plain_step = gym_wrapper.GymWrapper._step

  def step(self, action):
    time_step = plain_step(self, action)
    ours = isinstance(getattr(self.gym, 'unwrapped', None), MujocoEnv)
    if ours and self.get_info().get('TimeLimit.truncated', False):
      return ts.truncation(time_step.observation, time_step.reward, self._discount)
    return time_step

  gym_wrapper.GymWrapper._step = step


def _restore_generator(state: dict) -> seeding.RandomNumberGenerator:
  rng, _ = seeding.np_random(0)
  rng.bit_generator.state = state
  return rng


# gym 0.23's own way to pickle its generator fails with numpy from 1.24 on.
copyreg.pickle(
  seeding.RandomNumberGenerator, lambda rng: (_restore_generator, (rng.bit_generator.state,))
)
_register()
_keep_discounts()
