"""The paper's `gaussian1`: 20 % uniform actions, 40 % the trained policy, 40 % it with noise."""

from brac.data_config import shipped_policy


def get_data_config(env_name, policy_root_dir=None):
  policy = shipped_policy(env_name, policy_root_dir)
  return [
    ['randwalk', ['randwalk', '', ['none'], ()], 0.2],
    ['pure', ['load', policy, ['none'], (200, 200)], 0.4],
    ['gaussian1', ['load', policy, ['gaussian', 0.1], (200, 200)], 0.4],
  ]
