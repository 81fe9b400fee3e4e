"""Runs a part of the paper's grid, several trainings at a time, and ends with the report.

For each environment and data: collects the data if it is not there, trains the clone that BRAC's
primal divergences are of, then the other presets. What is finished is skipped, what was interrupted
goes on. A run that fails does not stop the others: it is named at the end with its log, and the
exit status is 1. Ctrl-C or SIGTERM lets all runs save and stops them; the same command goes on.
"""

import ast
import difflib
import os
import shlex
import signal
import subprocess
import sys
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from absl import flags

from brac import gin_config, programs, results
from brac.data_config import project_folder
from brac.errors import UserError
from brac.hyperparameters import same

FLAGS = flags.FLAGS

flags.DEFINE_string('root_dir', os.path.join(programs.ROOT, 'learn'), 'Where runs are kept.')
flags.DEFINE_string(
  'data_root_dir', os.path.join(programs.ROOT, 'data'), 'Where datasets are kept.'
)
flags.DEFINE_list(
  'env_names', ['HalfCheetah-v2', 'Hopper-v2', 'Walker2d-v2', 'Ant-v2'], 'The environments.'
)
flags.DEFINE_list(
  'data_names', ['pure', 'eps1', 'eps3', 'gaussian1', 'gaussian3'], 'The data: dcfg_NAME.py each.'
)
flags.DEFINE_list(
  'presets',
  [
    *('sac', 'bc', 'bcq', 'bear', 'mmd_vp', 'mmd_pr', 'kl_vp', 'kl_pr'),
    *('kl_dual_vp', 'kl_dual_pr', 'w_vp', 'w_pr'),
  ],
  'The algorithms: NAME.gin each.',
)
flags.DEFINE_list('seeds', ['0', '1', '2', '3', '4'], 'The seeds of the trainings.')
flags.DEFINE_integer('total_train_steps', 500000, 'Training steps of each run.', lower_bound=1)
flags.DEFINE_integer(
  'n_train', 1000000, 'How many transitions are collected, and used.', lower_bound=1
)
flags.DEFINE_integer(
  'n_eval_episodes', 20, 'Episodes of an evaluation.', lower_bound=1, upper_bound=10**6
)
flags.DEFINE_multi_string(
  'gin_bindings', [], 'Given to every training after its preset; may be given several times.'
)
flags.DEFINE_string(
  'config_dir',
  None,
  "Where presets and data configs are, a folder. The project's configs/ by default.",
)
flags.DEFINE_string('policy_root_dir', None, 'Given to the data configs: where their policies are.')
flags.DEFINE_integer(
  'n_jobs', len(os.sched_getaffinity(0)), 'How many programs run at a time.', lower_bound=1
)
flags.DEFINE_bool('dry_run', False, 'Whether the commands are only printed.')


class Job(NamedTuple):
  """A program to be run.

  Attributes:
    needs: the names of jobs that have to be over before.
  """

  name: str
  command: List[str]
  log: str
  needs: Tuple[str, ...] = ()


def plan() -> Tuple[List[Job], int, List[str]]:
  """The jobs that the flags ask for, less what is done; how many runs are; what is to be known.

  The first seeds of everything come first, so that a grid that is not through has a whole table.

  Raises:
    UserError: there is no such preset, data config or environment, gin does not understand one, a
      seed is none, or what is finished was trained otherwise.
  """
  from brac import agents, checkpoints, environments, runs
  from brac.data import stored

  root_dir, data_root_dir = map(programs.folder, (FLAGS.root_dir, FLAGS.data_root_dir))
  config_dir = programs.folder(FLAGS.config_dir) or project_folder('configs')
  checkpoints.check_path(root_dir)
  programs.folder(FLAGS.policy_root_dir)
  presets = {name: _preset(config_dir, name) for name in FLAGS.presets}
  if not all(seed.isdecimal() and int(seed) <= programs.MAX_SEED for seed in FLAGS.seeds):
    raise UserError(
      f'--seeds {",".join(FLAGS.seeds)}: seeds are whole numbers up to {programs.MAX_SEED}'
    )
  for env_name in FLAGS.env_names:
    environments.described(env_name)
  given = [f'--gin_bindings={binding}' for binding in FLAGS.gin_bindings]
  jobs: Dict[str, Job] = {}
  finished, untold, older, notes = set(), set(), set(), {}

  def job(env_name: str, data_name: str, what: str, needs: Sequence[str], *command: str) -> str:
    """Notes a job down, if it was not; returns its name."""
    name = f'{env_name} {data_name} {what}'
    log = os.path.join(root_dir, 'logs', f'{name.replace(" ", "_")}_n{FLAGS.n_train}.log')
    where = [f'--env_name={env_name}', f'--data_name={data_name}']
    jobs.setdefault(
      name, Job(name, [sys.executable, '-m', *command, *where], log, tuple(filter(None, needs)))
    )
    return name

  def collection(env_name: str, data_name: str) -> str:
    """Its job's name; none where the data is there."""
    path = os.path.join(data_root_dir, env_name, data_name, '0', 'data')
    if checkpoints.exists(path):
      n = stored.size_of(path)
      if n != FLAGS.n_train:
        used = f'the first {FLAGS.n_train}' if n > FLAGS.n_train else 'all'
        notes[path] = f'{path} has {n} transitions: {used} of them are used'
      return ''
    _config(config_dir, f'dcfg_{data_name}', '.py')
    more = [f'--config_dir={config_dir}'] if FLAGS.config_dir else []
    if FLAGS.policy_root_dir:
      more.append(f'--policy_root_dir={FLAGS.policy_root_dir}')
    return job(
      env_name, data_name, 'collection', (), 'brac.collect_data', f'--root_dir={data_root_dir}',
      f'--config_file=dcfg_{data_name}', f'--n_samples={FLAGS.n_train}',
      f'--n_eval_episodes={FLAGS.n_eval_episodes}', *more,
    )  # fmt: skip

  def training(env_name: str, data_name: str, preset: str, seed: int) -> str:
    """Its job's name; none where it is finished."""
    data = os.path.join(env_name, data_name, f'n{FLAGS.n_train}')
    folder = os.path.join(root_dir, data, preset, '0', str(seed))
    if preset not in presets:  # the clone, for the sake of another one
      presets[preset] = _preset(config_dir, preset)
    if results.is_finished(folder, FLAGS.total_train_steps):
      finished.add(folder)
      version = _check_settings(folder, presets[preset])
      if version is None:
        untold.add(folder)
      elif version != runs.version():
        older.add(folder)
      return ''
    needs = [collection(env_name, data_name)]
    clone = agents.load(presets[preset].agent_name).CLONE
    if clone:
      clone_seed = _clone_to_train(clone.agent, root_dir, data, seed)
      if clone.agent in FLAGS.presets:
        needs.append(training(env_name, data_name, clone.agent, seed))
      elif clone_seed is not None:
        needs.append(training(env_name, data_name, clone.agent, clone_seed))
      if clone_seed is not None and not needs[-1]:
        raise UserError(
          f'{env_name} {data_name} {preset} {seed} needs a clone: {clone.agent} is finished there, '
          'but its agent_behavior is gone; remove the folder of that run, and it is trained again'
        )
    return job(
      env_name, data_name, f'{preset} {seed}', needs, 'brac.train_offline',
      f'--gin_file={presets[preset].path}',
      f'--root_dir={root_dir}', f'--data_root_dir={data_root_dir}', f'--n_train={FLAGS.n_train}',
      f'--seed={seed}', f'--total_train_steps={FLAGS.total_train_steps}',
      f'--n_eval_episodes={FLAGS.n_eval_episodes}', *given,
    )  # fmt: skip

  for seed in dict.fromkeys(map(int, FLAGS.seeds)):
    for env_name in FLAGS.env_names:
      for data_name in FLAGS.data_names:
        for preset in dict.fromkeys(FLAGS.presets):
          training(env_name, data_name, preset, seed)
  if untold:
    notes[''] = (
      f'{len(untold)} of {len(finished)} finished runs do not tell their settings, as '
      f'{min(untold)}: they are taken for what is asked for'
    )
  if older:
    notes['older'] = (
      f'{len(older)} of {len(finished)} finished runs were trained by another version of the code, '
      f'as {min(older)}; they are taken as they are'
    )
  return list(jobs.values()), len(finished), list(notes.values())


def _config(folder: str, name: str, ending: str) -> str:
  path = os.path.join(folder, name + ending)
  if not os.path.isfile(path):
    there = os.listdir(folder) if os.path.isdir(folder) else []
    names = [n[: -len(ending)] for n in there if n.endswith(ending)]
    near = difflib.get_close_matches(name, names, 1, 0.3)
    raise UserError(f'there is no {path}' + (f'; did you mean {near[0]!r}?' if near else ''))
  return path


class Preset(NamedTuple):
  """A preset with the --gin_bindings."""

  path: str
  agent_name: str
  settings: Dict[str, object]  # what they bind


def _preset(config_dir: str, name: str) -> Preset:
  """The preset of that name in a folder, or among the project's own.

  Raises:
    UserError: there is none, gin does not understand it, or it binds no agent's name and would
      train --agent_name's in that one's folder.
  """
  own = os.path.join(project_folder('configs'), name + '.gin')
  has = os.path.isfile(os.path.join(config_dir, name + '.gin')) or not os.path.isfile(own)
  path = _config(config_dir, name, '.gin') if has else own
  preset = gin_config.parse([path], FLAGS.gin_bindings)
  if preset.agent_name is None:
    raise UserError(f'{path} binds no train_eval_offline.agent_name')
  return Preset(path, preset.agent_name, preset.bound)


def _check_settings(folder: str, preset: Preset) -> Optional[str]:
  """The version of the code that trained a finished run; None where it tells no settings.

  Raises:
    UserError: they are others.
  """
  from brac import agents, checkpoints, runs

  path = os.path.join(folder, 'agent')
  clone = agents.load(preset.agent_name).CLONE
  then = runs.kept_settings(path) if checkpoints.exists(path) else results.read_settings(folder)
  changes = []
  for name, value in {**preset.settings, '--n_eval_episodes': FLAGS.n_eval_episodes}.items():
    try:
      was = ast.literal_eval(then[name])
    except (KeyError, ValueError, SyntaxError):  # nothing depends on it, or it names a function
      continue
    if clone and name.endswith(f'.{clone.parameter}'):  # None, and the clone it stood for
      continue
    if not same(was, value):
      changes.append(f'{name} was {was!r}, is {value!r}')
  if changes:
    raise UserError(
      f'{folder} is finished, with other settings: {"; ".join(changes)}; choose another --root_dir'
    )
  return then.get('version', 'unknown') if then else None


def _clone_to_train(agent: str, root_dir: str, data: str, seed: int) -> Optional[int]:
  """The seed of the clone that has to be trained for a run; None where there is one to take.

  That is the one which train_offline will take: half trained, it does not do. One that tells
  nothing of its training was put there, or is shipped.
  """
  from brac import checkpoints, clones

  for path in clones.places(agent, root_dir, data, '0', seed):
    if checkpoints.exists(path):
      folder = os.path.dirname(path)
      return int(os.path.basename(folder)) if results.is_half_trained(folder) else None
  return 0


def run_jobs(jobs: Sequence[Job], n_jobs: int) -> Dict[str, str]:
  """Runs jobs, `n_jobs` at a time, until all are over or a signal asks to stop.

  Each has cores of its own, as far as there are enough: two trainings on a core each do a
  third more than two that share both.

  Returns:
    The names of those that failed, and why.
  """
  from brac import runs

  waiting, over, failed = list(jobs), set(), {}
  running: Dict[str, Tuple[Job, List[int], subprocess.Popen, float]] = {}
  free = shares(sorted(os.sched_getaffinity(0)), min(n_jobs, len(jobs)))
  try:
    while (waiting or running) and not runs.stop_requested():
      for name, (job, cores, process, start) in list(running.items()):
        if process.poll() is not None:
          del running[name]
          free.append(cores)
          over.add(name)
          if process.returncode:
            reason = [f'exit status {process.returncode}', _last_line(job.log), job.log]
            failed[name] = ': '.join(filter(None, reason))
          state = failed.get(name) or f'done in {time.monotonic() - start:.0f} s'
          print(f'[{len(over)} of {len(jobs)}] {name}: {state}', flush=True)
      for job in list(waiting):
        lacking = [name for name in job.needs if name in failed]
        if lacking:
          failed[job.name] = f'not started, as it needs {lacking[0]}'
          over.add(job.name)
          waiting.remove(job)
        elif len(running) < n_jobs and over.issuperset(job.needs):
          cores = free.pop(0)
          running[job.name] = job, cores, _start(job, cores), time.monotonic()
          waiting.remove(job)
      time.sleep(0.2)
  finally:
    _stop([process for _, _, process, _ in running.values()])
  return failed


def shares(cores: Sequence[int], n: int) -> List[List[int]]:
  """The cores of each of n jobs: parts of `cores`, or one of them where there are more jobs."""
  return [list(cores[k::n]) or [cores[k % len(cores)]] for k in range(n)]


def _start(job: Job, cores: Sequence[int]) -> subprocess.Popen:
  print(f'{job.name}: started, {job.log}', flush=True)
  os.makedirs(os.path.dirname(job.log), exist_ok=True)
  all_cores = os.sched_getaffinity(0)
  os.sched_setaffinity(0, cores)  # which the new process takes over from this thread
  with open(job.log, 'a') as log:
    # In a session of its own: a Ctrl-C at the terminal would reach it as well as our signal, and
    # the second of two makes a program end without its save.
    try:
      return subprocess.Popen(
        job.command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
      )
    finally:
      os.sched_setaffinity(0, all_cores)


def _last_line(log: str) -> str:
  """What a program that failed said last: why."""
  with open(log, errors='replace') as f:
    return next((line.strip() for line in reversed(list(f)) if line.strip()), '')


def _stop(processes: Sequence[subprocess.Popen]) -> None:
  """Lets processes save and end; at a further signal, end."""
  for process in processes:
    process.send_signal(signal.SIGTERM)
  try:
    for process in processes:
      process.wait()
  except KeyboardInterrupt:
    for process in processes:
      process.send_signal(signal.SIGTERM)
    for process in processes:
      process.wait()
    raise


def main() -> None:
  from brac import runs

  # A terminal that is closed stops the runs as well, unless nohup was to keep them.
  if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
  jobs, n_finished, notes = plan()
  for note in notes:
    print(note, file=sys.stderr)
  if not jobs and not n_finished:
    raise UserError('no run is asked for: --env_names, --data_names, --presets or --seeds is empty')
  print(f'{len(jobs)} programs to run, {FLAGS.n_jobs} at a time; {n_finished} runs are finished')
  if FLAGS.dry_run:
    for job in jobs:
      print(shlex.join(job.command))
    return
  failed = run_jobs(jobs, FLAGS.n_jobs)
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
  programs.run(main)
