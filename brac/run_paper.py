"""Runs a part of the paper's grid, several trainings at a time, and ends with the report.

For each environment and data: collects the data if it is not there, trains the clone that BRAC's
primal divergences are of, then the other presets. What is finished is skipped, what was interrupted
goes on. A run that fails does not stop the others: it is named at the end with its log, and the
exit status is 1. Ctrl-C or SIGTERM lets all runs save and stops them; the same command goes on.
"""

import shlex
import subprocess
import sys

from absl import flags

from brac import programs, results
from brac.errors import UserError
from brac.grids import grid_flags
from brac.grids.jobs import run_jobs
from brac.grids.plan import Plan

FLAGS = flags.FLAGS

grid_flags.define()
flags.adopt_module_key_flags(grid_flags)
flags.DEFINE_list(
  'data_names', ['pure', 'eps1', 'eps3', 'gaussian1', 'gaussian3'], 'The data: dcfg_NAME.py each.'
)
flags.DEFINE_list('seeds', ['0', '1', '2', '3', '4'], 'The seeds of the trainings.')
flags.DEFINE_bool(
  'tuned',
  True,
  'Whether a preset that is tuned for an environment, as brac.sweep leaves it in tuned/{ENV}/, '
  'takes the place of the plain one.',
)
flags.DEFINE_integer('total_train_steps', 500000, 'Training steps of each run.', lower_bound=1)


def make_plan() -> Plan:
  """The plan of the grid that the flags ask for, the first seeds of everything first.

  So that a grid that is not through has a whole table.

  Raises:
    UserError: there is no such preset, data config or environment, gin does not understand one, a
      seed is none, or what is finished was trained otherwise.
  """
  grid = grid_flags.make_grid(FLAGS.total_train_steps)
  plan = Plan(grid, FLAGS.presets, FLAGS.tuned)
  for preset in FLAGS.presets:
    for env_name in FLAGS.env_names:
      plan.preset(preset, env_name)
  plan.check_bindings()
  if not all(seed.isdecimal() and int(seed) <= programs.MAX_SEED for seed in FLAGS.seeds):
    raise UserError(
      f'--seeds {",".join(FLAGS.seeds)}: seeds are whole numbers up to {programs.MAX_SEED}'
    )
  grid_flags.check_environments()
  for seed in dict.fromkeys(map(int, FLAGS.seeds)):
    for env_name in FLAGS.env_names:
      for data_name in FLAGS.data_names:
        for preset in FLAGS.presets:
          plan.training(env_name, data_name, preset, seed)
  return plan


def main() -> None:
  from brac import runs

  plan = make_plan()
  jobs, n_finished = list(plan.jobs.values()), len(plan.finished)
  for note in plan.notes():
    print(note, file=sys.stderr)
  if not jobs and not n_finished:
    raise UserError('no run is asked for: --env_names, --data_names, --presets or --seeds is empty')
  at_a_time = grid_flags.at_a_time()
  how = f'{at_a_time} at a time' if at_a_time else 'on all cores of the cluster'
  print(f'{len(jobs)} programs to run, {how}; {n_finished} runs are finished')
  if FLAGS.dry_run:
    for job in jobs:
      print(shlex.join(job.command))
    return
  failed = run_jobs(jobs, grid_flags.make_backend(len(jobs)))
  if runs.stop_requested():
    runs.stop('the runs are saved: the same command goes on from there')
  report_failed = False
  if results.read_runs(programs.folder(FLAGS.root_dir)):
    folders = [f'--root_dir={FLAGS.root_dir}', f'--data_root_dir={FLAGS.data_root_dir}']
    print(flush=True)
    report = [sys.executable, '-m', 'brac.report', *folders]
    report_failed = bool(subprocess.run(report).returncode)
  for name, why in failed.items():
    print(f'failed: {name}: {why}', file=sys.stderr)
  if failed or report_failed:
    sys.exit(1)


if __name__ == '__main__':
  programs.run(main, stops_itself=True)
