"""The loop that both experiments share: train, summarise, evaluate, save."""

import time
from typing import Callable, List, NamedTuple

from absl import logging

from brac import agents, runs
from brac.agents.agent import MAX_COUNT
from brac.agents.loop import Loop
from brac.errors import check_number, check_whole
from brac.rollouts import Evaluator

# Whoever has the experiments can bind the agents' parameters.
agents.load_all()

# The multipliers that updates train, by the names of the updates.
_TRAINED = {'a': 'alpha', 'ae': 'alpha_entropy'}


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


def train(
  what: str,
  loop: Loop,
  schedule: Schedule,
  evaluator: Evaluator,
  record: runs.Record,
  clock: runs.Clock,
  save: Callable[[int], None],
  evaluated: Callable[[int, List[List[float]]], None] = lambda step, results: None,
) -> None:
  """Trains an agent up to `schedule.total_train_steps`.

  Args:
    what: names the run on the terminal.
    loop: of an agent that stands at the step from which to go on.
    schedule: when what is due.
    evaluator: of the agent's policies.
    record: where the numbers go.
    clock: what counts how the time divides.
    save: saves the run at a step: when it is due, when it is late, and before a signal ends it.
    evaluated: is told of each evaluation, and gets all rows of `results.csv`.

  Raises:
    UserError: a number of the training is NaN or infinite.
    runs.Stopped: a signal came; the run is saved.
  """
  agent, total = loop.agent, schedule.total_train_steps
  step = agent.step
  progress = runs.Progress(what, total, step)
  watch = runs.Watch(['div_mean', *(_TRAINED[u.name] for u in agent.updates if u.name in _TRAINED)])
  saved_at, info = time.monotonic(), {}
  while step < total:
    target = schedule.next_stop(step)
    with clock('training'):
      before, info = info, loop.train(target - step)
    step = target
    progress.update(step)
    runs.check_finite(step, info, before)
    if schedule.due(step, schedule.summary_freq):
      runs.check_finite(step, info, before, agent.not_finite())
      record.summary(step, info)
      for warning in watch.look(step, info):
        logging.warning('%s', warning)
    if schedule.due(step, schedule.print_freq):
      progress.tell('; ' + runs.short(info))
    if schedule.due(step, schedule.eval_freq):
      with clock('evaluation'):
        returns = evaluator.run(step)
      record.evaluation(step, returns)
      means = ', '.join(f'{name} {x.mean():.1f} ± {x.std():.1f}' for name, x in returns.items())
      progress.say(f'step {step}: return {means}')
      evaluated(step, record.results)
    late = time.monotonic() - saved_at > 60 * schedule.save_minutes
    if schedule.due(step, schedule.save_freq) or late or runs.stop_requested():
      with clock('saving'):
        runs.check_finite(step, info, before, agent.not_finite())
        record.flush()
        save(step)
      saved_at = time.monotonic()
    if runs.stop_requested() and step < total:
      progress.close()
      runs.stop(f'step {step} is saved: the same command goes on from there')
  progress.close()
  logging.info('%s', clock)
