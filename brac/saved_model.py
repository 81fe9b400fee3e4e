"""Policies as SavedModels, which TensorFlow alone loads."""

import logging

import tensorflow as tf

from brac import tf_agents_bridge
from brac.errors import quiet
from brac.rng import ACT, Rng


@quiet(logging.WARNING)  # on names that are none of Python's, and on assets
def save(policy, observation_dtype, folder: str) -> None:
  """Writes a SavedModel of a policy, whether TF-Agents is installed or not.

  Args:
    policy: a `policies.Policy`.
    observation_dtype: of the environment's own observations.
    folder: where it goes.
  """

  def batch_of(spec, dtype=None):
    return tf.TensorSpec([None, *spec.shape], dtype or spec.dtype, f'0/{spec.name}')

  @tf.function(autograph=False)
  def action(time_step, policy_state=()):
    seed = tf.random.uniform([], 0, tf.int32.max, tf.int32)
    a = policy(tf.cast(time_step.observation, tf.float32), Rng(seed, ACT))
    return tf_agents_bridge.PolicyStep(a, policy_state, ())

  spec = policy.time_step_spec
  inputs = tf_agents_bridge.TimeStep(*map(batch_of, spec))
  action.get_concrete_function(inputs)
  inputs = inputs._replace(observation=batch_of(spec.observation, observation_dtype))
  action.get_concrete_function(inputs)

  @tf.function(autograph=False, input_signature=list(inputs))
  def flat_action(*time_step):
    return {'action': action(tf_agents_bridge.TimeStep(*time_step)).action}

  @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.int32, 'batch_size')])
  def get_initial_state(batch_size):
    return ()

  @tf.function(autograph=False, input_signature=[])
  def get_train_step():
    return tf.constant(-1, tf.int64)

  @tf.function(autograph=False, input_signature=[])
  def get_metadata():
    return {}

  module = tf.Module()
  module.action, module.get_initial_state = action, get_initial_state
  module.get_train_step, module.get_metadata = get_train_step, get_metadata
  module.model_variables = policy.variables()
  signatures = {
    'action': flat_action,
    'get_initial_state': tf.function(lambda batch_size: {}, get_initial_state.input_signature),
    'get_train_step': tf.function(lambda: {'int64': get_train_step()}, []),
    'get_metadata': get_metadata,
  }
  tf.saved_model.save(module, folder, signatures)
