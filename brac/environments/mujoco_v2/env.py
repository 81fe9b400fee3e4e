"""The -v2 tasks as single environments of gym."""

import types
from typing import Optional

import gym
import mujoco
import numpy as np

from brac.environments.mujoco_v2.simulation import Simulation
from brac.environments.mujoco_v2.suite import chosen_physics
from brac.environments.mujoco_v2.tasks import TASKS
from brac.errors import UserError


class MujocoEnv(gym.Env):
  """One of the four tasks as a gym 0.23 environment: `gym.make('HalfCheetah-v2')`.

  Has the attributes of gym's class of the same name, and draws pictures, but opens no window.
  Observations are float64. It can be pickled and copied.
  """

  metadata = {'render_modes': ['rgb_array']}

  def __init__(self, task: str):
    """Takes the id of the task, and the rest from `physics`; the backend is always 'mujoco'."""
    chosen = chosen_physics()
    self._simulation = Simulation(TASKS[task], 1, chosen.ant_contact_forces, chosen.n_threads)
    self.frame_skip = TASKS[task].frame_skip
    self.init_qpos = self.model.qpos0.copy()
    self.init_qvel = np.zeros(self.model.nv)
    self.observation_space, self.action_space = self._simulation.spaces()

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

  def render(self, mode: str = 'rgb_array', width: int = 500, height: int = 500) -> np.ndarray:
    """A picture `[height, width, 3]` uint8 of the present state.

    Raises:
      UserError: the mode is another one, or nothing here can draw.
    """
    if mode != 'rgb_array':
      raise UserError(f"there is no window to draw in: render(mode='rgb_array'), not {mode!r}")
    return self._simulation.picture(0, width, height)

  def close(self) -> None:
    """Ends the threads, and frees what draws."""
    self._simulation.close()
