"""Exports the actor of a checkpoint as a SavedModel, which TensorFlow alone loads.

python -m brac.export_policy --checkpoint=.../agent_behavior --output_dir=/tmp/policy
policy = tf.saved_model.load('/tmp/policy'); policy.action(time_step)

`time_step` is TF-Agents' `TimeStep`, or any namedtuple of that name with the fields `step_type`
`[B]` int32, `reward` `[B]` and `discount` `[B]` float32, and `observation` `[B, S]`, float32 or as
the environment has it; the answer's `action` is `[B, A]`. `policy.signatures['action']` takes the
same as `**{'0/observation': ..., ...}`, the observation as the environment has it. What else
TF-Agents' `PolicySaver` writes is there too, but for `distribution`, which nothing could load
without TensorFlow Probability.
"""

import os

from absl import flags

from brac import programs

FLAGS = flags.FLAGS

flags.DEFINE_string('checkpoint', None, 'The checkpoint, without .index.', required=True)
flags.DEFINE_string('output_dir', None, 'Where the SavedModel goes.', required=True)
flags.DEFINE_string('env_name', 'HalfCheetah-v2', 'The gym environment that the policy is for.')
flags.DEFINE_bool('sample', False, "Whether actions are sampled; else they are the policy's mode.")


def main() -> None:
  import tensorflow as tf

  from brac import checkpoints, environments, policies, policy_loader, saved_model, tf_agents_bridge
  from brac.errors import UserError
  from brac.networks import Box

  output_dir = programs.folder(FLAGS.output_dir)
  checkpoints.check_path(output_dir)  # a SavedModel keeps its variables as a checkpoint
  if os.path.exists(output_dir):
    raise UserError(f'--output_dir {output_dir} is there already')
  env = environments.described(FLAGS.env_name)
  specs = env.observation_spec, env.action_spec
  actor = policy_loader.load_actor(
    programs.folder(FLAGS.checkpoint), specs[0].shape[0], Box.of(specs[1]), 'policy'
  )
  policy = policies.ActorPolicy(*specs, actor, mode=not FLAGS.sample)
  os.makedirs(output_dir)
  try:
    saved_model.save(policy, tf.as_dtype(env.observation_dtype), output_dir)
    tf_agents_bridge.save_specs(policy, output_dir)
  except tf.errors.OpError as error:
    raise UserError(f'cannot write {output_dir}: {str(error).splitlines()[0]}') from error


if __name__ == '__main__':
  programs.run(main)
