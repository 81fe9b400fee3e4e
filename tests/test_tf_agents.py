"""Where TF-Agents is installed, it takes our policies and our tasks as its own."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from environment_helpers import TASKS
from test_policies import (
  DETERMINISTIC,
  POLICIES,
  SPECS,
  in_box,
  make_actor,
  states,
  time_step,
)

from brac import saved_model, tf_agents_bridge
from brac.policies import ActorPolicy
from brac.rng import Rng

pytest.importorskip('tf_agents')

from tf_agents.drivers import dynamic_step_driver
from tf_agents.environments import suite_gym, tf_py_environment
from tf_agents.policies import policy_saver, py_tf_eager_policy, tf_policy
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

pytestmark = [
  pytest.mark.filterwarnings('ignore:Encoding a StructuredValue'),
  pytest.mark.filterwarnings('ignore:.*out of date'),
]


def test_the_same_names_are_the_same_classes():
  assert tf_agents_bridge.INSTALLED
  assert issubclass(ActorPolicy, tf_policy.TFPolicy)
  assert tensor_spec.BoundedTensorSpec is tf_agents_bridge.BoundedTensorSpec
  assert ts.TimeStep is tf_agents_bridge.TimeStep


def test_a_program_does_not_wait_for_it(tmp_path):
  flags = [f'--root_dir={tmp_path}', '--env_name=Pendulum-v1', '--n_eval_episodes=0']
  flags += ['--total_train_steps=1', '--gin_bindings=train_eval_online.initial_explore_steps=1']
  run = [sys.executable, '-X', 'importtime', '-m', 'brac.train_online', *flags]
  told = subprocess.run(run, check=True, capture_output=True, text=True).stderr
  assert ' brac.tf_agents_bridge' in told and ' tf_agents' not in told


@pytest.fixture(scope='module')
def pendulum():
  return tf_py_environment.TFPyEnvironment(suite_gym.load('Pendulum-v1'))


@pytest.mark.parametrize('name', POLICIES)
def test_a_driver_runs_a_policy(pendulum, name):
  policy = POLICIES[name](pendulum.observation_spec(), pendulum.action_spec())
  n_steps, s, a = tf.Variable(0), tf.Variable(tf.zeros([1, 3])), tf.Variable(tf.zeros([1, 1]))

  def note(trajectory):
    return [n_steps.assign_add(1), s.assign(trajectory.observation), a.assign(trajectory.action)]

  dynamic_step_driver.DynamicStepDriver(pendulum, policy, [note], num_steps=4).run()
  assert int(n_steps) == 4
  assert in_box(a.numpy(), -2, 2) and np.all(a.numpy() != 0) and np.any(s.numpy() != 0)
  if name == 'mode':
    np.testing.assert_allclose(policy.act(s, Rng(0)), a, rtol=1e-6)


@pytest.mark.parametrize('mode', [True, False])
def test_an_actor_policy_tells_its_distribution(mode):
  actor = make_actor()
  s = states(5)
  distribution = ActorPolicy(*SPECS, actor, mode).distribution(time_step(s)).action
  if mode:
    np.testing.assert_allclose(distribution.mode(), actor(s).mode(), rtol=1e-6)
  else:
    a, log_pi = actor(s).sample(Rng(0))
    np.testing.assert_allclose(distribution.log_prob(a), log_pi, rtol=1e-3)
    assert in_box(distribution.sample(100, seed=1).numpy())


@pytest.mark.parametrize('name', [*POLICIES, 'eps 0', 'gaussian 0'])
def test_an_exported_policy_acts_again(name, tmp_path):
  policy = {**POLICIES, **DETERMINISTIC}[name](*SPECS)
  path = str(tmp_path / 'policy')
  policy_saver.PolicySaver(policy, batch_size=None).save(path)
  exported = tf.saved_model.load(path)
  s = states(5)
  a = exported.action(time_step(s)).action.numpy()
  assert a.shape == (5, 2) and in_box(a)
  if name in DETERMINISTIC:
    np.testing.assert_allclose(a, policy.act(s, Rng(0)), rtol=1e-6)
  elif name == 'sample':
    assert np.any(exported.action(time_step(s)).action.numpy() != a)


@pytest.mark.parametrize('mode', [True, False])
def test_a_policy_that_export_policy_wrote_is_a_policy_of_tf_agents(mode, tmp_path):
  policy = ActorPolicy(*SPECS, make_actor(), mode)
  saved_model.save(policy, tf.float64, str(tmp_path))
  tf_agents_bridge.save_specs(policy, str(tmp_path))
  loaded = py_tf_eager_policy.SavedModelPyTFEagerPolicy(str(tmp_path), load_specs_from_pbtxt=True)
  assert loaded.get_train_step() == -1 and loaded.get_metadata() == {}
  assert len(loaded.variables()) == 4
  s = states(1)[0]
  action = loaded.action(ts.restart(s)).action
  assert action.shape == (2,) and in_box(action)
  if mode:
    np.testing.assert_allclose(action, policy.act(s[None], Rng(0))[0], rtol=1e-6)


@pytest.mark.parametrize('name', TASKS)
def test_suite_gym_loads_our_tasks(name):
  assert type(suite_gym.load(name).gym.unwrapped).__module__.startswith('brac.environments')


def test_suite_gym_keeps_the_discount_at_the_time_limit():
  env = suite_gym.load('HalfCheetah-v2')
  assert env.reset().step_type == ts.StepType.FIRST
  steps = [env.step(np.zeros(6, np.float32)) for _ in range(1000)]
  assert all(step.step_type == ts.StepType.MID for step in steps[:-1])
  assert steps[-1].step_type == ts.StepType.LAST
  assert all(step.discount == 1 for step in steps)
  assert env.step(np.zeros(6, np.float32)).step_type == ts.StepType.FIRST


def test_suite_gym_ends_in_a_terminal_state():
  env = suite_gym.load('Hopper-v2')
  step = env.reset()
  for _ in range(500):
    if step.is_last():
      break
    step = env.step(np.ones(3, np.float32))
  assert step.is_last()
  assert step.discount == 0
