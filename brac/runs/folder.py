"""A run's folder: the one place that knows how a run begins, goes on, is saved and ends."""

import os
import zlib
from typing import Optional, Sequence

import gin

from brac import checkpoints, files, operative, results
from brac.errors import UserError
from brac.runs import session
from brac.runs.lock import Lock
from brac.runs.record import Record
from brac.runs.settings import Settings


class RunFolder:
  """The folder of a run, taken for this process as long as the `with` statement lasts.

  Example:
    with RunFolder(path, settings) as run:
      if run.resume(['agent']):
        agent.restore(run.at('agent'))
      record = run.open_record(['main'], agent.step)
      ...
      run.save('agent', keep=True, **agent.state)
  """

  def __init__(
    self,
    path: str,
    settings: Settings,
    allow_changed_config: bool = False,
    total_train_steps: Optional[int] = None,
    about: Optional[results.About] = None,
  ):
    """Takes the folder, which is made where it is not there.

    Args:
      path: the folder.
      settings: what the run is; complete, which is to say taken after all of it was made.
      allow_changed_config: whether it may go on with other settings.
      total_train_steps: the end, where the folder is to tell how far from it the run is.
      about: what it tells besides, of what run it has.

    Raises:
      UserError: another process has it, or it cannot be written.
    """
    self.path, self._settings, self._allow = path, settings, allow_changed_config
    self._total, self._about = total_train_steps, about
    self._lock = Lock(path)

  def __enter__(self) -> 'RunFolder':
    return self

  def __exit__(self, *_) -> None:
    self._lock.release()

  def at(self, name: str) -> str:
    """The path of a file in it."""
    return os.path.join(self.path, name)

  def find(self, *saves: Sequence[str]) -> Optional[Sequence[str]]:
    """The first of `saves`, each the names of files that belong together, that is there and whole.

    Where the last of a file's saves is damaged the one before takes its place.

    Raises:
      UserError: there are such files, and none of `saves` is whole.
    """
    there = [names for names in saves if any(checkpoints.exists(self.at(n)) for n in names)]
    faults = []
    for names in there:
      alone = len(names) == 1 and names is there[-1]
      unfit = [n for n in names if not checkpoints.recover(self.at(n), needed=alone)]
      if not unfit:
        return names
      faults.append((self.at(unfit[0]), ' and '.join(map(self.at, names))))
    if faults:
      path, paths = faults[0]
      raise UserError(
        f'{path} is damaged or not there, and the run goes on from {paths}: put a good copy in its '
        'place, or begin again in another --sub_dir'
      )
    return None

  def resume(self, *saves: Sequence[str]) -> Optional[Sequence[str]]:
    """What `find` finds, once the settings that are saved there are compared with the run's.

    Raises:
      UserError: see `find`; or they are others.
    """
    found = self.find(*saves)
    if found:
      self._settings.check(self.at(found[0]), self._allow)
    return found

  def check_same(self, name: str) -> None:
    """Raises UserError where what is saved is not what the settings would give."""
    path = self.at(name)
    changes = self._settings.changes(path)
    differ = changes.refused + changes.asked if changes else []
    if differ or changes is None:
      how = f', made with other settings: {"; ".join(differ)}' if differ else ''
      raise UserError(f'{path} is there already{how}; remove it, or choose another --sub_dir')

  def check_not_lost(self, name: str) -> None:
    """Raises UserError where the folder tells of a run that was saved and its save is gone."""
    results.check_not_lost(self.path, self.at(name))

  def has(self, name: str) -> bool:
    """Whether there is a save of that name, and it is whole."""
    return checkpoints.recover(self.at(name), needed=False)

  def open_record(self, policy_names: Sequence[str], step: int) -> Record:
    """The record of a run that stands at a step; the run's settings are written there as well.

    Raises:
      UserError: it is damaged, or cannot be written.
    """
    record = Record(self.path, policy_names, step)
    self._settings.write(self.path)
    session.begin(self.path, *self._described(), gin.operative_config_str())
    if step < (self._total or 0):  # a run that tells that it is finished is evaluated as well
      self.write_progress(step)
    return record

  def _described(self) -> tuple[str, dict[str, object]]:
    """The run's name, and what tells it from others: with what the user may have tuned."""
    flags, about = self._settings.flags, self._about
    values = {k.removesuffix('_name'): flags[k] for k in ('agent_name', 'env_name') if k in flags}
    name = '/'.join(os.path.abspath(self.path).split(os.sep)[-3:])
    if about:
      place = about.env_name, about.data_name, f'n{about.n_train}', about.agent, about.sub_dir
      name = '/'.join([*place, str(about.seed)])
      values.update(preset=about.agent, data=about.data_name, n_train=about.n_train)
    if 'seed' in flags:
      values['seed'] = flags['seed']
    simple = {k: v for k, v in operative.tuned().items() if isinstance(v, (bool, int, float, str))}
    # TensorBoard makes one row of runs of one name, as there are in two trees.
    return f'{name} {zlib.crc32(os.path.abspath(self.path).encode()):08x}', {**values, **simple}

  def evaluated(self, step: int) -> bool:
    """Whether the record has the evaluation at a step."""
    try:
      return step in results.read_results(self.at(results.RESULTS))[0]
    except ValueError:
      return False

  def save(self, name: str, keep: bool = False, **objects) -> None:
    """Saves objects with the settings of the run; see `checkpoints.save`."""
    checkpoints.save(self.at(name), keep, **objects, settings=self._settings.variable)

  def end(self, step: int) -> None:
    """Writes down that the run is at its end, saved and evaluated."""
    session.end(self.path)  # first: what progress.json calls finished is not ended again
    self.write_progress(step)

  def write_finished(self, step: int) -> None:
    """The same for a run that has nothing left to do; what tells so already keeps its command."""
    if not results.is_finished(self.path, step):
      self.end(step)

  def write_progress(self, step: int) -> None:
    """Writes down at what step the run is saved and evaluated."""
    if self._total is not None:
      with files.writing(self.path):
        results.write_progress(self.path, step, self._total, self._about)
