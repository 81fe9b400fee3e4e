"""What has to be run for a grid: its trainings, and the data and clones that they need."""

import ast
import dataclasses
import functools
import os
import re
import sys
from typing import Callable, Optional, Sequence

from brac import gin_config, results
from brac.data_config import folder_name, project_folder
from brac.errors import UserError
from brac.grids import presets
from brac.grids.jobs import Job
from brac.hyperparameters import same

_IS_OF_ENVIRONMENTS = re.compile(rf'\s*({"|".join(gin_config.OF_ENVIRONMENTS)})\.')


@dataclasses.dataclass(frozen=True)
class Grid:
  """What all trainings of a grid have in common; the attributes are run_paper's flags."""

  root_dir: str
  data_root_dir: str
  config_dir: str
  policy_root_dir: Optional[str]
  n_train: int
  total_train_steps: int
  n_eval_episodes: int
  gin_bindings: Sequence[str]


class Plan:
  """The jobs of a grid, in the order in which they were asked for.

  Attributes:
    jobs: by their names.
    finished: the folders of trainings that need no job.
  """

  def __init__(self, grid: Grid, names: Sequence[str] = (), tuned: bool = False):
    """Plans nothing yet.

    Args:
      grid: what all trainings have in common.
      names: the presets of the grid: where a clone is one of them, each training has its seed's.
      tuned: whether presets that are tuned for an environment take the place of the plain ones.
    """
    self._grid, self._names, self._tuned = grid, names, tuned
    self.jobs: dict[str, Job] = {}
    self.finished: set[str] = set()
    self._untold: set[str] = set()
    self._older: set[str] = set()
    self._longer: set[str] = set()
    self._data_notes: dict[str, str] = {}
    self._presets: dict[tuple[str, str], presets.Preset] = {}

  def preset(self, name: str, env_name: str) -> presets.Preset:
    """Reads a preset for an environment, once; raises UserError where that cannot be."""
    if (name, env_name) not in self._presets:
      config_dir = self._grid.config_dir
      path = presets.find_tuned(config_dir, name, env_name) if self._tuned else None
      path = path or presets.find_preset(config_dir, name)
      self._presets[name, env_name] = presets.load_of_many(path, self._grid.gin_bindings)
    return self._presets[name, env_name]

  def check_bindings(self) -> None:
    """Raises UserError where a binding is of a macro that none of the presets read so far has."""
    presets.check_bindings(self._presets.values())

  def collection(self, env_name: str, data_name: str) -> Optional[str]:
    """Plans for the data; returns the name of the job, None where the data is there."""
    from brac import checkpoints

    grid = self._grid
    path = self._data_file(env_name, data_name)
    if checkpoints.exists(path):
      self._compare_size(path)
      return None
    config_file = f'dcfg_{folder_name(data_name)}'
    config = presets.find_here_or_ours(grid.config_dir, config_file, '.py')
    flags = dict(
      root_dir=grid.data_root_dir,
      config_file=config_file,
      n_samples=grid.n_train,
      n_eval_episodes=grid.n_eval_episodes,
    )
    if os.path.dirname(config) != project_folder('configs'):
      flags['config_dir'] = os.path.dirname(config)
    if grid.policy_root_dir:
      flags['policy_root_dir'] = grid.policy_root_dir
    folder, what = os.path.dirname(path), 'collection'
    is_done = functools.partial(checkpoints.exists, path)
    # What is bound of the environment is bound of the one that the data are of.
    of_it = [x for x in grid.gin_bindings if _IS_OF_ENVIRONMENTS.match(x)]
    return self._job('collect_data', env_name, data_name, what, (), flags, folder, is_done, of_it)

  def training(
    self, env_name: str, data_name: str, preset: str, seed: int, sub_dir: str = '0'
  ) -> Optional[str]:
    """Plans for a run; returns the name of the job, None where the run is finished.

    Raises:
      UserError: it is finished with other settings, or what it needs cannot be had.
    """
    grid, loaded = self._grid, self.preset(preset, env_name)
    data = self._data(env_name, data_name)
    folder = os.path.join(grid.root_dir, data, preset, sub_dir, str(seed))
    if results.is_finished(folder, grid.total_train_steps):
      self._note_finished(folder, env_name, data_name, loaded, seed)
      return None
    needs = [self.collection(env_name, data_name), self.clone(env_name, data_name, preset, seed)]
    flags = dict(
      gin_file=loaded.path,
      root_dir=grid.root_dir,
      data_root_dir=grid.data_root_dir,
      n_train=grid.n_train,
      seed=seed,
      total_train_steps=grid.total_train_steps,
      n_eval_episodes=grid.n_eval_episodes,
    )
    what = f'{preset} {seed}'
    if sub_dir != '0':
      flags['sub_dir'], what = sub_dir, f'{preset} {sub_dir} {seed}'
    is_done = functools.partial(results.is_finished, folder, grid.total_train_steps)
    return self._job(
      'train_offline', env_name, data_name, what, needs, flags, folder, is_done,
      loaded.gin_bindings,
    )  # fmt: skip

  def clone(self, env_name: str, data_name: str, preset: str, seed: int) -> Optional[str]:
    """Plans for the clone that a run will take; returns the name of the job, None without one.

    Raises:
      UserError: it is finished, but gone.
    """
    from brac import agents

    clone = agents.load(self.preset(preset, env_name).agent_name).CLONE
    if not clone:
      return None
    data = self._data(env_name, data_name)
    clone_seed = self._clone_to_train(clone.agent, data_name, data, seed)
    if clone.agent in self._names:
      job = self.training(env_name, data_name, clone.agent, seed)
    elif clone_seed is not None:
      job = self.training(env_name, data_name, clone.agent, clone_seed)
    else:
      return None
    if clone_seed is not None and not job:
      raise UserError(
        f'{env_name} {data_name} {preset} {seed} needs a clone: {clone.agent} is finished there, '
        'but its agent_behavior is gone; remove the folder of that run, and it is trained again'
      )
    return job

  def notes(self) -> list[str]:
    """What is to be known of the data, the presets, and the finished runs that are taken."""
    notes = list(self._data_notes.values())
    for env_name in dict.fromkeys(env_name for _, env_name in self._presets):
      tuned = [
        name + preset.searched
        for (name, env), preset in self._presets.items()
        if env == env_name and preset.is_tuned
      ]
      if tuned:
        notes.append(f'tuned for {env_name}: {", ".join(tuned)}; --notuned takes the plain presets')
    more = f'are of more than {self._grid.total_train_steps} steps'
    for folders, what, taken in (
      (self._untold, 'do not tell their settings', ': they are taken for what is asked for'),
      (self._older, 'were trained by another version of the code', '; they are taken as they are'),
      (self._longer, more, ': no run of fewer is averaged with them'),
    ):
      if folders:
        of = f'{len(folders)} of {len(self.finished)} finished runs'
        notes.append(f'{of} {what}, as {min(folders)}{taken}')
    return notes

  def check(self, env_name: str, data_name: str, preset: str, seed: int, folder: str) -> None:
    """Raises UserError where the run in a folder was trained with other settings."""
    try:
      then = _kept_settings(folder)
    except UserError:  # it is damaged, which it says when it goes on
      return
    self._check_settings(folder, env_name, data_name, self.preset(preset, env_name), seed, then)

  def _data(self, env_name: str, data_name: str) -> str:
    return os.path.join(*map(folder_name, (env_name, data_name)), f'n{self._grid.n_train}')

  def _job(
    self,
    program: str,
    env_name: str,
    data_name: str,
    what: str,
    needs: Sequence[Optional[str]],
    flags: dict[str, object],
    folder: str,
    is_done: Callable[[], bool],
    gin_bindings: Sequence[str] = (),
  ) -> str:
    """Notes a job down, if it was not; returns its name."""
    grid, name = self._grid, f'{env_name} {data_name} {what}'
    if name not in self.jobs:
      command = [sys.executable, '-m', f'brac.{program}']
      command += [f'--{flag}={value}' for flag, value in flags.items()]
      command += [f'--gin_bindings={binding}' for binding in gin_bindings]
      command += [f'--env_name={env_name}', f'--data_name={data_name}']
      file_name = f'{re.sub("[ /:]", "_", name)}_n{grid.n_train}.log'
      log = os.path.join(grid.root_dir, 'logs', file_name)
      self.jobs[name] = Job(name, command, log, tuple(filter(None, needs)), folder, is_done)
    return name

  def _clone_to_train(self, agent: str, data_name: str, data: str, seed: int) -> Optional[int]:
    """The seed of the clone that has to be trained for a run; None where there is one to take.

    That is the one which train_offline will take: half trained, it does not do. One that tells
    nothing of its training was put there, or is shipped: of the shipped policies' data.
    """
    from brac import checkpoints, clones

    grid = self._grid
    config = os.path.join(grid.config_dir, f'dcfg_{folder_name(data_name)}.py')
    is_ours = grid.config_dir == project_folder('configs') or not os.path.isfile(config)
    own_data = grid.policy_root_dir or not is_ours
    for path in clones.places(agent, grid.root_dir, data, '0', seed):
      if checkpoints.exists(path) and not (own_data and clones.is_shipped(path)):
        folder = os.path.dirname(path)
        if results.is_half_trained(folder):
          return int(os.path.basename(folder))
        theirs = clones.origin(path).data
        data_file = os.path.join(grid.data_root_dir, os.path.dirname(data), '0', 'data')
        here = _fingerprint(data_file, grid.n_train) if theirs else _UNKNOWN
        if here not in (theirs, _UNKNOWN):
          self._data_notes[path] = f'{path} was cloned from other data than {data_file}'
        return None
    return 0

  def _compare_size(self, path: str) -> None:
    """Notes where a dataset is not of the size that is asked for."""
    from brac.data import stored

    if path not in self._data_notes:
      n, wanted = stored.size_of(path), self._grid.n_train
      if n != wanted:
        used = f'the first {wanted}' if n > wanted else 'all'
        self._data_notes[path] = f'{path} has {n} transitions: {used} of them are used'

  def _data_file(self, env_name: str, data_name: str) -> str:
    place = map(folder_name, (env_name, data_name))
    return os.path.join(self._grid.data_root_dir, *place, '0', 'data')

  def _note_finished(
    self, folder: str, env_name: str, data_name: str, preset: presets.Preset, seed: int
  ) -> None:
    from brac import runs

    self.finished.add(folder)
    then = _kept_settings(folder)
    self._check_settings(folder, env_name, data_name, preset, seed, then)
    if (results.read_progress(folder) or (0,))[0] > self._grid.total_train_steps:
      self._longer.add(folder)
    if not then:
      self._untold.add(folder)
    elif then.get('version', 'unknown') != runs.version():
      self._older.add(folder)

  def _check_settings(
    self,
    folder: str,
    env_name: str,
    data_name: str,
    preset: presets.Preset,
    seed: int,
    then: dict[str, str],
  ) -> None:
    """Raises UserError where the settings that a run was trained with are others."""
    from brac import agents

    clone = agents.load(preset.agent_name).CLONE
    changes = []
    flags = {'--agent_name': preset.agent_name, '--env_name': env_name, '--seed': seed}
    asked, n_episodes = {**preset.settings, **flags}, self._grid.n_eval_episodes
    if n_episodes:  # 0: there are no evaluations that the trainings would be compared by
      asked['--n_eval_episodes'] = n_episodes
    for name in then.keys() - asked.keys():
      if _is_gins(name):
        asked[name] = _value(gin_config.default(name))
    if '--data' in then and all(same(asked.get(name, x), x) for name, x in _DATA_AS_IT_IS.items()):
      asked['--data'] = _fingerprint(self._data_file(env_name, data_name), self._grid.n_train)
    for name, value in asked.items():
      was = _value(then.get(name))
      if _UNKNOWN in (was, value):
        continue
      if clone and name.endswith(f'.{clone.parameter}'):  # None, and the clone it stood for
        continue
      if not same(was, value):
        changes.append(f'{name} was {was!r}, is {value!r}')
    if changes:
      plain = f', or --notuned: {preset.path} is tuned' if preset.is_tuned else ''
      raise UserError(
        f'{folder} was trained with other settings: {"; ".join(changes)}; choose another '
        f'--root_dir{plain}'
      )


# With these a run takes the first of the data, as they are stored.
_DATA_AS_IT_IS = {
  'train_eval_offline.shuffle_steps': 0,
  'train_eval_offline.out_of_box_actions': 'count',
  'train_eval_offline.validation_fraction': 0.0,
}
_UNKNOWN = object()


def _value(text: Optional[str]) -> object:
  """What a setting's text says; `_UNKNOWN` of none, or of one that names a function."""
  try:
    return _UNKNOWN if text is None else ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return _UNKNOWN


def _fingerprint(path: str, n: int) -> object:
  """That of the first n transitions of the data at a path; `_UNKNOWN` where they are gone."""
  from brac import checkpoints

  if not checkpoints.exists(path):
    return _UNKNOWN
  return _fingerprint_of(path, n, checkpoints.stamp(path))


@functools.lru_cache(maxsize=None)
def _fingerprint_of(path: str, n: int, stamp: object) -> str:
  from brac.data import stored, transitions

  rows = stored.load(path, *stored.widths(path))
  return transitions.fingerprint(transitions.take(rows, slice(0, n)))


def _is_gins(name: str) -> bool:
  """Whether a setting is a parameter of gin's that numbers depend on."""
  if name.startswith(('-', '$')) or name.rpartition('.')[2] in results.NO_NUMBER_DEPENDS_ON:
    return False
  return '.' in name


def _kept_settings(folder: str) -> dict[str, str]:
  """What a run was trained with, its checkpoint's word before its text's; {} where untold."""
  from brac import checkpoints

  path = os.path.join(folder, 'agent')
  return (
    checkpoints.kept_settings(path) if checkpoints.exists(path) else results.read_settings(folder)
  )
