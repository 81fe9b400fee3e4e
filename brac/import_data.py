"""Makes a dataset of this project's own of D4RL's files, Minari's datasets, or arrays in .npz.

Leaves {root_dir}/{ENV}/{DATA_NAME}/{SUB_DIR}/ with data*, data.source.json, which tells where it is
from, and agent_behavior*, where the source holds the policy that collected it. docs/your_data.md
says what becomes a row.

With --describe it imports nothing, but tells of a dataset that is there, and draws data.png beside
it.
"""

import os

from absl import flags

from brac import programs
from brac.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_string(
  'format',
  None,
  "The source's: d4rl, minari, npz, or one that was added. By default its name's ending tells it: "
  ".hdf5 and .h5 are D4RL's, .npz numpy's, none is Minari's.",
)
flags.DEFINE_string('source', None, "The file, or the id of Minari's dataset.")
flags.DEFINE_string('env_name', None, 'The environment, where the source does not tell it.')
flags.DEFINE_string(
  'data_name',
  None,
  "The dataset's name; as its source by default. One of D4RL's names the environment of a source "
  'that tells none.',
)
flags.DEFINE_string('root_dir', os.path.join(programs.ROOT, 'data'), 'Where datasets are kept.')
flags.DEFINE_string('sub_dir', '0', "The dataset's folder; auto: the date and time.")
flags.DEFINE_bool(
  'keep_last',
  False,
  'Whether the last step of an episode that no terminal state ends is kept, with its own action as '
  'the next, which nobody knows; brac_dual with a value penalty would learn from it.',
)
flags.DEFINE_string(
  'episode_ends',
  None,
  'The array that is true where an episode ends, of a file with neither timeouts nor '
  'next_observations.',
)
flags.DEFINE_integer(
  'max_episode_steps',
  None,
  'After how many steps an episode ends, of a file that does not tell at all.',
  lower_bound=1,
)
flags.DEFINE_list(
  'observation_keys',
  [],
  'The parts of Dict observations in the order in which they are concatenated; by default that of '
  'the space.',
)
flags.DEFINE_bool(
  'allow_other_env', False, "Whether --env_name may be another environment than the source's."
)
flags.DEFINE_string('describe', None, 'A dataset, or its folder, to describe.')
flags.DEFINE_string(
  'clone',
  None,
  'With --describe: an agent_behavior to compare with the policy that collected the data.',
)

_OF_AN_IMPORT = (
  *('format', 'source', 'env_name', 'data_name', 'root_dir', 'sub_dir', 'keep_last'),
  *('episode_ends', 'max_episode_steps', 'observation_keys', 'allow_other_env'),
)


def main() -> None:
  from brac import exchange
  from brac.data import formats
  from brac.data.source import Options

  if FLAGS.describe:
    programs.refuse_flags(_OF_AN_IMPORT, 'is for an import, and changes nothing for --describe')
    _describe(programs.folder(FLAGS.describe))
    return
  if not FLAGS.source:
    raise UserError('--source is not given: a file, or the id of a Minari dataset')
  if FLAGS['source'].present > 1:
    raise UserError('--source is given more than once; an import is of one source')
  programs.refuse_flags(['clone'], 'is for --describe')
  exchange.import_data(
    root_dir=programs.folder(FLAGS.root_dir),
    env_name=FLAGS.env_name,
    data_name=FLAGS.data_name,
    sub_dir=programs.sub_dir(FLAGS.sub_dir),
    form=formats.find(FLAGS.format, FLAGS.source),
    source_name=FLAGS.source,
    options=Options(FLAGS.episode_ends, FLAGS.max_episode_steps, tuple(FLAGS.observation_keys)),
    keep_last=FLAGS.keep_last,
    allow_other_env=FLAGS.allow_other_env,
  )


def _describe(path: str) -> None:
  from brac import behavior
  from brac.data import description

  data_file = os.path.join(path, 'data') if os.path.isdir(path) else path
  print(description.describe(data_file, data_file + '.png'))
  if FLAGS.clone:
    print(behavior.compare(data_file, programs.folder(FLAGS.clone)))


if __name__ == '__main__':
  programs.run(main)
