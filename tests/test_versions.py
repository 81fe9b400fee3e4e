"""What one version of TensorFlow, Python and NumPy wrote is read by the others, and goes on there.

`tests/data/versions/` has what TensorFlow 2.15.1 (Python 3.11, NumPy 1.26) and 2.20.0 (3.12) wrote,
with what it is; `make.sh` there makes it.
"""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from brac import environments, policies, policy_loader, tf_agents_bridge
from brac.agents import frozen
from brac.data import stored
from brac.networks import Box
from brac.rng import Rng

_VERSIONS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data', 'versions')
_CLONE = 'learn/Pendulum-v1/d/n200/bc/0/0/agent_behavior'


@pytest.fixture(params=['2.15.1', '2.20.0'])
def written(request):
  """The folder that a version wrote, and what it said is in there."""
  folder = os.path.join(_VERSIONS, request.param)
  with np.load(os.path.join(folder, 'expected.npz')) as expected:
    return folder, dict(expected)


def test_data_are_the_same_bits(written):
  folder, expected = written
  rows = stored.load(os.path.join(folder, 'data/Pendulum-v1/d/0/data'), 3, 1)
  assert len(rows.s1) == 200
  for name, values in rows._asdict().items():
    np.testing.assert_array_equal(values, expected[name], err_msg=name)
    assert values.dtype == expected[name].dtype


def test_policies_act_as_there(written, tmp_path):
  folder, expected = written
  env = environments.described('Pendulum-v1')
  specs = env.observation_spec, env.action_spec
  s, a = expected['s1'], expected['actions']
  found = {'as a run names it': frozen.load(f'{folder}/{_CLONE}', 'main', *specs)(s, Rng(0))}
  clone = policy_loader.load_clone(f'{folder}/{_CLONE}', 3, Box.of(env.action_spec))
  found['as a clone'] = clone(s).mode()
  exported = tf.saved_model.load(f'{folder}/exported').signatures['action']
  told = {'0/step_type': tf.zeros(200, tf.int32), '0/observation': tf.constant(s)}
  told |= {f'0/{name}': tf.zeros(200) for name in ('reward', 'discount')}
  found['exported'] = exported(**told)['action']
  assert a.std() > 0.01
  for how, actions in found.items():
    np.testing.assert_allclose(actions, a, rtol=1e-5, atol=2e-6, err_msg=how)


def test_what_tf_agents_reads_of_an_export_is_the_same(written, tmp_path):
  folder, _ = written
  env = environments.described('Pendulum-v1')
  policy = policies.RandomPolicy(env.observation_spec, env.action_spec)
  tf_agents_bridge.save_specs(policy, str(tmp_path))
  with open(f'{folder}/exported/policy_specs.pbtxt', encoding='utf-8') as f:
    assert (tmp_path / 'policy_specs.pbtxt').read_text('utf-8') == f.read()


@pytest.mark.parametrize('agent', ['bc', 'sac'])
def test_a_run_goes_on_with_a_warning_that_names_both(agent, written, tmp_path, start):
  folder, _ = written
  shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
  units = {'bc': '((8,),)', 'sac': '(((8,),), 2)'}[agent]
  run = start(
    *('train_offline', '--env_name=Pendulum-v1', '--data_name=d', f'--agent_name={agent}'),
    *('--n_eval_episodes=1', '--n_train=200', '--total_train_steps=8'),
    *('--root_dir=learn', '--data_root_dir=data'),
    '--gin_bindings=train_eval_offline.batch_size=16',
    f'--gin_bindings=train_eval_offline.model_params={units}',
    cwd=tmp_path,
  )
  assert run.wait() == 0, run.stderr
  assert 'going on from step 4' in run.stderr
  then = os.path.basename(folder)
  if then != tf.__version__:
    assert f'tensorflow was {then}, is {tf.__version__}' in run.stderr
  table = tmp_path / f'learn/Pendulum-v1/d/n200/{agent}/0/0/results.csv'
  steps = [line.partition(',')[0] for line in table.read_text().splitlines()]
  assert steps == ['step', '4', '8']
