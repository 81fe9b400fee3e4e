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

from absl import flags

from brac import files, programs, results
from brac.data_config import folder_name
from brac.errors import UserError
from brac.grids import scores
from brac.grids.behavior import load_behavior, write_behavior
from brac.grids.curves import draw
from brac.grids.notes import notes_on_runs
from brac.grids.records import commands, evaluation_rows, run_rows
from brac.grids.summary import Summary
from brac.grids.tables import ABSENT, markdown, text, write_csv

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
  kept_in = os.path.join(output_dir, 'behavior.csv')
  behavior, more = load_behavior(
    (run.task for run in runs), data_root_dir, FLAGS.data_sub_dir, FLAGS.data_file_name, kept_in
  )
  notes += more
  if len(runs) < len(all_runs):
    n = len(all_runs) - len(runs)
    notes.append(f'{n} trials of searches are not in the tables; --sweeps has them there')
  summary = Summary(runs, behavior, FLAGS.last)
  tables, aggregate = summary.tables(), summary.aggregate()
  references_in = os.path.join(output_dir, 'references.csv')
  references, more = scores.load_references(
    summary.tasks, data_root_dir, FLAGS.data_sub_dir, FLAGS.data_file_name, references_in
  )
  notes += more
  score_tables = scores.tables(summary, references)
  score_means = scores.aggregate(summary, references)
  notes += notes_on_runs(summary, root_dir)
  legend = (
    'mean ± standard deviation (divided by n) over (seeds) of the mean return of the last '
    f"{FLAGS.last} evaluations; main: the policy's mode; max_q: of 10 samples the one with the "
    "largest Q (BEAR's test); behavior data: over whole episodes; by step: weighted by their steps"
  )
  aggregate_title = (
    'interquartile mean over tasks (environments and data) and seeds of the return relative to the '
    "data's by step"
  )
  aggregate_legend = (
    '1 is as good as the data; each task counts the same; the bootstrap draws seeds within each, '
    'so that a task of one seed adds nothing to an interval, and rows over other tasks are not to '
    'be compared'
  )
  aggregate_table = [['', 'IQM', '95 % bootstrap interval', 'tasks', 'runs']] + [
    [name, f'{mean:.2f}', ABSENT if low == '' else f'[{low:.2f}, {high:.2f}]', tasks, str(n)]
    for name, mean, low, high, tasks, n in aggregate
  ]
  score_title = 'interquartile mean over tasks and seeds of the scores of each table of references'
  score_table = [['', 'references', 'IQM', '95 % bootstrap interval', 'tasks', 'runs']] + [
    [name, whose, f'{mean:.1f}', ABSENT if low == '' else f'[{low:.1f}, {high:.1f}]', tasks, str(n)]
    for whose, name, mean, low, high, tasks, n in score_means
  ]

  with files.writing(output_dir):
    os.makedirs(output_dir, exist_ok=True)
    write_behavior(kept_in, behavior)
    scores.write_references(references_in, references)
  page = ['# Returns', legend]
  for name, table, sheet in tables:
    write_csv(os.path.join(output_dir, f'{_short(folder_name(name))}.csv'), sheet)
    page.append(markdown(table))
  header = ['', 'IQM', '2.5 %', '97.5 %', 'tasks', 'runs']
  write_csv(os.path.join(output_dir, 'iqm.csv'), [header, *aggregate])
  if aggregate:
    page += ['## Interquartile means', f'The {aggregate_title}: {aggregate_legend}.']
    page.append(markdown(aggregate_table))
  if score_tables:
    page += ['## Normalized scores', scores.legend(references) + '.']
  for name, table, sheet in score_tables:
    write_csv(os.path.join(output_dir, f'{_short(folder_name(name))}.csv'), sheet)
    page.append(markdown(table))
  header = ['references', '', 'IQM', '2.5 %', '97.5 %', 'tasks', 'runs']
  write_csv(os.path.join(output_dir, 'iqm_scores.csv'), [header, *score_means])
  if score_means:
    page += [f'The {score_title}.', markdown(score_table)]
  write_csv(os.path.join(output_dir, 'runs.csv'), run_rows(all_runs, root_dir, FLAGS.last))
  write_csv(os.path.join(output_dir, 'evaluations.csv'), evaluation_rows(all_runs))
  script = os.path.join(output_dir if FLAGS.output_dir else root_dir, 'commands.sh')
  with open(script, 'w', encoding='utf-8') as f:
    f.write(commands(runs))
  if notes:
    page += ['## Notes', '\n'.join(f'- {note}' for note in notes)]
  page.append('## Learning curves')
  for task in summary.tasks:
    if any(run.returns for run in runs if run.task == task):
      name = _short(folder_name('_'.join(task))) + '.png'
      draw(summary, task, os.path.join(output_dir, name))
      page.append(f'![Learning curves of {" ".join(task)}]({name})')
  with open(os.path.join(output_dir, 'report.md'), 'w', encoding='utf-8') as f:
    f.write('\n\n'.join(page) + '\n')

  for _, table, _ in tables:
    print(text(table), end='\n\n')
  print(textwrap.fill(legend, 100))
  if aggregate:
    print(f'\n{textwrap.fill(aggregate_title, 100)}\n{text(aggregate_table)}')
    print(textwrap.fill(aggregate_legend, 100))
  for _, table, _ in score_tables:
    print(f'\n{text(table)}')
  if score_tables:
    print(f'\n{textwrap.fill(scores.legend(references), 100)}')
  if score_means:
    print(f'\n{textwrap.fill(score_title, 100)}\n{text(score_table)}')
  print(''.join(f'\n{note}' for note in notes))
  print(f'\nas CSV and Markdown, with learning curves: {output_dir}')


def _short(name: str) -> str:
  """The name of a file without its ending, also where names of environments and data are long."""
  encoded = os.fsencode(name)
  short = encoded[:180].decode(errors='ignore')
  return name if len(encoded) <= 200 else f'{short}_{zlib.crc32(encoded):08x}'


if __name__ == '__main__':
  programs.run(main, tensorflow=False)
