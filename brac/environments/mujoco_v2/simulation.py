"""Many simulations of one task side by side, in float64, on all cores."""

import concurrent.futures
from collections.abc import Sequence
from typing import Optional

import gym
import mujoco
import numpy as np

from brac.environments.mujoco_v2.models import derive_model
from brac.environments.mujoco_v2.picture import Camera
from brac.environments.mujoco_v2.tasks import TORSO, Ant, Task
from brac.errors import UserError

# What a later step reads of an MjData, but for the torso's position, which Ant's reward reads late.
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
# The warnings after which MuJoCo goes on from another state, as if nothing were: positions,
# velocities, accelerations and controls that are NaN, infinite or huge.
_UNSTABLE = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADCTRL) + 1)


class Simulation:
  """`n` simulations of one task over one model, in float64.

  All that one step leaves to the next stands in `datas`, which a user may read and write.
  """

  def __init__(self, task: type[Task], n: int, ant_contact_forces: bool, n_threads: int):
    """See `physics` for the two last arguments."""
    self.model = derive_model(task.asset)
    self.datas = [mujoco.MjData(self.model) for _ in range(n)]
    self._task = task
    self._with_forces = task is Ant and ant_contact_forces
    self._n_threads = min(n_threads, n)
    self._hold()

  def _hold(self) -> None:
    """Makes what a copy must make anew: views of the `datas`, threads, what draws."""
    self._forward = _Field([self._task.forward_position(data) for data in self.datas])
    self._ctrl = _Field([data.ctrl for data in self.datas])
    self._qpos = _Field([data.qpos for data in self.datas])
    self._qvel = _Field([data.qvel for data in self.datas])
    self._unstable = _Field([data.warning.number[_UNSTABLE] for data in self.datas])
    self._forces = _Field([data.cfrc_ext.reshape(-1) for data in self.datas])
    self._no_forces = np.zeros([len(self.datas), self.model.nbody * 6])
    # The thread that calls `step` does a share of the work itself.
    self._pool = concurrent.futures.ThreadPoolExecutor(max(1, self._n_threads - 1))
    self._camera: Optional[Camera] = None

  def __getstate__(self):
    return self.model, self.datas, self._task, self._with_forces, self._n_threads

  def __setstate__(self, state):
    self.model, self.datas, self._task, self._with_forces, self._n_threads = state
    self._hold()

  @property
  def dt(self) -> float:
    """Seconds of one step of the environment."""
    return self.model.opt.timestep * self._task.frame_skip

  def spaces(self) -> tuple[gym.spaces.Box, gym.spaces.Box]:
    """gym's observation and action spaces of the task."""
    n_observations = self.observe([0]).shape[1]
    low, high = self.model.actuator_ctrlrange.astype(np.float32).T
    return (
      gym.spaces.Box(-np.inf, np.inf, [n_observations], np.float64),
      gym.spaces.Box(low, high, dtype=np.float32),
    )

  def picture(self, row: int, width: int, height: int) -> np.ndarray:
    """A picture `[height, width, 3]` uint8 of a simulation's present state.

    Raises:
      UserError: nothing here can draw.
    """
    if not self._camera or self._camera.size != (width, height):
      if self._camera:
        self._camera.close()
      self._camera = Camera(self.model, width, height)
    return self._camera.take(self.datas[row])

  def close(self) -> None:
    """Ends the threads, and frees what draws."""
    self._pool.shutdown()
    if self._camera:
      self._camera.close()

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
    """Takes one step with actions `[k, A]`: observations, rewards, terminals and info arrays.

    Raises:
      UserError: a simulation became unstable, where mujoco-py raises an error too.
    """
    # gym sums in the actions' own precision, and goes on in float64.
    effort = np.square(actions).sum(axis=1).astype(np.float64)
    before = self._forward[rows]
    self._ctrl[rows] = actions
    self._simulate([self.datas[row] for row in rows])
    if self._unstable[rows].any():
      raise UserError(
        f'a simulation of {self._task.__name__} is unstable: MuJoCo has numbers that are NaN, '
        'infinite or huge'
      )
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
      state[-3:] = data.xpos[TORSO]
    return states

  @state.setter
  def state(self, states: np.ndarray) -> None:
    for state, data in zip(states, self.datas):
      mujoco.mj_setState(self.model, data, state[:-3], _STATE)
      data.xpos[TORSO] = state[-3:]


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
    numbers = np.arange(width) * (lowest.strides[0] // lowest.itemsize)
    size = offsets.max() + numbers[-1] + 1
    self._memory = np.lib.stride_tricks.as_strided(lowest, [size], [lowest.itemsize])
    self._places = offsets[:, np.newaxis] + numbers

  def __getitem__(self, rows: Sequence[int]) -> np.ndarray:
    return self._memory[self._places[rows]]

  def __setitem__(self, rows: Sequence[int], values: np.ndarray) -> None:
    self._memory[self._places[rows]] = values
