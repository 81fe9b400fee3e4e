"""TF-Agents, where it is installed: the one module that knows whether it is.

With it, policies are `TFPolicy`s, which its drivers and its `PolicySaver` take. Without it the same
names mean the same to the rest of this package, and need TensorFlow alone. The programs go without
it, for its import takes a second.
"""

import os
from typing import Any, NamedTuple

import tensorflow as tf
from absl import logging
from google.protobuf import text_format

# TF-Agents' class of that name is this one, and this its way to write specs.
from tensorflow.python.framework.tensor_spec import BoundedTensorSpec as BoundedTensorSpec
from tensorflow.python.saved_model import nested_structure_coder

import brac
from brac import files

try:
  if brac.is_a_program:
    raise ModuleNotFoundError(name='tf_agents')
  from tf_agents.policies.tf_policy import TFPolicy
  from tf_agents.trajectories.policy_step import PolicyStep
  from tf_agents.trajectories.time_step import TimeStep, time_step_spec

  import tensorflow_probability as tfp  # isort: skip  (takes seconds, and is for TF-Agents alone)

  INSTALLED = True
except Exception as error:  # an installation that does not fit TensorFlow may raise anything
  INSTALLED = False
  if getattr(error, 'name', None) not in ('tf_agents', 'tensorflow_probability'):
    logging.warning('TF-Agents is there, but does not work: %s', str(error).split('\n')[0])

  class TimeStep(NamedTuple):
    """What a policy is told of an environment: tensors `[B, ...]`, or their specs."""

    step_type: Any
    reward: Any
    discount: Any
    observation: Any

  class PolicyStep(NamedTuple):
    """What a policy answers."""

    action: Any
    state: Any = ()
    info: Any = ()

  def time_step_spec(observation_spec: tf.TensorSpec) -> TimeStep:
    """The specs of a time step of one environment."""
    return TimeStep(
      tf.TensorSpec([], tf.int32, 'step_type'),
      tf.TensorSpec([], tf.float32, 'reward'),
      BoundedTensorSpec([], tf.float32, 0.0, 1.0, 'discount'),
      observation_spec,
    )

  class TFPolicy(tf.Module):
    """What this package needs of TF-Agents' class; `_action` is what a policy says."""

    def __init__(self, time_step_spec: TimeStep, action_spec: BoundedTensorSpec, name: str):
      super().__init__(name)
      self.time_step_spec, self.action_spec = time_step_spec, action_spec

    def action(self, time_step: TimeStep, policy_state: Any = (), seed: Any = None) -> PolicyStep:
      """The actions at a batch of time steps."""
      return self._action(time_step, policy_state, seed)

    def variables(self) -> tuple:
      """The variables that the policy depends on."""
      return super().variables


def deterministic(action: tf.Tensor) -> Any:
  """The distribution, of TensorFlow Probability, of an action that is certain."""
  return tfp.distributions.Deterministic(action)


def tanh_normal(mean: tf.Tensor, std: tf.Tensor, mags: Any, means: Any) -> Any:
  """The distribution, of TensorFlow Probability, of `mags tanh(mean + std ε) + means`."""
  normal = tfp.distributions.MultivariateNormalDiag(mean, std)
  squash = [tfp.bijectors.Shift(means), tfp.bijectors.Scale(mags), tfp.bijectors.Tanh()]
  return tfp.distributions.TransformedDistribution(normal, tfp.bijectors.Chain(squash))


class Trajectory(NamedTuple):
  """What a driver of TF-Agents collects of a step, by the names that it looks for in a file."""

  step_type: Any
  observation: Any
  action: Any
  policy_info: Any
  next_step_type: Any
  reward: Any
  discount: Any


def save_specs(policy: TFPolicy, folder: str) -> None:
  """Puts the specs of a policy beside its SavedModel, where TF-Agents looks for them."""
  step_type, reward, discount, observation = policy.time_step_spec
  specs = {
    'collect_data_spec': Trajectory(
      step_type, observation, policy.action_spec, (), step_type, reward, discount
    ),
    'policy_state_spec': (),
  }
  text = text_format.MessageToString(nested_structure_coder.encode_structure(specs))
  files.write_text(os.path.join(folder, 'policy_specs.pbtxt'), text)
