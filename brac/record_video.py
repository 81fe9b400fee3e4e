"""Films an episode of a policy, or of several side by side from the same start.

python -m brac.record_video --env_name=Walker2d-v2 --output=walker.mp4 \\
  --checkpoint=trained_policies/Walker2d-v2/agent_partial_target --label=behavior --policy=sample \\
  --checkpoint=.../kl_vp/0/0/agent --label=BRAC --policy=main
"""

import collections
import os

from absl import flags

from brac import gin_config, programs

FLAGS = flags.FLAGS

programs.define_gin_flags()  # for the order of Dict observations, and physics
flags.DEFINE_multi_string(
  'checkpoint',
  None,
  'A checkpoint, without .index, of an agent, a clone of the behavior policy, a shipped policy; or '
  'an ONNX file; given several times, they stand side by side.',
  required=True,
)
flags.DEFINE_string('output', None, 'The film: a .mp4 or a .gif.', required=True)
flags.DEFINE_string('env_name', 'HalfCheetah-v2', 'The gym or gymnasium environment.')
flags.DEFINE_multi_string(
  'label', [], "What is written into each checkpoint's picture; the file's name by default."
)
flags.DEFINE_multi_string(
  'policy',
  ['main'],
  'Which policy of each checkpoint, or of all: main, or another that its agent is evaluated by, as '
  'max_q; or of an actor a sample.',
)
flags.DEFINE_integer(
  'seed', 0, 'Of the start, and of samples.', lower_bound=0, upper_bound=programs.MAX_SEED
)
flags.DEFINE_integer('steps', 1000, 'The film ends after so many at the latest.', lower_bound=1)
flags.DEFINE_integer('width', 480, 'Of a picture, in pixels.', lower_bound=16, upper_bound=4096)
flags.DEFINE_integer('height', 360, 'Likewise.', lower_bound=16, upper_bound=4096)
flags.DEFINE_float(
  'fps',
  None,
  'Pictures a second, at most; the film is as fast as the simulation. 30 by default, for a gif 20.',
  lower_bound=0.1,
  upper_bound=200,
)


def main(_) -> None:
  from brac import environments, films, operative, runs
  from brac.agents import frozen
  from brac.errors import UserError

  output = programs.folder(FLAGS.output)
  films.check_output(output)
  fps = FLAGS.fps or (20 if output.endswith('.gif') else 30)
  films.check_fps(output, fps)
  paths = [programs.folder(path) for path in FLAGS.checkpoint]
  kinds = FLAGS.policy * len(paths) if len(FLAGS.policy) == 1 else FLAGS.policy
  labels = FLAGS.label or _labels(paths, kinds)
  for flag, values in (('policy', kinds), ('label', labels)):
    if len(values) != len(paths):
      raise UserError(f'--{flag} is given {len(values)} times, for {len(paths)} checkpoints')
  if len(set(labels)) < len(labels):
    raise UserError(f'--label: two pictures are called {max(labels, key=labels.count)!r}')
  operative.warn_of_idle_bindings(*gin_config.OF_ENVIRONMENTS)
  env = environments.described(FLAGS.env_name)
  specs = env.observation_spec, env.action_spec
  policies = {
    label: frozen.load(path, kind, *specs) for label, path, kind in zip(labels, paths, kinds)
  }
  rate, shots = films.shoot(
    FLAGS.env_name, policies, FLAGS.seed,
    most_steps=FLAGS.steps, width=FLAGS.width, height=FLAGS.height, fps=fps,
  )  # fmt: skip
  last = None

  def frames():
    nonlocal last
    for last in shots:
      yield films.side_by_side(last.pictures)
      if runs.stop_requested():  # after each, as one may come at the last
        runs.stop('there is no film')

  films.write(output, frames(), rate)
  returns = (f'{name} {value:.1f}' for name, value in zip(labels, last.returns))
  print(f'{output}: {last.step} steps, {rate:g} pictures a second; return {", ".join(returns)}')


def _labels(paths: list[str], kinds: list[str]) -> list[str]:
  """The names of the files, with what tells those apart that are alike."""
  names = [os.path.basename(path) for path in paths]
  count = collections.Counter(names)
  names = [f'{n} {kind}' if count[n] > 1 else n for n, kind in zip(names, kinds)]
  count = collections.Counter(names)
  return [f'{n} {i + 1}' if count[n] > 1 else n for i, n in enumerate(names)]


if __name__ == '__main__':
  programs.run(main, takes_preset=True, stops_itself=True)
