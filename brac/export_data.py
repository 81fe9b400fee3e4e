"""Writes a dataset as Minari's, as D4RL's HDF5, or as .npz.

The next actions, how episodes ended, and the discounts are stored in infos/brac, so that
import_data gives the same bits back; what other programs make of the rest, docs/your_data.md says.
"""

import os

from absl import flags

from brac import programs
from brac.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_string(
  'format',
  None,
  "The target's: d4rl, minari, npz, or one that was added. By default its name's ending tells it: "
  ".hdf5 and .h5 are D4RL's, .npz numpy's, none is Minari's.",
)
flags.DEFINE_string('target', None, 'The file, or the id of a new Minari dataset, as brac/eps1-v0.')
flags.DEFINE_string('root_dir', os.path.join(programs.ROOT, 'data'), 'Where datasets are kept.')
flags.DEFINE_string('env_name', 'HalfCheetah-v2', "The data's environment.")
flags.DEFINE_string('data_name', 'eps1', 'The --data_name that the data was collected with.')
flags.DEFINE_string('sub_dir', '0', 'The --sub_dir that the data was collected with.')


def main() -> None:
  from brac import exchange
  from brac.data import formats
  from brac.data_config import folder_name

  if not FLAGS.target:
    raise UserError('--target is not given: a file, or the id of a new Minari dataset')
  root_dir = programs.folder(FLAGS.root_dir)
  exchange.export_data(
    data_file=os.path.join(
      root_dir, *map(folder_name, (FLAGS.env_name, FLAGS.data_name)), FLAGS.sub_dir, 'data'
    ),
    env_name=FLAGS.env_name,
    data_name=FLAGS.data_name,
    form=formats.find(FLAGS.format, FLAGS.target),
    target=programs.folder(FLAGS.target),
  )


if __name__ == '__main__':
  programs.run(main)
