"""The online experiment: an agent trained in its environment, step for step."""

import math
import os
from typing import Dict, List

import gin
from absl import logging

from brac import agents, checkpoints, numpy_calls, operative, runs
from brac.agents.agent import MAX_COUNT
from brac.agents.loop import Loop
from brac.errors import UserError, check_whole
from brac.rollouts import Evaluator, OnlineRollout
from brac.training import Schedule, train

_EXPLORE_STEPS = 1000  # between two looks at whether a signal came


@operative.experiment
@gin.configurable(
  denylist=[
    'log_dir', 'agent_name', 'env_name', 'eval_target', 'total_train_steps', 'n_eval_episodes',
    'seed', 'allow_changed_config',
  ]
)  # fmt: skip
def train_eval_online(
  log_dir: str,
  agent_name: str,
  env_name: str,
  eval_target: float,
  total_train_steps: int,
  n_eval_episodes: int,
  seed: int,
  allow_changed_config: bool = False,
  summary_freq: int = 100,
  print_freq: int = 1000,
  save_freq: int = int(1e8),
  eval_freq: int = 5000,
  save_minutes: float = 10.0,
  eval_target_n: int = 2,
  initial_explore_steps: int = 10000,
  replay_buffer_size: int = int(1e6),
  model_params=(((200, 200),), 2),
  optimizers=(('adam', 1e-3),),
  batch_size: int = 256,
  weight_decays=(0.0,),
  update_freq: int = 1,
  update_rate: float = 0.005,
  discount: float = 0.99,
) -> None:
  """Trains an agent on what it does itself; goes on where a run in `log_dir` was saved.

  The first block of arguments are the program's flags. Of the rest, which gin binds:

  Args:
    summary_freq: steps from one TensorBoard summary to the next.
    print_freq: steps from one line of the log to the next.
    save_freq: steps from one `agent-{STEP}` to the next.
    eval_freq: steps from one evaluation to the next.
    save_minutes: after so many minutes without a save there is one.
    eval_target_n: so many evaluations in a row must reach `eval_target`.
    initial_explore_steps: transitions of uniform actions that are stored before the training.
    replay_buffer_size: transitions that are kept; the oldest go.
    model_params, ..., discount: see `agents.agent.Agent`.
  """
  schedule = Schedule(
    total_train_steps, summary_freq, print_freq, eval_freq, save_freq, save_minutes
  )
  schedule.check('train_eval_online')
  batch_size, eval_target_n, initial_explore_steps, replay_buffer_size = check_whole(
    'train_eval_online',
    1,
    MAX_COUNT,
    batch_size=batch_size,
    eval_target_n=eval_target_n,
    initial_explore_steps=initial_explore_steps,
    replay_buffer_size=replay_buffer_size,
  )
  if batch_size > replay_buffer_size:
    raise UserError(
      f'train_eval_online.batch_size is {batch_size}, more than the {replay_buffer_size:g} '
      'transitions of replay_buffer_size'
    )
  if math.isnan(eval_target):
    raise UserError('--eval_target is a number, not nan')
  clock = runs.Clock()

  # The environment, its replay data, and the agent, which acts before each of its training steps.
  rollout = OnlineRollout(env_name, int(replay_buffer_size), seed, runs.stop_requested)
  agent = agents.load(agent_name)(
    observation_spec=rollout.observation_spec,
    action_spec=rollout.action_spec,
    data=rollout.data,
    seed=seed,
    model_params=model_params,
    optimizers=optimizers,
    batch_size=batch_size,
    weight_decays=weight_decays,
    update_freq=update_freq,
    update_rate=update_rate,
    discount=discount,
  )
  acting = agent.acting_policy()
  loop = Loop(agent, before_step=lambda draws: rollout.advance(acting, draws))
  evaluator = Evaluator(env_name, agent.policies(), n_eval_episodes, seed)

  with clock('compilation'):
    loop.compile(schedule.next_stop(0))
  operative.warn_of_unused()
  settings = runs.Settings(
    agent_name=agent_name, env_name=env_name, seed=seed, n_eval_episodes=n_eval_episodes,
    eval_target=eval_target,
  )  # fmt: skip

  # The run: a new one, or one that goes on. A finished one keeps its state in its two last files.
  def at(name: str) -> str:
    return os.path.join(log_dir, name)

  finals = at('agent_final'), at('replay_final')
  _lock = runs.lock(log_dir)
  finished = checkpoints.exists(at('agent_final'))
  going_on = checkpoints.recover(at('state'), needed=not finished)
  if finished and not going_on:
    for path in finals:
      if not checkpoints.recover(path, needed=False):
        raise UserError(
          f'{path} is damaged or not there, and the run goes on from {" and ".join(finals)}: put a '
          'good copy in its place, or begin again in another --sub_dir'
        )
  if going_on or finished:
    agent_file, replay_file = ('state', 'state') if going_on else ('agent_final', 'replay_final')
    settings.check(at(agent_file), allow_changed_config)
    agent.restore(at(agent_file), rollout=rollout.variables)
    rollout.take_up(at(replay_file))
    logging.info('going on from step %d of %s', agent.step, at(agent_file))
  elif checkpoints.exists(at('agent_partial_target')):
    raise UserError(
      f'{at("agent_partial_target")} is of another run, which a new one would leave there as its '
      'own: remove it and replay_partial_target, or choose another --sub_dir or --root_dir'
    )

  def state() -> Dict[str, object]:
    return dict(**agent.state, rollout=rollout.hold(), settings=settings.variable)

  def save(step: int) -> None:
    if step and step % int(save_freq) == 0:
      checkpoints.save(at(f'agent-{step}'), **agent.state)
    checkpoints.save(at('state'), keep=True, data=rollout.data.held(), **state())
    if step == total_train_steps:
      finish()

  def finish() -> None:
    # Until both of its files are there `state` has all of it: two of different runs never meet.
    checkpoints.save(at('replay_final'), data=rollout.data.held())
    checkpoints.save(at('agent_final'), **state())
    checkpoints.remove(at('state'))

  if agent.step >= total_train_steps:
    if going_on and agent.step == total_train_steps:
      finish()
    logging.info('the run has %d steps already: there is nothing to do', agent.step)
    return
  record = runs.Record(log_dir, evaluator.names, agent.step)
  runs.write_config(log_dir)
  if agent.step == 0:
    with clock('exploration'):
      while rollout.n_explored < initial_explore_steps:
        rollout.explore(min(_EXPLORE_STEPS, int(initial_explore_steps) - rollout.n_explored))
        if runs.stop_requested():
          break
    # From now on the folder tells its settings, so that no other run leaves its files among these.
    save(0)
    if runs.stop_requested():
      runs.stop('step 0 is saved: the same command goes on from there')

  def evaluated(step: int, results: List[List[float]]) -> None:
    last = [main for _, main, *_ in results[-eval_target_n:]]
    reached = len(last) == eval_target_n and min(last) >= eval_target
    if reached and not checkpoints.exists(at('agent_partial_target')):
      logging.info('step %d: %d evaluations in a row reach %g', step, len(last), eval_target)
      checkpoints.save(at('replay_partial_target'), data=rollout.data.held())
      checkpoints.save(at('agent_partial_target'), **agent.state)

  with numpy_calls.errors():
    train(f'{agent_name} {env_name}', loop, schedule, evaluator, record, clock, save, evaluated)
  rollout.close()
