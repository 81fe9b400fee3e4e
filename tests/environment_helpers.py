"""What the tests of environments do with batches of them."""

import ctypes.util

import gym
import numpy as np
import odd_environments as odd_environments
import pytest

from brac.environments import GOES_ON
from brac.errors import UserError

TASKS = ('HalfCheetah-v2', 'Hopper-v2', 'Walker2d-v2', 'Ant-v2')
ANY = (*TASKS, 'Pendulum-v1', 'TestEzPendulum-v0')

CAN_DRAW = any(map(ctypes.util.find_library, ('EGL', 'OSMesa')))  # where MuJoCo simulates
needs_library = pytest.mark.skipif(not CAN_DRAW, reason='neither libEGL nor libOSMesa')


def random_actions(batch, n_steps, seed=0):
  """Actions `[n_steps, n, A]`, drawn uniformly."""
  spec = batch.action_spec
  shape = [n_steps, batch.n, *spec.shape]
  return np.random.default_rng(seed).uniform(spec.minimum, spec.maximum, shape).astype(np.float32)


def roll(batch, actions):
  """Steps and resets what ends; returns all observations, rewards and ends as bytes."""
  seen = []
  for step_actions in actions:
    observations, rewards, ends = batch.step(step_actions)
    over = np.flatnonzero(ends != GOES_ON)
    seen += [observations.copy(), rewards, ends, batch.reset(over)]
  return b''.join(values.tobytes() for values in seen)


def single_env(name):
  return gym.make(name).unwrapped


def assert_user_error(words, function, *args):
  with pytest.raises(UserError) as caught:
    function(*args)
  message = str(caught.value)
  assert '\n' not in message
  for word in words:
    assert word in message
