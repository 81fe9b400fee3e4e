"""Searches the values of presets that the paper tunes for each environment, by successive halving.

A grid of values, as configs/grids/kl_vp.json, is searched from coarse to fine. Each trial is a run
of train_offline in {root_dir}/{ENV}/{DATA_NAME}/n{N_TRAIN}/{PRESET}/sweep/{VALUES}/{SEED}; at a
rung, a number of steps, the best of them go on, the others are saved and stopped, and may go on
later. Trials that are there are taken as far as they have come, also those of another grid, as of a
coarser one before. The same command goes on with a search that was stopped; given on several
machines with one disk, they share its trials.

With --metric=fqe nothing is simulated to compare them: a trial is trained to a rung, and what its
policy is worth there is estimated by fitted Q evaluation on the same data, in its folder's fqe/.

Leaves trials_{SEED}.csv, .md and .png beside the trials, and for each environment and preset
{tuned_dir}/{ENV}/{PRESET}.gin: the preset with the best values, and what was tried.
"""

import contextlib
import dataclasses
import functools
import inspect
import os
import shlex
import sys
from collections.abc import Mapping, Sequence

from absl import flags

from brac import files, gin_config, programs, results
from brac.data_config import folder_name, project_folder
from brac.errors import UserError
from brac.grids import grid_flags, outcome, presets, ranking, search, space
from brac.grids.jobs import Backend, Job, run_jobs
from brac.grids.metrics import Returns, Values
from brac.grids.plan import Plan
from brac.grids.search import Search, run_searches
from brac.grids.space import Halving, Point, Space
from brac.grids.tables import text

FLAGS = flags.FLAGS

grid_flags.define(least_episodes=0)
flags.adopt_module_key_flags(grid_flags)
flags.DEFINE_string('data_name', 'eps1', 'The data of all searches: dcfg_NAME.py.')
flags.DEFINE_integer(
  'seed', 0, 'The seed of the trials.', lower_bound=0, upper_bound=programs.MAX_SEED
)
flags.DEFINE_integer('total_train_steps', 90000, 'Training steps of a whole trial.', lower_bound=1)
flags.DEFINE_integer(
  'first_rung',
  30000,
  'The step at which trials are compared first; the next rung is --reduction times as far.',
  lower_bound=1,
)
flags.DEFINE_integer('reduction', 3, 'At a rung, one trial in so many goes on.', lower_bound=2)
flags.DEFINE_integer(
  'last',
  3,
  'How many of the last evaluations, of a trial or of its estimate, are averaged.',
  lower_bound=1,
)
flags.DEFINE_enum(
  'metric',
  'return',
  ['return', 'fqe'],
  'What trials are compared by: their returns, or the values that fitted Q evaluation estimates.',
)
flags.DEFINE_integer(
  'fqe_steps', 50000, 'With --metric=fqe: training steps of an estimate.', lower_bound=1
)
flags.DEFINE_integer(
  'max_trials', 10**6, "How many of a grid's points are tried at most.", lower_bound=1
)
flags.DEFINE_string(
  'grid', None, 'The grid, a file. By default grids/PRESET.json in --config_dir, or among ours.'
)
flags.DEFINE_string(
  'tuned_dir', None, 'Where the tuned presets go. By default tuned/ in --config_dir.'
)
flags.DEFINE_integer(
  'winner_steps', 0, 'The training steps that the best trial goes on to in the end.', lower_bound=0
)
flags.DEFINE_integer(
  'clone_steps', 300000, 'Training steps of a clone, where one is needed.', lower_bound=1
)


def _plan_of(point: Point, total_train_steps: int, **more) -> Plan:
  """A plan of trainings with the values of a point; `more` are attributes of its grid."""
  bindings = [*FLAGS.gin_bindings, *point.bindings]
  grid = grid_flags.make_grid(total_train_steps)
  return Plan(dataclasses.replace(grid, gin_bindings=bindings, **more))


def job_of(env_name: str, preset: str, point: Point, total_train_steps: int) -> Job:
  """The program that trains a preset with the values of a point to a number of steps."""
  plan = _plan_of(point, total_train_steps)
  job = plan.training(env_name, FLAGS.data_name, preset, FLAGS.seed, f'sweep/{point.name}')
  if job is None:
    folder = min(plan.finished)
    raise UserError(f'{folder} is finished, but its {results.RESULTS} cannot be read')
  return dataclasses.replace(plan.jobs[job], needs=())  # which are there by now


def fqe_bindings(preset: str, policy: str) -> list[str]:
  """What is bound of all estimates of a preset.

  Args:
    preset: its name.
    policy: whose value it is, '' for the one that a run is judged by.
  """
  settings = _preset(preset).settings  # with macros' values
  # What goes for the estimate of a training's value as well: which data, what γ.
  shared = [
    f'{name} = {value!r}'
    for name, value in settings.items()
    if gin_config.OF_DATA.fullmatch(name) or name == 'train_eval_offline.discount'
  ]
  return [f'fqe_agent.Agent.policy_name = {policy!r}', *shared] if policy else shared


def _preset(name: str) -> presets.Preset:
  """A preset with the bindings of the flags that it has a use for."""
  path = presets.find_preset(grid_flags.config_dir(), name)
  return presets.load_of_many(path, FLAGS.gin_bindings)


def fqe_job_of(env_name: str, shared: Sequence[str], root_dir: str, folder: str, step: int) -> Job:
  """The program that estimates what the run in a folder is worth, which stands at a step.

  Args:
    env_name: the environment.
    shared: see `fqe_bindings`.
    root_dir: below which the estimate is to be.
    folder: the run's.
    step: names the estimate.
  """
  checkpoint = os.path.join(os.path.abspath(folder), 'agent')
  bindings = [f'fqe_agent.Agent.checkpoint={checkpoint!r}', *shared]
  grid = grid_flags.make_grid(FLAGS.fqe_steps)
  plan = Plan(
    dataclasses.replace(grid, root_dir=root_dir, n_eval_episodes=0, gin_bindings=bindings)
  )
  job = plan.training(env_name, FLAGS.data_name, 'fqe', FLAGS.seed, str(step))
  if job is None:
    raise UserError(f'{min(plan.finished)} is finished, but tells no value')
  log = os.path.join(grid.root_dir, 'logs', os.path.basename(plan.jobs[job].log))
  name = os.path.basename(os.path.dirname(folder))
  log = log.removesuffix('.log') + f'_{name}.log'
  return dataclasses.replace(plan.jobs[job], needs=(), log=log)


def _folder(env_name: str, preset: str) -> str:
  """Where the trials of a preset are."""
  place = map(folder_name, (env_name, FLAGS.data_name, f'n{FLAGS.n_train}', preset, 'sweep'))
  return os.path.join(programs.folder(FLAGS.root_dir), *place)


def is_there(env_name: str, preset: str, point: Point) -> bool:
  """Whether there is a trial of a point; UserError: it was trained with other settings."""
  folder = os.path.join(_folder(env_name, preset), point.name, str(FLAGS.seed))
  if not os.path.exists(os.path.join(folder, results.RESULTS)):
    return False
  # An estimate does not depend on how many episodes there were in an evaluation.
  more = dict(n_eval_episodes=0) if FLAGS.metric == 'fqe' else {}
  plan = _plan_of(point, FLAGS.total_train_steps, **more)
  plan.check(env_name, FLAGS.data_name, preset, FLAGS.seed, folder)
  return True


def trials_beside(env_name: str, preset: str, tried: Space) -> list[Point]:
  """The points of trials of other grids that can be compared with this one's; tells the others."""
  found = []
  for point in space.points_beside(tried, _folder(env_name, preset)):
    try:
      if is_there(env_name, preset, point):
        found.append(point)
    except UserError as error:
      print(f'left out, as no trial of this grid: {error}', file=sys.stderr)
  return found


def open_search(env_name: str, preset: str, tried: Space) -> Search:
  """The search for a preset's values in an environment, with the trials that are there."""
  schedule = Halving(FLAGS.total_train_steps, FLAGS.first_rung, FLAGS.reduction, FLAGS.max_trials)
  metric = Returns(FLAGS.last)
  if FLAGS.metric == 'fqe':
    shared = fqe_bindings(preset, tried.policy)
    evaluate = functools.partial(fqe_job_of, env_name, shared)
    bound = presets.load(presets.find_preset(grid_flags.config_dir(), 'fqe'), shared).settings
    metric = Values(FLAGS.last, FLAGS.fqe_steps, evaluate, bound, _possible(env_name, bound))
  name = f'{env_name} {FLAGS.data_name} {preset}'
  job = functools.partial(job_of, env_name, preset)
  tried = tried._replace(others=tuple(trials_beside(env_name, preset, tried)))
  return Search(name, tried, schedule, _folder(env_name, preset), FLAGS.seed, job, metric)


def _possible(env_name: str, settings: Mapping[str, object]) -> tuple[float, float]:
  """The least and the largest value that the rewards of the data may give a policy."""
  from brac.agents.fqe_agent import possible
  from brac.data import stored
  from brac.train_eval_offline import train_eval_offline

  place = map(folder_name, (env_name, FLAGS.data_name))
  path = os.path.join(programs.folder(FLAGS.data_root_dir), *place, '0', 'data')
  default = inspect.signature(train_eval_offline).parameters['discount'].default
  discount = settings.get('train_eval_offline.discount', default)
  return possible(stored.rewards(path), discount)  # whichever of them are trained on


def read_space(config_dir: str, preset: str) -> Space:
  """The grid of a preset.

  Raises:
    UserError: there is none, or the preset has no use for what it names.
  """
  read = _preset(preset)
  grid = programs.folder(FLAGS.grid) if FLAGS.grid else None
  tried = space.read(grid or presets.find_here_or_ours(config_dir, f'grids/{preset}', '.json'))
  for macro in tried.values:
    if gin_config.without_macro(FLAGS.gin_bindings, macro) != FLAGS.gin_bindings:
      raise UserError(f'--gin_bindings binds {macro}, whose values the grid {tried.path} varies')
  presets.load(read.path, [*read.gin_bindings, *tried.points()[0].bindings])
  return tried


def warn_of_rungs(preset: str) -> None:
  """Says which rungs are at no evaluation: what is worth what there depends on earlier stops."""
  freq = _preset(preset).settings.get('train_eval_offline.eval_freq')
  schedule = Halving(FLAGS.total_train_steps, FLAGS.first_rung, FLAGS.reduction, 1)
  between = [str(step) for step in schedule.rungs() if freq and step % freq]
  if between and FLAGS.metric == 'return':
    print(
      f'{preset}: {", ".join(between)} steps are no multiple of eval_freq, {freq}: a trial that '
      'was stopped there has an evaluation that others have not, which counts in its mean',
      file=sys.stderr,
    )


def _tuned_path(config_dir: str, env_name: str, preset: str) -> str:
  """Where a tuned preset goes; raises UserError where there is a file of something else."""
  folder = programs.folder(FLAGS.tuned_dir) or presets.tuned_folder(config_dir)
  path = os.path.join(folder, folder_name(env_name), preset + '.gin')
  if os.path.exists(path):
    with open(path, encoding='utf-8', errors='replace') as f:
      head = f.readline()
    if outcome.SIGN not in head:
      raise UserError(f'{path} was not written by a search; choose another --tuned_dir')
    if f'{_data()};' not in presets.one_line(path):
      raise UserError(
        f'{path} is of a search on other data; choose another --config_dir, in whose tuned/ '
        'run_paper finds what is left, or another --tuned_dir'
      )
    _, seed, steps = presets.protocol(path) or ('', FLAGS.seed, 0)
    if seed != FLAGS.seed or steps > FLAGS.total_train_steps:
      raise UserError(
        f'{path} is of a search with seed {seed} and {steps} steps a trial; one of another seed '
        'or of fewer goes to another --tuned_dir'
      )
  folder = os.path.dirname(path)
  while not os.path.exists(folder):
    folder = os.path.dirname(os.path.abspath(folder))
  if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
    raise UserError(
      f'{folder} cannot be written, where {path} is to be; choose another --tuned_dir'
    )
  return path


def _data() -> str:
  """The data of all searches, as tuned presets tell it."""
  return f'Data {FLAGS.data_name}, {FLAGS.n_train} transitions'


def leave(done: Search, env_name: str, preset: str, config_dir: str) -> None:
  """Writes what a search has found, the tables and the tuned preset."""
  path = outcome.write_tables(done)
  outcome.draw(done, path + '.png')
  print(f'\n{done.name}\n{text(outcome.readable(done))}\nas CSV, Markdown and figure: {path}')
  winner = done.best()
  if not winner:
    print(f'no trial has come to a rung with a {done.metric.name} that counts: none is the best')
    return
  tuned = _tuned_path(config_dir, env_name, preset)
  source = presets.find_preset(config_dir, preset)
  ours = os.path.dirname(source) == project_folder('configs')
  include = os.path.basename(source) if ours else os.path.relpath(source, os.path.dirname(tuned))
  if FLAGS.metric == 'fqe':
    with contextlib.suppress(UserError):  # fewer than two were simulated as well
      ranked = ranking.summary(ranking.read_columns(path + '.csv', 'value', 'return'))
      print(f'value and return of {ranked}')
  about = f'{_data()}; {FLAGS.n_eval_episodes} episodes an evaluation.'
  with files.writing(os.path.dirname(tuned)):
    os.makedirs(os.path.dirname(tuned), exist_ok=True)
    bound = _preset(preset).gin_bindings
    files.write_text(tuned, outcome.tuned_text(done, include, [about], bound))
  print(f'the tuned preset: {tuned}')
  for trial in outcome.surpassing(done):
    print(f'stopped, and worth more when it was than the best is now: {trial}', file=sys.stderr)


Pair = tuple[str, str]  # an environment and a preset


def check() -> tuple[list[Pair], dict[str, Space]]:
  """What is to be searched, and the grid of each preset.

  Raises:
    UserError: a flag, a preset or a grid is wrong; a trial that is there has other settings.
  """
  config_dir = grid_flags.config_dir()
  pairs = [(env_name, preset) for preset in FLAGS.presets for env_name in FLAGS.env_names]
  if not pairs:
    raise UserError('no search is asked for: --env_names or --presets is empty')
  grid_flags.check_environments()
  if FLAGS.metric == 'fqe':
    presets.load(presets.find_preset(config_dir, 'fqe'), ())
  elif FLAGS['fqe_steps'].present:
    raise UserError('--fqe_steps is for --metric=fqe')
  elif not FLAGS.n_eval_episodes:
    raise UserError('--n_eval_episodes=0 leaves no returns to compare: --metric=fqe does without')
  presets.check_bindings([_preset(preset) for preset in FLAGS.presets])
  spaces = {preset: read_space(config_dir, preset) for preset in FLAGS.presets}
  for env_name, preset in pairs:
    _tuned_path(config_dir, env_name, preset)
    for point in spaces[preset].points():
      is_there(env_name, preset, point)
  for preset in spaces:
    warn_of_rungs(preset)
  return pairs, spaces


def print_commands(pairs: Sequence[Pair], spaces: Mapping[str, Space]) -> None:
  """Prints what the trials of the first rung run, but for those that are that far."""
  for env_name, preset in pairs:
    for point in spaces[preset].points()[: FLAGS.max_trials]:
      plan = _plan_of(point, min(FLAGS.first_rung, FLAGS.total_train_steps))
      trial = env_name, FLAGS.data_name, preset, FLAGS.seed, f'sweep/{point.name}'
      if job := plan.training(*trial):
        print(shlex.join(plan.jobs[job].command))


def leave_all(searches: Mapping[Pair, Search], spaces: Mapping[str, Space]) -> dict[str, str]:
  """Writes what searches have found; what failed of them, and why."""
  failed = {}
  for (env_name, preset), done in searches.items():
    try:
      with outcome.alone(done):
        for point in spaces[preset].points():  # which another search may have trained since
          is_there(env_name, preset, point)
        done.take_in(trials_beside(env_name, preset, spaces[preset]))
        leave(done, env_name, preset, grid_flags.config_dir())
    except UserError as error:  # another search, of other data or settings, has left its own there
      failed[done.name] = str(error)
    failed.update({f'{done.name} {name}': fault for name, fault in done.faults.items()})
  return failed


def train_winners(searches: Mapping[Pair, Search], backend: Backend) -> dict[str, str]:
  """Trains the best trials to `--winner_steps`; those that failed, and why."""
  jobs, failed = [], {}
  for done in searches.values():
    winner = done.best()
    if winner and not results.is_finished(done.run_folder(winner.point), FLAGS.winner_steps):
      try:
        jobs.append(done.job_of(winner.point, FLAGS.winner_steps))
      except UserError as error:  # of this one, and the others go on
        failed[f'{done.name} {winner.point.name}'] = str(error)
  return {**failed, **run_jobs(jobs, backend)}


def main() -> None:
  from brac import runs

  search.optuna()  # where it is not installed, nothing is made
  pairs, spaces = check()
  plan, needs = Plan(grid_flags.make_grid(FLAGS.clone_steps)), {}
  for env_name, preset in pairs:
    data = plan.collection(env_name, FLAGS.data_name)
    needs[env_name, preset] = {data, plan.clone(env_name, FLAGS.data_name, preset, FLAGS.seed)}
  for note in plan.notes():
    print(note, file=sys.stderr)
  needed = list(plan.jobs.values())
  if FLAGS.dry_run:
    for job in needed:
      print(shlex.join(job.command))
    print_commands(pairs, spaces)
    return

  backend = grid_flags.make_backend()
  failed = run_jobs(needed, backend)
  if runs.stop_requested():
    runs.stop('the same command goes on from there')
  searches = {
    pair: open_search(*pair, spaces[pair[1]]) for pair in pairs if not needs[pair] & failed.keys()
  }
  run_searches(list(searches.values()), backend)
  if runs.stop_requested():
    for done in searches.values():
      with outcome.alone(done):
        outcome.write_tables(done)
    runs.stop('the trials are saved: the same command goes on from there')
  failed.update(leave_all(searches, spaces))
  if FLAGS.winner_steps:
    failed.update(train_winners(searches, backend))
  if runs.stop_requested():
    runs.stop('the trials are saved: the same command goes on from there')
  for name, why in failed.items():
    print(f'failed: {name}: {why}', file=sys.stderr)
  if failed:
    sys.exit(1)


if __name__ == '__main__':
  programs.run(main, stops_itself=True)
