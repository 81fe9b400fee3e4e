"""The suite of the -v2 tasks: how they are simulated, and a batch of one of them."""

import os
from collections.abc import Sequence
from typing import NamedTuple, Optional

import gin
from gym.utils import seeding

from brac.environments import gym_suite
from brac.environments.batch import TERMINAL, BatchEnvironment
from brac.environments.mujoco_v2.simulation import Simulation
from brac.environments.mujoco_v2.tasks import TASKS
from brac.errors import UserError, check_bool, check_whole

_BACKENDS = ('mujoco', 'mujoco_py')


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


def chosen_physics() -> Physics:
  """What is bound by gin.

  Raises:
    UserError: it makes no sense.
  """
  # Checked out here because gin adds lines of its own to an error that leaves a configurable.
  chosen = physics()
  if chosen.backend not in _BACKENDS:
    raise UserError(f'physics.backend must be one of {_BACKENDS}, not {chosen.backend!r}')
  check_bool('physics', ant_contact_forces=chosen.ant_contact_forces)
  n_threads = len(os.sched_getaffinity(0)) if chosen.n_threads is None else chosen.n_threads
  return chosen._replace(n_threads=check_whole('physics', 1, n_threads=n_threads))


def ids() -> list[str]:
  """The ids of the tasks."""
  return list(TASKS)


def knows(env_name: str) -> bool:
  """Whether an id is one of the tasks'; looks at `physics` for any, so that it is never idle."""
  chosen_physics()
  return env_name in TASKS


def make(env_name: str, seeds: Sequence[int]) -> BatchEnvironment:
  """Makes a batch of a task, a seed for each row."""
  chosen = chosen_physics()
  if chosen.backend == 'mujoco_py':
    return gym_suite.make(env_name, seeds, entry_point=TASKS[env_name].stock_class, kwargs={})
  return MujocoBatch(env_name, seeds, chosen)


class MujocoBatch(BatchEnvironment):
  """A batch of one of the four tasks, simulated on all cores."""

  def __init__(self, env_name: str, seeds: Sequence[int], chosen: Physics):
    task, n = TASKS[env_name], len(seeds)
    self._simulation = Simulation(task, n, chosen.ant_contact_forces, chosen.n_threads)
    super().__init__(env_name, seeds, *self._simulation.spaces(), task.max_episode_steps)
    self._generators = [seeding.np_random(seed)[0] for seed in seeds]
    self.steps_per_second = 1 / self._simulation.dt

  def picture(self, row, width, height):
    return self._simulation.picture(row, width, height)

  def close(self):
    self._simulation.close()

  def _reset(self, rows):
    for row in rows:
      self._simulation.reset(row, self._generators[row])
    return self._simulation.observe(rows)

  def _step(self, actions, rows):
    observations, rewards, terminals, _ = self._simulation.step(rows, actions)
    return observations, rewards, terminals * TERMINAL

  def _reseed(self, row, seed):
    self._generators[row] = seeding.np_random(seed)[0]

  def _get_rows(self):
    return self._generators, self._simulation.state

  def _set_rows(self, rows):
    self._generators, self._simulation.state = rows
    return []
