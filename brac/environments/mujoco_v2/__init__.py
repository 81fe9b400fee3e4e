"""`HalfCheetah-v2`, `Hopper-v2`, `Walker2d-v2`, `Ant-v2` on the maintained `mujoco` bindings.

Their physics is that of gym 0.23 on mujoco-py and MuJoCo 2.1.0: the models are derived from gym's
own asset files (`models`), the arithmetic repeats gym's to the bit (`tasks`), and one float64
implementation (`simulation`) serves `make_batch` as well as `gym.make` (`env`).
"""

import os

from brac.errors import blaming

with blaming(f'mujoco cannot be imported (MUJOCO_GL={os.environ.get("MUJOCO_GL", "")})'):
  import mujoco as mujoco  # which loads what MUJOCO_GL names, whether or not anything is drawn

from brac.environments.mujoco_v2.env import MujocoEnv as MujocoEnv
from brac.environments.mujoco_v2.suite import ids as ids
from brac.environments.mujoco_v2.suite import knows as knows
from brac.environments.mujoco_v2.suite import make as make
from brac.environments.mujoco_v2.suite import physics as physics
