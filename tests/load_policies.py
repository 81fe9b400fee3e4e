"""Loads SavedModels with TensorFlow alone and prints what they do with a batch, as JSON."""

import collections
import json
import sys

import numpy as np
import tensorflow as tf

TimeStep = collections.namedtuple('TimeStep', 'step_type reward discount observation')


def answers(path, n_states):
  policy = tf.saved_model.load(path)
  found = {'signatures': {}, 'functions': []}
  for name, signature in policy.signatures.items():
    inputs = signature.structured_input_signature[1]
    found['signatures'][name] = [
      sorted(f'{spec.name} {spec.shape} {spec.dtype.name}' for spec in inputs.values()),
      sorted(signature.structured_outputs),
    ]
  found['functions'] = sorted(name for name in dir(policy) if name.startswith(('action', 'get_')))
  dtype = policy.signatures['action'].structured_input_signature[1]['arg_0_observation'].dtype
  states = np.random.default_rng(0).normal(size=[7, n_states]).astype(np.float32)
  for n in (7, 1):
    for observations in {tf.float32, dtype}:
      s = tf.cast(states[:n], observations)
      time_step = TimeStep(tf.zeros(n, tf.int32), tf.zeros(n), tf.ones(n), s)
      step = policy.action(time_step)
      assert step.state == () and step.info == ()
      found[f'action {n} {observations.name}'] = step.action.numpy().tolist()
    step = policy.action(time_step._replace(observation=tf.cast(s, tf.float32)), ())
    found[f'again {n}'] = step.action.numpy().tolist()
    flat = {f'0/{name}': values for name, values in time_step._asdict().items()}
    flat['0/observation'] = tf.cast(s, dtype)
    found[f'signature {n}'] = policy.signatures['action'](**flat)['action'].numpy().tolist()
  return found


if __name__ == '__main__':
  n_states, *paths = sys.argv[1:]
  assert 'tf_agents' not in sys.modules
  print(json.dumps({path: answers(path, int(n_states)) for path in paths}))
