"""A search for the values of a preset, by successive halving, that several machines share.

What a trial is worth is read from its run's folder; the study, optuna's journal, keeps what was
tried and says when a trial is to be stopped. So a search that is killed at any moment, or has lost
its journal, goes on from the folders; and runs that were made otherwise are taken for trials.

The rule is that of Li et al., A System for Massively Parallel Hyperparameter Tuning, arXiv
1810.05934: at each rung the best 1/η of those that have come there go on. A trial that optuna's
pruner stopped, which knows only those before it, goes on when it turns out to be among the best.
"""

import contextlib
import functools
import math
import os
import time
import warnings
from collections.abc import Iterable
from typing import IO, Callable, Optional

from absl import logging

from brac import files, results
from brac.errors import InUse, UserError
from brac.grids.jobs import (
  Backend,
  Job,
  JournalLock,
  Kills,
  Started,
  WaitingLock,
  is_in_use,
  stop_all,
  try_lock,
)
from brac.grids.metrics import Metric
from brac.grids.pruner import make_pruner
from brac.grids.space import Curve, Halving, Point, Space, Standing
from brac.grids.tables import shown

JOURNAL = 'study.journal'
_LOOK = 10  # of so many polls, at one it is looked for what others have left or found out


def optuna():
  """The library; raises UserError where it is not installed."""
  try:
    import optuna
  except ImportError:
    raise UserError('a search needs optuna, which is not here: pip install "brac[sweep]"') from None
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  warnings.filterwarnings('ignore', category=optuna.exceptions.ExperimentalWarning)
  return optuna


class Search:
  """The trials of a preset on an environment's data.

  Attributes:
    name: for people.
    space: what is tried.
    schedule: how trials are compared.
    metric: by what.
    folder: where the study is, and below it the runs, at {point}/{seed}.
    seed: of the runs.
    others_run: whether the last `next` found points that somebody is at work on.
  """

  def __init__(
    self,
    name: str,
    space: Space,
    schedule: Halving,
    folder: str,
    seed: int,
    job_of: Callable[[Point, int], Job],
    metric: Metric,
  ):
    """Opens a study, or makes one; `job_of` says how a point is trained to a number of steps."""
    self.name, self.space, self.schedule, self.metric = name, space, schedule, metric
    self.folder, self.seed, self.job_of = folder, seed, job_of
    self._faults: dict[str, tuple[str, tuple[int, ...]]] = {}
    self.others_run = False
    self._in_hand: list[Point] = []
    self.kills = Kills()
    self._points, self._rungs = space.points(), schedule.rungs()
    self._study = self._open()
    self._asking = WaitingLock(os.path.join(folder, JOURNAL + '.asking'))
    self._settle()

  def run_folder(self, point: Point) -> str:
    return os.path.join(self.folder, point.name, str(self.seed))

  def judged_by(self) -> str:
    """The evaluated policy that the trials are compared by."""
    told = map(results.read_about, map(self.run_folder, self._points))
    return self.space.policy or next((about.judged_by for about in told if about), 'main')

  def take_in(self, others: Iterable[Point]) -> None:
    """Counts the trials of other grids that others have trained since it was opened."""
    self.space = self.space._replace(others=tuple(others))
    self._points = self.space.points()

  @property
  def faults(self) -> dict[str, str]:
    """Why trials of this process failed, by the points' names, where nobody has brought them on."""
    there = {s.point.name: s.curve.steps for s in self.standings()} if self._faults else {}
    return {name: why for name, (why, steps) in self._faults.items() if there[name] == steps}

  def note_fault(self, point: Point, why: str) -> None:
    """Keeps why a trial failed where it stands."""
    self._faults[point.name] = why, self.curve(point).steps

  def standings(self) -> list[Standing]:
    """How far all points have come, as their folders tell it now."""
    found = []
    for point in self._points:
      curve = self.curve(point)
      values = [curve.mean(self.metric.last, step) for step in self._rungs]
      found.append(Standing(point, curve, values))
    return found

  def curve(self, point: Point) -> Curve:
    """What the run of a point was worth at its steps, as its folder tells it now."""
    try:
      return self.metric.curve(self.run_folder(point), self.space.policy)
    except UserError as error:
      raise UserError(f'grid {self.space.path}: {error}') from None

  def best(self, standings: Optional[list[Standing]] = None) -> Optional[Standing]:
    """The best of those that have come farthest; None where none has come to the first rung.

    One whose evaluations there failed is none of them.
    """
    faults = self.faults
    sound = [s for s in standings or self.standings() if s.level and s.point.name not in faults]
    sound = [s for s in sound if s.worth(s.level - 1) > -math.inf]
    return max(sound, key=lambda s: (s.level, s.worth(s.level - 1)), default=None)

  def next(self) -> Optional['Trial']:
    """Takes the trial to be run next; None where there is none, or others are at work on it."""
    self._settle()
    self.others_run = False
    standings = self.standings()
    for point in self._wanted(standings):
      if trial := self._claim(point):
        return trial
    first = self.best(standings)
    if self.others_run or not first or first.level == len(self._rungs):
      return None
    return self._claim(first.point)  # of too few for a part of them to go on

  def is_through(self) -> bool:
    """Whether no trial is left to be run, by anyone."""
    standings = self.standings()
    first = self.best(standings)
    return not self._wanted(standings) and (not first or first.level == len(self._rungs))

  def _settle(self) -> None:
    """Closes the trials of processes that are dead, and takes in runs that the study has not."""
    states = optuna().trial.TrialState
    with self._asking:
      for trial in self._study.get_trials(deepcopy=False, states=[states.RUNNING]):
        if trial.params.keys() != self.space.values.keys():  # its process died while it asked
          self._study.tell(trial.number, state=states.FAIL, skip_if_finished=True)
    interrupted = self._interrupted()
    for standing in (s for s in self.standings() if s.point not in interrupted):
      known = self._trials_of(standing.point, states.COMPLETE, states.PRUNED)
      running = self._trials_of(standing.point, states.RUNNING)  # or dead
      if running or standing.level and not known:
        if trial := self._claim(standing.point):
          # One that nobody stopped goes on: `_interrupted`.
          trial.end(interrupted=bool(running) and not trial.is_beaten)

  def _wanted(self, standings: list[Standing]) -> list[Point]:
    """The points to be trained: the coarse ones, the best at each rung, then those near them."""
    first, faults = self.best(standings), self.faults
    own = [s for s in standings if s.point.at]  # of this grid
    begun = [s.point for s in own if os.path.isdir(self.run_folder(s.point))]
    new = [s.point for s in own if s.point not in begun]
    if first:
      distance = self.space.distance_from(first.point)
      new.sort(key=lambda point: (not point.is_coarse, distance(point)))
    new = new[: max(0, self.schedule.max_trials - len(begun))]
    interrupted = self._interrupted()
    wanted = [s.point for s in own if s.point in begun and not s.level]
    wanted += [s.point for s in own if 0 < s.level < len(self._rungs) and s.point in interrupted]
    wanted += [point for point in new if point.is_coarse]
    for k in reversed(range(len(self._rungs) - 1)):
      there = sorted((s for s in standings if s.level > k), key=lambda s: -s.worth(k))
      n_best = len(there) // self.schedule.reduction
      sound = [s for s in there if s.point.name not in faults]
      wanted += [s.point for s in sound[:n_best] if s.level == k + 1]
    wanted += [point for point in new if not point.is_coarse]
    return [point for point in wanted if point.name not in faults]

  def _interrupted(self) -> list[Point]:
    """The points whose program ended before its time, though it was not to be stopped."""
    last = {tuple(sorted(t.params.items())): t for t in self._study.get_trials(deepcopy=False)}
    fail = optuna().trial.TrialState.FAIL
    trials = [(p, last.get(tuple(sorted(_floats(p).items())))) for p in self._points]
    return [p for p, t in trials if t and t.state == fail and 'fault' not in t.user_attrs]

  def _claim(self, point: Point) -> Optional['Trial']:
    """A trial of a point, unless a process is at work on it.

    Who has a trial holds a lock, from before its program starts, and the program one of its own.
    Where both are free a trial that the study has as running is a dead one.
    """
    folder = self.run_folder(point)
    if point in self._in_hand:  # a claim is no lock on a file system without them
      self.others_run = True
      return None
    claim = try_lock(os.path.join(folder, 'claim'))
    if not claim or is_in_use(folder):
      self.others_run = True
      if claim:
        claim.close()
      return None
    states = optuna().trial.TrialState
    for dead in self._trials_of(point, states.RUNNING):
      self._study.tell(dead.number, state=states.FAIL, skip_if_finished=True)
    return Trial(self, point, claim)

  def _open(self):
    """The study. A journal that is damaged is put aside: the folders tell enough."""
    path = os.path.join(self.folder, JOURNAL)
    lock = JournalLock(path)
    with files.writing(self.folder):
      os.makedirs(self.folder, exist_ok=True)
      lock.acquire()
      lock.release()
    try:
      return self._create(path, lock)
    except (ValueError, LookupError, TypeError, AssertionError, AttributeError) as error:
      os.replace(path, path + '.damaged')
      logging.warning('%s is damaged (%s): it is put aside and begun anew', path, error)
      return self._create(path, lock)

  def _create(self, path: str, lock):
    library, schedule = optuna(), self.schedule
    backend = library.storages.journal.JournalFileBackend(path, lock_obj=lock)
    judged = f'the last {self.metric.last} of {self.space.policy or "it"}'
    # Whether a value is on a logarithmic scale is not to change within a study.
    names = [x if min(self.space.tried(x)) > 0 else f'{x} (linear)' for x in self.space.values]
    tried = f'{", ".join(names)} by {judged}'
    if self.metric.name != 'return':
      tried += f', {self.metric.name}'
    n_coarse = sum(point.is_coarse for point in self._points)
    return library.create_study(
      storage=library.storages.JournalStorage(backend),
      study_name=f'{tried}, seed {self.seed}, rungs {schedule.first_rung} x {schedule.reduction}',
      direction='maximize',
      load_if_exists=True,
      pruner=make_pruner(
        library.pruners.SuccessiveHalvingPruner,
        min_resource=schedule.first_rung,
        reduction_factor=schedule.reduction,
        bootstrap_count=min(n_coarse, schedule.max_trials) - 1,
      ),
    )

  def _trials_of(self, point: Point, *states) -> list:
    trials = self._study.get_trials(deepcopy=False, states=states)
    return [trial for trial in trials if trial.params == _floats(point)]

  def ask(self, point: Point):
    """A trial of the study that has the values of a point."""
    samplers = optuna().samplers
    self._study.sampler = samplers.PartialFixedSampler(point.values, samplers.RandomSampler())
    with self._asking:
      asked = self._study.ask()
      for macro in self.space.values:
        values = self.space.tried(macro)
        asked.suggest_float(macro, values[0], values[-1], log=values[0] > 0)
    asked.set_user_attr('folder', self.run_folder(point))
    return asked

  def tell(self, asked, state: str, value: Optional[float] = None, fault: str = '') -> None:
    """Closes a trial of the study as COMPLETE, with its value, PRUNED or FAIL."""
    if fault:
      asked.set_user_attr('fault', fault)
    self._study.tell(asked, value, optuna().trial.TrialState[state], skip_if_finished=True)


def _floats(point: Point) -> dict[str, float]:
  """The values of a point as the study has them."""
  return {macro: float(value) for macro, value in point.values.items()}


class Trial:
  """A point in the hands of this process: its run, from where it stands to where it is stopped.

  Attributes:
    started: its program, once `start` was called.
    is_beaten: whether the pruner would stop it for what it did before.
  """

  def __init__(self, search: Search, point: Point, claim: IO):
    self.search, self.point, self._claim = search, point, claim
    search._in_hand.append(point)
    self.started: Optional[Started] = None
    self._asked, self._n_reported, self._pruned = search.ask(point), 0, False
    self._goal = search.schedule.total_train_steps
    self._following: Optional[Job] = None
    self._fault = ''
    self.is_beaten = self._report()

  def start(self, backend: Backend) -> bool:
    """Starts its program; whether it could be: what its folder tells may be damaged."""
    search = self.search
    (level,) = (s.level for s in search.standings() if s.point == self.point)
    self._goal = search.metric.goal(search.schedule.rungs(), level)
    folder, train = search.run_folder(self.point), functools.partial(search.job_of, self.point)
    self._backend, self._jobs = backend, search.metric.jobs(folder, train, self._goal)
    job = self._next_job()
    if job:
      self.started = backend.start(job)
    return bool(job)

  def _next_job(self) -> Optional[Job]:
    """The program that is to follow; None where there is none, or it cannot be told which."""
    try:
      return next(self._jobs, None)
    except UserError as error:  # of this trial, and no reason to end the search
      self._fault = str(error)
      return None

  def advance(self) -> bool:
    """Reports what is new, and stops the program where the pruner says so; whether it is over."""
    over = self.started.poll() is not None
    pruned = self._report()
    if self.started.poll() == 0 and not self._pruned and self._goes_on():
      return False
    if over:
      self._pruned |= pruned  # killed as it came to where it was to be stopped
      self.end()
    elif pruned and not self._pruned:
      self._pruned = True
      self.started.stop()
    return over

  def _goes_on(self) -> bool:
    """Whether a program is to follow on one that is over; it is started once there is room."""
    self._following = self._following or self._next_job()
    if not self._following:
      return False
    if self._backend.has_room():
      self.started, self._following = self._backend.start(self._following), None
    return True

  def end(self, interrupted: bool = False) -> None:
    """Tells the study what has become of it, and lets others have the point."""
    curve, last = self.search.curve(self.point), self.search.metric.last
    value = curve.mean(last, self.search.schedule.total_train_steps)
    is_there = not math.isnan(curve.mean(last, self._goal))
    status = self.started and self.started.poll()
    if self._fault:
      self._fail(self._fault)
    elif not math.isnan(value):
      self.search.tell(self._asked, 'COMPLETE', value)
    elif is_there or self._pruned or self._n_reported and not self.started and not interrupted:
      self.search.tell(self._asked, 'PRUNED')
    elif interrupted or not self.started or status == InUse.exit_status:
      self.search.tell(self._asked, 'FAIL')
    elif self.search.kills.is_tried_again(self.started):
      self.search.tell(self._asked, 'FAIL')
    else:
      self._fail(self.started.fault() or f'{self.started.log}: it ended before its time')
    self._claim.close()
    self.search._in_hand.remove(self.point)

  def _fail(self, fault: str) -> None:
    self.search.note_fault(self.point, fault)
    self.search.tell(self._asked, 'FAIL', fault=fault)

  def _report(self) -> bool:
    """Reports the evaluations that are new; whether the pruner stops the trial at one of them."""
    curve, pruned = self.search.curve(self.point), False
    # On a file system without locks another program may have taken it for a dead one.
    with contextlib.suppress(optuna().exceptions.UpdateFinishedTrialError):
      for step in curve.steps[self._n_reported :]:
        self._asked.report(curve.mean(self.search.metric.last, step), step)
        pruned |= step < self.search.schedule.total_train_steps and self._asked.should_prune()
    self._n_reported = max(self._n_reported, len(curve.steps))  # a kill may take some back
    return pruned


def run_searches(searches: list[Search], backend: Backend, poll_seconds: float = 1.0) -> None:
  """Runs the trials of searches until all are over or a signal asks to stop.

  Those of the first search come first; a later one has what room is left.
  """
  from brac import runs

  running: list[Trial] = []
  n_polls = 0
  try:
    while not runs.stop_requested():
      ended = [trial for trial in running if trial.advance()]
      for trial in ended:
        running.remove(trial)
        say_end(trial)
      if ended or n_polls % _LOOK == 0:
        while has_room := backend.has_room():
          trial = next(filter(None, (search.next() for search in searches)), None)
          if not trial:
            break
          if not trial.start(backend):
            trial.end()
            say_end(trial)
            continue
          running.append(trial)
          print(f'{trial.search.name} {trial.point.name}: started, {trial.started.log}', flush=True)
        # Without room nothing was asked for, and a search that is through needs none.
        through = has_room or all(search.is_through() for search in searches)
        if through and not running and not any(search.others_run for search in searches):
          return
      time.sleep(poll_seconds)
      n_polls += 1
  finally:
    stop_all([trial.started for trial in running])
    for trial in running:
      with contextlib.suppress(UserError):  # on its way already, and the others are to end as well
        trial.end(interrupted=True)


def say_end(trial: Trial) -> None:
  """Says on the terminal where a trial ended, and why."""
  search = trial.search
  name, fault = trial.point.name, search.faults.get(trial.point.name)
  curve, metric = search.curve(trial.point), search.metric
  at = f'step {curve.steps[-1]}' if curve.steps else 'no evaluation'
  mean = curve.mean(metric.last)
  what = f'{metric.name} {shown(mean)}' if math.isfinite(mean) else f'no {metric.name} that counts'
  worth = f', {what}' if curve.steps else ''
  print(f'{search.name} {name}: {at}{worth}{": failed: " + fault if fault else ""}', flush=True)
