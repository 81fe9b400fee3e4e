"""Exports the actor of a checkpoint as a SavedModel of a TF-Agents policy.

python -m brac.export_policy --checkpoint=.../agent_behavior --output_dir=/tmp/policy
policy = tf.saved_model.load('/tmp/policy'); policy.action(time_step)
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
  from tf_agents.policies import policy_saver

  from brac import checkpoints, environments, policies, policy_loader
  from brac.errors import UserError
  from brac.networks import Box

  output_dir = programs.folder(FLAGS.output_dir)
  checkpoints.check_path(output_dir)  # a SavedModel keeps its variables as a checkpoint
  if os.path.exists(output_dir):
    raise UserError(f'--output_dir {output_dir} is there already')
  env = environments.make_batch(FLAGS.env_name, 1, seed=0)
  specs = env.observation_spec, env.action_spec
  actor = policy_loader.load_actor(
    programs.folder(FLAGS.checkpoint), specs[0].shape[0], Box.of(specs[1]), 'policy'
  )
  policy = policies.ActorPolicy(*specs, actor, mode=not FLAGS.sample)
  os.makedirs(output_dir)
  try:
    policy_saver.PolicySaver(policy).save(output_dir)
  except tf.errors.OpError as error:
    raise UserError(f'cannot write {output_dir}: {str(error).splitlines()[0]}') from error


if __name__ == '__main__':
  programs.run(main)
