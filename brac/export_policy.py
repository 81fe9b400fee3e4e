"""Exports the policy of a checkpoint, as a SavedModel or in ONNX, for programs without this one.

python -m brac.export_policy --checkpoint=.../agent_behavior --output_dir=/tmp/policy
policy = tf.saved_model.load('/tmp/policy'); policy.action(time_step)

`time_step` is TF-Agents' `TimeStep`, or any namedtuple of that name with the fields `step_type`
`[B]` int32, `reward` `[B]` and `discount` `[B]` float32, and `observation` `[B, S]`, float32 or as
the environment has it; the answer's `action` is `[B, A]`. `policy.signatures['action']` takes the
same as `**{'0/observation': ..., ...}`, the observation as the environment has it. What else
TF-Agents' `PolicySaver` writes is there too, but for `distribution`, which nothing could load
without TensorFlow Probability.

python -m brac.export_policy --format=onnx --checkpoint=.../agent --output_dir=/tmp/policy

writes `mode.onnx`, `sample.onnx`, where the checkpoint has critics `max_q.onnx`, and `policy.json`,
which says the shapes, the ranges and the noise: see `onnx_model`.
"""

import importlib
import os

from absl import flags

from brac import programs

FLAGS = flags.FLAGS

programs.define_gin_flags()  # for the order of Dict observations, and physics
flags.DEFINE_string('checkpoint', None, 'The checkpoint, without .index.', required=True)
flags.DEFINE_string('output_dir', None, 'The folder that is made for it.', required=True)
flags.DEFINE_enum('format', 'saved_model', ['saved_model', 'onnx'], "TensorFlow's, or ONNX.")
flags.DEFINE_string('env_name', 'HalfCheetah-v2', 'The gym environment that the policy is for.')
flags.DEFINE_bool(
  'sample',
  False,
  "Whether a SavedModel's actions are sampled; else they are the policy's mode. ONNX has both.",
)


def main(_) -> None:
  import tensorflow as tf

  from brac import checkpoints, environments, policies, policy_loader, saved_model, tf_agents_bridge
  from brac.errors import UserError, blaming
  from brac.networks import Box

  output_dir = programs.folder(FLAGS.output_dir)
  checkpoints.check_path(output_dir)  # a SavedModel keeps its variables as a checkpoint
  if os.path.exists(output_dir):
    raise UserError(f'--output_dir {output_dir} is there already')
  onnx = FLAGS.format == 'onnx'
  if onnx and FLAGS.sample:
    raise UserError('--sample: --format=onnx writes both, mode.onnx and sample.onnx; leave it out')
  with blaming('--format=onnx takes pip install brac[onnx]'):
    onnx_model = importlib.import_module('brac.onnx_model') if onnx else None
  env = environments.described(FLAGS.env_name)
  specs = env.observation_spec, env.action_spec
  path, n_states, box = programs.folder(FLAGS.checkpoint), specs[0].shape[0], Box.of(specs[1])
  actor = policy_loader.load_actor(path, n_states, box, 'policy')
  policy_loader.check_order(path, 'policy')
  critic = policy_loader.load_first_critic(path, n_states, box) if onnx else None
  os.makedirs(output_dir)
  if onnx:
    onnx_model.save(FLAGS.env_name, *specs, actor, critic, output_dir, env.observation_keys)
    return
  policy = policies.ActorPolicy(*specs, actor, mode=not FLAGS.sample)
  try:
    saved_model.save(policy, tf.as_dtype(env.observation_dtype), output_dir)
    tf_agents_bridge.save_specs(policy, output_dir)
  except tf.errors.OpError as error:
    raise UserError(f'cannot write {output_dir}: {str(error).splitlines()[0]}') from error


if __name__ == '__main__':
  programs.run(main, takes_preset=True)
