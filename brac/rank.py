"""Tells how well estimates rank what they are of, from a table with a line for each policy.

python -m brac.rank --table=.../trials_0.csv

prints Spearman's rank correlation of two of its columns, and the regret at 1: how much less than
the best the one has that the estimates put first. The table of a search by --metric=fqe has both
columns; lines that lack one of them do not count.
"""

from absl import flags

from brac import programs
from brac.grids import ranking

FLAGS = flags.FLAGS

flags.DEFINE_string('table', None, 'The table, CSV.', required=True)
flags.DEFINE_string('estimate', 'value', 'The column of the estimates.')
flags.DEFINE_string('truth', 'return', 'The column of what is estimated.')


def main() -> None:
  rows = ranking.read_columns(programs.folder(FLAGS.table), FLAGS.estimate, FLAGS.truth)
  print(ranking.summary(rows))


if __name__ == '__main__':
  programs.run(main, tensorflow=False)
