"""Everything works without TF-Agents and TensorFlow Probability; exported policies need neither."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from brac import checkpoints, environments, saved_model
from brac.networks import Actor, Box
from brac.policies import ActorPolicy
from brac.rng import INIT, Rng

_TESTS = os.path.dirname(os.path.abspath(__file__))
_WITHOUT = 'tf_agents,tensorflow_probability'


def run_without(names, module, *args, cwd):
  """Runs a module as if packages were not installed; returns what it printed."""
  env = {**os.environ, 'PYTHONPATH': f'{os.path.dirname(_TESTS)}:{_TESTS}'}
  command = [sys.executable, os.path.join(_TESTS, 'run_without.py'), names, module, *args]
  done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return done


@pytest.fixture(scope='module')
def hopper():
  env = environments.described('Hopper-v2')
  return env.observation_spec, env.action_spec, env.observation_dtype


@pytest.fixture(scope='module')
def actor(hopper):
  return Actor(11, (8,), Box.of(hopper[1]), Rng(1, INIT))


@pytest.fixture(scope='module')
def exported(hopper, actor, tmp_path_factory):
  """What four SavedModels say in a process that has TensorFlow alone, by how they were written."""
  folder = tmp_path_factory.mktemp('exported')
  checkpoints.save(str(folder / 'agent'), policy=actor)
  paths = {}
  for how, mode in (('mode', True), ('sample', False)):
    paths[f'with {how}'] = str(folder / f'with {how}')
    policy = ActorPolicy(*hopper[:2], actor, mode)
    saved_model.save(policy, tf.as_dtype(hopper[2]), paths[f'with {how}'])
    paths[f'without {how}'] = str(folder / f'without {how}')
    run_without(
      *(_WITHOUT, 'brac.export_policy', '--env_name=Hopper-v2', f'--checkpoint={folder}/agent'),
      *(f'--output_dir={paths[f"without {how}"]}', f'--sample={how == "sample"}'),
      cwd=folder,
    )
  run = run_without(_WITHOUT + ',brac', 'load_policies', '11', *paths.values(), cwd=folder)
  answers = json.loads(run.stdout)
  return {how: answers[path] for how, path in paths.items()}


@pytest.mark.parametrize('how', ['with', 'without'])
def test_an_exported_policy_acts_where_tensorflow_is_alone(how, exported, actor):
  answers = exported[f'{how} mode']
  s = np.random.default_rng(0).normal(size=[7, 11]).astype(np.float32)
  for n in (7, 1):
    kinds = [f'action {n} float32', f'action {n} float64', f'again {n}', f'signature {n}']
    for kind in kinds:
      np.testing.assert_allclose(answers[kind], actor(s[:n]).mode(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('how', ['with', 'without'])
def test_an_exported_policy_samples_where_it_should(how, exported):
  answers = exported[f'{how} sample']
  a = [np.array(answers[f'{kind} 7']) for kind in ('again', 'signature')]
  assert np.all(np.abs(a) <= 1) and np.all(a[0] != a[1])


def test_an_exported_policy_is_the_same_whether_tf_agents_was_there(exported):
  for part in ('signatures', 'functions'):
    assert len({json.dumps(answers[part]) for answers in exported.values()}) == 1
  inputs, outputs = exported['with mode']['signatures']['action']
  assert inputs == [
    '0/discount (None,) float32',
    '0/observation (None, 11) float64',
    '0/reward (None,) float32',
    '0/step_type (None,) int32',
  ]
  assert outputs == ['action']
  assert exported['with mode']['functions'] == [
    *('action', 'get_initial_state', 'get_metadata', 'get_train_step')
  ]


def test_data_is_collected_and_an_agent_trained(tmp_path):
  (tmp_path / 'dcfg_random.py').write_text(
    "get_data_config = lambda *_: [['r', ['randinit', '', ['gaussianeps', 0.1, 0.1], (8,)], 1.0]]"
  )
  common = ('--env_name=Pendulum-v1', '--n_eval_episodes=1', '--data_name=random')
  run_without(
    *(_WITHOUT, 'brac.collect_data', *common, '--n_samples=300', f'--root_dir={tmp_path}/data'),
    *(f'--config_dir={tmp_path}', '--config_file=dcfg_random'),
    cwd=tmp_path,
  )
  run_without(
    *(_WITHOUT, 'brac.train_offline', *common, '--agent_name=bcq', '--total_train_steps=2'),
    *(f'--data_root_dir={tmp_path}/data', f'--root_dir={tmp_path}/learn', '--n_train=300'),
    cwd=tmp_path,
  )
  results = tmp_path / 'learn/Pendulum-v1/random/n300/bcq/0/0/results.csv'
  assert results.read_text().startswith('step,main\n2,-')
