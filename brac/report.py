"""Tables, learning curves and interquartile means of the runs that train_offline left.

A number is the mean ± standard deviation over seeds (divided by n) of a run's mean return in its
last evaluations, of the runs that are finished. There is a row for each policy that was evaluated:
`main` is the policy's mode; `max_q` takes of 10 samples the one with the largest Q, as BEAR's paper
tests it. Compare that one with the papers; of BRAC both are given, side by side.

Where reference scores are known (D4RL's of four -v2 tasks, or a Minari dataset's own) there are
normalized scores, too, 100 (R - min) / (max - min); no mean is over two tables of references.

Prints the tables, and leaves in --output_dir: report.md, {ENV}_n{N}.csv, {ENV}_n{N}_scores.csv,
runs.csv, iqm.csv, iqm_scores.csv, behavior.csv, references.csv, evaluations.csv (a line for each
evaluation of each run), and a figure of learning curves for each environment and dataset,
{ENV}_{DATA}_n{N}.png. The commands of the runs go into
commands.sh, beside the runs, or where --output_dir says.
"""

import os
import textwrap
import zlib
from typing import NamedTuple

from absl import flags

from brac import files, programs, results
from brac.data_config import folder_name
from brac.errors import UserError
from brac.grids import scores
from brac.grids.curves import draw
from brac.grids.data_returns import load_behavior, write_behavior
from brac.grids.notes import notes_on_runs
from brac.grids.records import commands, evaluation_rows, run_rows
from brac.grids.summary import Summary
from brac.grids.tables import ABSENT, Table, markdown, text, write_csv

FLAGS = flags.FLAGS

flags.DEFINE_string('root_dir', os.path.join(programs.ROOT, 'learn'), 'Where runs are kept.')
flags.DEFINE_string(
  'data_root_dir',
  os.path.join(programs.ROOT, 'data'),
  'Where datasets are. What behavior.csv in --output_dir tells of one stands in where it is gone.',
)
flags.DEFINE_string('data_sub_dir', '0', 'The --sub_dir that the data was collected with.')
flags.DEFINE_string('data_file_name', 'data', "The dataset's file in its folder.")
flags.DEFINE_string('output_dir', None, 'Where the files go; {root_dir}/report by default.')
flags.DEFINE_bool('sweeps', False, 'Whether the trials of searches are in the tables as well.')
flags.DEFINE_integer('last', 10, 'How many of the last evaluations are averaged.', lower_bound=1)


# What is read again where the data are gone.
_BEHAVIOR, _REFERENCES = 'behavior.csv', 'references.csv'


class Section(NamedTuple):
  """A part of the report.

  Attributes:
    title: of the part.
    legend: what the numbers are.
    tables: that it has.
  """

  title: str
  legend: str
  tables: list[Table]


def main() -> None:
  root_dir, data_root_dir = map(programs.folder, (FLAGS.root_dir, FLAGS.data_root_dir))
  output_dir = programs.folder(FLAGS.output_dir) or os.path.join(root_dir, 'report')
  all_runs, notes = results.read_tree(root_dir)
  runs = [
    results.without_estimates(run)
    for run in all_runs
    if FLAGS.sweeps or not run.sub_dir.startswith('sweep/')
  ]
  if not all_runs:
    raise UserError(f'--root_dir {root_dir}: no runs of train_offline are below it')
  data = data_root_dir, FLAGS.data_sub_dir, FLAGS.data_file_name
  kept_in = os.path.join(output_dir, _BEHAVIOR)
  behavior, more = load_behavior((run.task for run in runs), *data, kept_in)
  notes += more
  if len(runs) < len(all_runs):
    n = len(all_runs) - len(runs)
    notes.append(f'{n} trials of searches are not in the tables; --sweeps has them there')
  summary = Summary(runs, behavior, FLAGS.last)
  kept_in = os.path.join(output_dir, _REFERENCES)
  references, more = scores.load_references(summary.tasks, *data, kept_in)
  notes += [*more, *notes_on_runs(summary, root_dir)]
  sections = sections_of(summary, references)

  # Two machines that share a grid may come to its end, and to its report, at once.
  with files.replacing(output_dir) as made:
    write_behavior(os.path.join(made, _BEHAVIOR), behavior)
    scores.write_references(os.path.join(made, _REFERENCES), references)
    for name, _, sheet in (table for section in sections for table in section.tables):
      write_csv(os.path.join(made, f'{_file_name(name)}.csv'), sheet)
    write_csv(os.path.join(made, 'runs.csv'), run_rows(all_runs, root_dir, FLAGS.last))
    write_csv(os.path.join(made, 'evaluations.csv'), evaluation_rows(all_runs))
    figures = draw_curves(summary, made)
    sections = [
      section for section in sections if any(len(table) > 1 for _, table, _ in section.tables)
    ]
    files.write_text(os.path.join(made, 'report.md'), page(sections, notes, figures))
  with files.replacing(output_dir if FLAGS.output_dir else root_dir) as made:
    files.write_text(os.path.join(made, 'commands.sh'), commands(runs))

  for section in sections:
    for _, table, _ in section.tables:
      print(text(table), end='\n\n')
    print(textwrap.fill(section.legend, 100), end='\n\n')
  print(''.join(f'{note}\n' for note in notes))
  print(f'as CSV and Markdown, with learning curves: {output_dir}')


def sections_of(summary: Summary, references: scores.References) -> list[Section]:
  """All parts of the report; those that have nothing to tell have tables without rows."""
  returns = Section(
    'Returns',
    'mean ± standard deviation (divided by n) over (seeds) of the mean return of the last '
    f"{summary.last} evaluations; main: the policy's mode; max_q: of 10 samples the one with the "
    "largest Q (BEAR's test); behavior data: over whole episodes; by step: weighted by their steps",
    summary.tables(),
  )
  means = Section(
    'Interquartile means',
    'interquartile mean over tasks (environments and data) and seeds of the return relative to the '
    "data's by step: 1 is as good as the data; each task counts the same; the bootstrap draws "
    'seeds within each, so that a task of one seed adds nothing to an interval, and rows over '
    'other tasks are not to be compared',
    [_means('iqm', [''], summary.aggregate(), '.2f')],
  )
  scored = Section(
    'Normalized scores', scores.legend(references), scores.tables(summary, references)
  )
  score_means = Section(
    'Interquartile means of scores',
    'interquartile mean over tasks and seeds of the scores of each table of references',
    [_means('iqm_scores', ['references', ''], scores.aggregate(summary, references), '.1f')],
  )
  return [returns, means, scored, score_means]


def _means(name: str, labels: list[str], rows: list[list], form: str) -> Table:
  """A table of interquartile means, of rows `(*labels, IQM, low, high, tasks, runs)`."""
  table = [[*labels, 'IQM', '95 % bootstrap interval', 'tasks', 'runs']]
  for *label, mean, low, high, tasks, n in rows:
    interval = ABSENT if low == '' else f'[{low:{form}}, {high:{form}}]'
    table.append([*label, f'{mean:{form}}', interval, tasks, str(n)])
  return name, table, [[*labels, 'IQM', '2.5 %', '97.5 %', 'tasks', 'runs'], *rows]


def draw_curves(summary: Summary, output_dir: str) -> dict[str, str]:
  """Draws the learning curves of each environment and dataset; their files by what they show."""
  figures = {}
  for task in summary.tasks:
    if any(run.returns for run in summary.runs if run.task == task):
      name = _file_name('_'.join(task)) + '.png'
      draw(summary, task, os.path.join(output_dir, name))
      figures[' '.join(task)] = name
  return figures


def page(sections: list[Section], notes: list[str], figures: dict[str, str]) -> str:
  """The report in Markdown."""
  parts = ['# Report']
  for section in sections:
    parts += [f'## {section.title}', section.legend]
    parts += [markdown(table) for _, table, _ in section.tables]
  if notes:
    parts += ['## Notes', '\n'.join(f'- {note}' for note in notes)]
  parts.append('## Learning curves')
  parts += [f'![Learning curves of {what}]({name})' for what, name in figures.items()]
  return '\n\n'.join(parts) + '\n'


def _file_name(name: str) -> str:
  """The name of a file without its ending, also where names of environments and data are long."""
  name = folder_name(name)
  encoded = os.fsencode(name)
  short = encoded[:180].decode(errors='ignore')
  return name if len(encoded) <= 200 else f'{short}_{zlib.crc32(encoded):08x}'


if __name__ == '__main__':
  programs.run(main, tensorflow=False)
