"""Exports the policy of a checkpoint, as a SavedModel or in ONNX, for programs without this one.

python -m brac.export_policy --checkpoint=.../agent_behavior --output_dir=/tmp/policy
policy = tf.saved_model.load('/tmp/policy'); policy.action(time_step)

`time_step` is TF-Agents' `TimeStep`, or any namedtuple of that name with the fields `step_type`
`[B]` int32, `reward` `[B]` and `discount` `[B]` float32, and `observation` `[B, S]`, float32 or of
the environment's own type; the answer's `action` is `[B, A]`. `policy.signatures['action']` takes
the same as `**{'0/observation': ..., ...}`, the observation of the environment's type. What else
TF-Agents' `PolicySaver` writes is there too, but for `distribution`, which nothing could load
without TensorFlow Probability. Where observations are Dicts, `observation_parts.json` says in which
order they are to be concatenated, and how wide each part is.

python -m brac.export_policy --format=onnx --checkpoint=.../agent --output_dir=/tmp/policy

writes `mode.onnx`, `sample.onnx`, where the checkpoint has critics `max_q.onnx` (of bcq `main.onnx`
alone), and `policy.json`, which says the shapes, the ranges and the noise: see `onnx_model`.
"""

import importlib
import json
import os

from absl import flags, logging

from brac import gin_config, programs

FLAGS = flags.FLAGS

programs.define_gin_flags()  # for the order of Dict observations, and physics
flags.DEFINE_string('checkpoint', None, 'The checkpoint, without .index.', required=True)
flags.DEFINE_string('output_dir', None, 'The folder that is made for it.', required=True)
flags.DEFINE_enum('format', 'saved_model', ['saved_model', 'onnx'], "TensorFlow's, or ONNX.")
flags.DEFINE_string('env_name', 'HalfCheetah-v2', 'The gym or gymnasium environment it is for.')
flags.DEFINE_string(
  'policy',
  None,
  'Which policy a SavedModel is of: main, by default, or another that its agent is evaluated by, '
  'as max_q; or of an actor a sample. ONNX has all.',
)
flags.DEFINE_bool('sample', False, 'The same as --policy=sample.')


def main(_) -> None:
  import tensorflow as tf

  from brac import checkpoints, environments, files, operative, saved_model, tf_agents_bridge
  from brac.agents import frozen
  from brac.errors import UserError, blaming

  output_dir = programs.folder(FLAGS.output_dir)
  checkpoints.check_path(output_dir)  # a SavedModel keeps its variables as a checkpoint
  if os.path.exists(output_dir):
    raise UserError(f'--output_dir {output_dir} is there already')
  onnx = FLAGS.format == 'onnx'
  chosen = FLAGS.policy or ('sample' if FLAGS.sample else None)
  if onnx and chosen:
    flag = '--policy' if FLAGS.policy else '--sample'
    raise UserError(f'{flag}: --format=onnx writes a file of each policy; leave it out')
  if FLAGS.sample and chosen != 'sample':
    raise UserError(f'--sample and --policy={chosen} are two policies')
  with blaming('--format=onnx takes pip install brac[onnx]'):
    onnx_model = importlib.import_module('brac.onnx_model') if onnx else None
  operative.warn_of_idle_bindings(*gin_config.OF_ENVIRONMENTS)
  env = environments.described(FLAGS.env_name)
  path, specs = programs.folder(FLAGS.checkpoint), (env.observation_spec, env.action_spec)
  if path.endswith('.onnx'):
    raise UserError(f'--checkpoint {path} is an ONNX file already')
  found, judged_by = frozen.load_all(path, *specs)
  if onnx:
    if 'sample' in found:
      found = {'mode': found.pop('main'), **found}
    others = [name for name, policy in found.items() if not onnx_model.knows(policy)]
    for name in others:
      kind = type(found.pop(name)).__name__
      logging.warning('%s is left out: no ONNX graph of a %s is known', name, kind)
    if not found:
      raise UserError(f'{path}: no ONNX graph of its policies is known')
    with files.making(output_dir, (OSError, tf.errors.OpError)) as made:
      onnx_model.save(FLAGS.env_name, found, made, env.observation_keys)
    return
  policy = frozen.named(found, chosen or 'main', path)
  if not chosen and judged_by != 'main':
    logging.warning('this is main; its agent is judged by %s: --policy=%s', judged_by, judged_by)
  with files.making(output_dir, (OSError, tf.errors.OpError)) as made:
    saved_model.save(policy, tf.as_dtype(env.observation_dtype), made)
    tf_agents_bridge.save_specs(policy, made)
    if env.observation_keys:
      parts = json.dumps(env.observation_keys, indent=2) + '\n'
      files.write_text(os.path.join(made, 'observation_parts.json'), parts)


if __name__ == '__main__':
  programs.run(main, takes_preset=True)
