"""An example to copy: data of your own policy, which `train_online --agent_name=sac` left.

A line reads [name, [ptype, checkpoint, wrapper, hidden_units], proportion]; brac/policy_loader.py
has the ptypes and the wrappers.
"""

import os

from brac.data_config import folder_name

DEFAULT_ROOT = os.path.join(os.path.expanduser('~'), 'tmp', 'offlinerl', 'policies')


def get_data_config(env_name, policy_root_dir=None):
  root = policy_root_dir or DEFAULT_ROOT
  policy = os.path.join(root, folder_name(env_name), 'sac', '0', 'agent_partial_target')
  return [
    ['randwalk', ['randwalk', '', ['none'], ()], 0.2],
    ['policy', ['load', policy, ['none'], (200, 200)], 0.4],
    ['noisy', ['load', policy, ['eps', 0.1], (200, 200)], 0.4],
  ]
