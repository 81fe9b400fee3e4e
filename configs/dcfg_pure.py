"""The paper's `pure`: samples of the partially trained policy alone."""

from brac.data_config import shipped_policy


def get_data_config(env_name, policy_root_dir=None):
  policy = shipped_policy(env_name, policy_root_dir)
  return [['pure', ['load', policy, ['none'], (200, 200)], 1.0]]
