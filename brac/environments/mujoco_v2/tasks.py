"""What the -v2 tasks add to their physics: start states, observations, rewards, terminal states.

Source: gym 0.23, `gym/envs/mujoco/{half_cheetah,hopper,walker2d,ant}.py`.
"""

import mujoco
import numpy as np

TORSO = 1  # the number of that body in each of the models


class Task:
  """One of them, on arrays of `k` rows, in gym's own order of arithmetic."""

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


class HalfCheetah(Task):
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


class Hopper(Task):
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


class Walker2d(Hopper):
  asset = 'walker2d.xml'
  frame_skip = 4
  stock_class = 'gym.envs.mujoco:Walker2dEnv'

  @staticmethod
  def judge(speed, effort, qpos, qvel, forces):
    height, angle = qpos[:, 1], qpos[:, 2]
    well = (height > 0.8) & (height < 2.0) & (angle > -1.0) & (angle < 1.0)
    return speed + 1.0 - 1e-3 * effort, ~well, {}


class Ant(HalfCheetah):
  asset = 'ant.xml'
  frame_skip = 5
  stock_class = 'gym.envs.mujoco:AntEnv'

  @staticmethod
  def forward_position(data):
    # A step leaves the xpos of its last sub-step behind, not that of the new qpos; gym reads it so.
    return data.xpos[TORSO, :1]

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


TASKS = {
  'HalfCheetah-v2': HalfCheetah,
  'Hopper-v2': Hopper,
  'Walker2d-v2': Walker2d,
  'Ant-v2': Ant,
}
