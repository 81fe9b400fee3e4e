"""Checks the shipped policies against their manifest, or ships one more.

python -m brac.manifest
python -m brac.manifest --ship=.../agent_behavior --commit=4180251 --command='python -m brac...'

The manifest says of each policy what made it and what it returns. The check fails where a file is
missing, not listed or not the one that is listed, and where a policy does not load or does not
return what it should.
"""

from absl import flags

from brac import data_config, programs
from brac.errors import UserError
from brac.grids import shipped

FLAGS = flags.FLAGS

flags.DEFINE_string(
  'policy_root_dir',
  data_config.project_folder('trained_policies'),
  'Where the policies and their manifest are.',
)
flags.DEFINE_string(
  'ship',
  None,
  "An agent_partial_target or agent_behavior in its run's folder, to be put among the policies; or "
  'one that is there already, to be listed.',
)
flags.DEFINE_string('command', None, 'With --ship: the command that made it.')
flags.DEFINE_string('commit', None, 'With --ship: the commit of the code that made it.')


def main() -> None:
  root = programs.folder(FLAGS.policy_root_dir)
  if FLAGS.ship is None:
    programs.refuse_flags(['command', 'commit'], 'is for --ship')
    shipped.check(root)
    return
  for name in ('command', 'commit'):
    if not FLAGS[name].value:
      raise UserError(f'--ship needs --{name} as well: a policy is listed with what made it')
  shipped.ship(programs.folder(FLAGS.ship), root, FLAGS.command, FLAGS.commit)


if __name__ == '__main__':
  programs.run(main)
