"""What both experiments share: how the agent is made; train, summarize, save, evaluate."""

import contextlib
import math
import time
from typing import Callable, Iterable, NamedTuple, Optional, Sequence

import numpy as np
from absl import logging

from brac import agents, clones, runs
from brac.agents.agent import MAX_COUNT, Agent
from brac.agents.loop import Loop
from brac.data.replay import Dataset
from brac.errors import UserError, check_number, check_whole
from brac.networks import Box
from brac.rollouts import Evaluator, Interrupted

# Whoever has the experiments can bind the agents' parameters.
agents.load_all()

# The multipliers that updates train, by the names of the updates.
_TRAINED = {'a': 'alpha', 'ae': 'alpha_entropy'}
_LOOK_SECONDS = 5.0  # from one look at whether a signal came to the next, about
_FIRST_STEPS = 100  # that are taken before it is known how long a step takes


class Schedule(NamedTuple):
  """When what is due, in training steps; `save_minutes` in minutes since the last save."""

  total_train_steps: int
  summary_freq: int
  print_freq: int
  eval_freq: int
  save_freq: int
  save_minutes: float

  def check(self, where: str) -> None:
    """Raises UserError where a number makes no sense; `where` is the gin name it is bound by."""
    numbers = self._asdict()
    check_whole('', 1, MAX_COUNT, total_train_steps=numbers.pop('total_train_steps'))
    check_number(where, 0, save_minutes=numbers.pop('save_minutes'))
    check_whole(where, 1, **numbers)

  def next_stop(self, step: int) -> int:
    """The first step after `step` at which something is due."""
    periods = (self.summary_freq, self.print_freq, self.eval_freq, self.save_freq)
    return min([self.total_train_steps, *((step // int(p) + 1) * int(p) for p in periods)])

  def due(self, step: int, period: float) -> bool:
    """Whether what comes every `period` steps, and at the last, comes at `step`."""
    return step % int(period) == 0 or step == self.total_train_steps


def make_agent(
  name: str,
  specs: tuple,
  data: Dataset,
  seed: int,
  total_train_steps: int,
  own: Sequence[str],
  clone_search: Optional[clones.Lookup] = None,
  content: Optional[clones.Data] = None,
  **parameters,
) -> Agent:
  """An agent, with the clone that it is to have; says what it has to say of the training.

  Args:
    name: see `agents.load`.
    specs: of the observations and the actions.
    data: what it is trained on.
    seed: the run's.
    total_train_steps: how many steps it is to be trained.
    own: where the run may have been saved before, for its clone.
    clone_search, content: see `clones.bind`.
    parameters: those that all agents have, see `agents.agent.Agent`.
  """
  agent_class = agents.load(name)
  if agent_class.CLONE:
    parameter = f'{agent_class.name}.{agent_class.CLONE.parameter}'
    n_states, box = int(specs[0].shape[0]), Box.of(specs[1])
    clones.bind(parameter, n_states, box, own, clone_search, content)
  agent = agent_class(
    observation_spec=specs[0], action_spec=specs[1], data=data, seed=seed, **parameters
  )
  for remark in agent.remarks(total_train_steps):
    logging.warning('%s', remark)
  return agent


def train(
  what: str,
  loop: Loop,
  schedule: Schedule,
  evaluator: Evaluator,
  run: runs.RunFolder,
  clock: runs.Clock,
  save: Callable[[int], None],
  evaluated: Callable[[int, list[float]], None] = lambda step, returns: None,
  validation: Optional[Callable[[], dict[str, float]]] = None,
  film: Optional[Callable[[int], dict[str, bytes]]] = None,
) -> None:
  """Trains an agent up to `schedule.total_train_steps`.

  A step is saved before it is evaluated, so that nothing is lost by what an environment does. A run
  that was stopped in between is evaluated first where it goes on.

  Args:
    what: names the run on the terminal.
    loop: of an agent that stands at the step from which to go on.
    schedule: when what is due.
    evaluator: of the agent's policies.
    run: has the record that the numbers go to, which is opened here.
    clock: what counts how the time divides.
    save: saves the run at a step: when it is due, when it is late, and before a signal ends it.
    evaluated: is called with each evaluation and the mean returns of `main` so far.
    validation: gives the losses on rows that are held out, for each summary.
    film: gives the films of the last evaluation, by policy, where there are to be any.

  Raises:
    UserError: a number of the training is NaN or infinite.
    runs.Stopped: a signal came; the run is saved.
  """
  agent, total = loop.agent, schedule.total_train_steps
  first = step = agent.step
  is_due = step >= total or schedule.due(step, schedule.eval_freq)
  owes_evaluation = is_due and step > 0 and not run.evaluated(step)
  if step >= total and not owes_evaluation:
    run.write_finished(step)
    logging.info('the run has %d steps already: there is nothing to do', step)
    return
  record = run.open_record([*evaluator.names, *agent.ESTIMATES], step)
  progress = runs.Progress(what, total, step)
  watch = Watch(['div_mean', *(_TRAINED[u.name] for u in agent.updates if u.name in _TRAINED)])
  saved, saved_at, before, info = step or None, time.monotonic(), {}, {}
  most = _FIRST_STEPS

  def save_now() -> None:
    nonlocal saved, saved_at
    with clock('saving'):
      check_finite(step, info, before, agent.not_finite())
      record.flush()
      save(step)
      # A run that tells that it is finished is evaluated as well: until then it tells of what is.
      evaluated_at = max((int(row[0]) for row in record.results), default=0)
      run.write_progress(step if step < total else max(saved or 0, evaluated_at))
    saved, saved_at = step, time.monotonic()

  while step < total or owes_evaluation:
    if not owes_evaluation:
      start, target = time.monotonic(), min(schedule.next_stop(step), step + most)
      with clock('training'):
        before, info = info, loop.train(target - step)
      if step > first:  # the first call takes longer
        most = _steps_in_a_look((target - step) / (time.monotonic() - start))
      step = target
      progress.update(step)
      check_finite(step, info, before)
      if schedule.due(step, schedule.summary_freq):
        check_finite(step, info, before, agent.not_finite())
        record.summary(step, info)
        if validation:
          with clock('validation'):
            record.summary(step, validation(), 'validation')
        for warning in watch.look(step, info):
          logging.warning('%s', warning)
      if schedule.due(step, schedule.print_freq):
        progress.tell('; ' + short(info))
      owes_evaluation = schedule.due(step, schedule.eval_freq)
      if schedule.due(step, schedule.save_freq) or (
        time.monotonic() - saved_at > 60 * schedule.save_minutes
      ):
        save_now()
    if owes_evaluation and not runs.stop_requested():
      with contextlib.suppress(Interrupted):
        with clock('evaluation'):
          returns, estimates = evaluate(evaluator, step), agent.estimate()
        owes_evaluation = False
        # Told before it is written down: what is written is not evaluated again after a kill.
        evaluated(step, [*record.mean_returns('main'), float(np.mean(returns.get('main', np.nan)))])
        record.evaluation(step, returns, estimates)
        if film and step >= total:
          with clock('filming'):
            record.films(step, film(step))
        means = (f'{name} {x.mean():.1f} ± {x.std():.1f}' for name, x in returns.items())
        also = f'; {short(estimates)}' if estimates else ''
        progress.say(f'step {step}: return {", ".join(means) or "unknown"}{also}')
    if runs.stop_requested() and (step < total or owes_evaluation):
      if saved != step:
        save_now()
      progress.close()
      runs.stop(f'step {step} is saved: the same command goes on from there')
  run.end(step)
  progress.close()
  logging.info('%s', clock)


def _steps_in_a_look(steps_per_second: float) -> int:
  """How many steps to take before the next look at whether a signal came."""
  n = max(1, int(steps_per_second * _LOOK_SECONDS))
  return n - n % 100 if n > 100 else n  # other numbers may need another compiled loop


def evaluate(evaluator: Evaluator, step: int) -> dict[str, np.ndarray]:
  """The returns of an evaluation by policy; none where an environment failed, which is said.

  Raises:
    Interrupted: somebody asked the program to stop.
  """
  try:
    return {name: values for name, values in evaluator.run(step).items() if values.size}
  except UserError as error:
    logging.warning(
      'step %d could not be evaluated: %s; --n_eval_episodes=0 trains without', step, error
    )
    return {}


def check_finite(
  step: int, info: dict[str, float], before: dict[str, float], variable: str = ''
) -> None:
  """Raises UserError where a number of a training went wrong.

  Args:
    step: the one that was done last.
    info: its numbers.
    before: those of the step that was looked at before.
    variable: the key of a variable that is not finite, if there is one.
  """
  bad = [tag for tag, value in info.items() if not math.isfinite(value)]
  if not bad and not variable:
    return
  # A step may spoil the weights that its own, finite, losses are of.
  last = {tag: before[tag] for tag in bad if tag in before} if bad else info
  what = ', '.join(f'{tag} is {info[tag]}' for tag in bad) or f'{variable} is not finite'
  raise UserError(
    f'{what} at step {step}; '
    + (f'the last finite values were {short(last)}' if last else 'no step before was looked at')
    + '; what was saved before is kept'
  )


class Watch:
  """Warns, once each, of numbers that ought to move in training and stand still.

  A divergence that is the same number for long says no more what it should, and a multiplier that
  is trained does not stay the same unless it is at a bound. It counts from the start of the
  process: what is called long takes a minute or two, and each process has a log of its own.
  """

  LONG = 10_000  # training steps

  def __init__(self, tags: Iterable[str]):
    self._tags = set(tags)
    self._since: dict[str, tuple[int, float]] = {}

  def look(self, step: int, info: dict[str, float]) -> list[str]:
    """Takes the numbers of a summary; returns what there is to warn of."""
    warnings = []
    for tag in sorted(self._tags & info.keys()):
      first, value = self._since.get(tag, (step, info[tag]))
      self._since[tag] = (first, value) if value == info[tag] else (step, info[tag])
      if step - self._since[tag][0] >= self.LONG:
        self._tags.remove(tag)
        warnings.append(
          f'{tag} has been {value:g} in every summary from step {first} to step {step}: it is at a '
          'bound, or nothing moves it'
        )
    return warnings


def short(info: dict[str, float]) -> str:
  """The numbers of a step in a line."""
  return ', '.join(f'{tag} {value:.4g}' for tag, value in info.items())
