"""The online experiment: an agent trained in its environment, step for step."""

import math
import os

import gin
from absl import logging

from brac import checkpoints, environments, numpy_calls, operative, results, runs
from brac.agents.agent import GIVEN, MAX_COUNT, Agent
from brac.agents.loop import Loop
from brac.errors import UserError, check_whole
from brac.rollouts import Evaluator, OnlineRollout
from brac.signatures import hands_on_to
from brac.training import Schedule, make_agent, train

_EXPLORE_STEPS = 100  # between two looks at whether a signal came


@operative.experiment
@gin.configurable(
  denylist=[
    'log_dir', 'agent_name', 'env_name', 'eval_target', 'total_train_steps', 'n_eval_episodes',
    'seed', 'allow_changed_config',
  ]
)  # fmt: skip
@hands_on_to(Agent, without=GIVEN)
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
  **agent_parameters,
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
    agent_parameters, from `model_params` to `discount`: see `agents.agent.Agent`.
  """
  schedule = Schedule(
    total_train_steps, summary_freq, print_freq, eval_freq, save_freq, save_minutes
  )
  schedule.check('train_eval_online')
  eval_target_n, initial_explore_steps, replay_buffer_size = check_whole(
    'train_eval_online',
    1,
    MAX_COUNT,
    eval_target_n=eval_target_n,
    initial_explore_steps=initial_explore_steps,
    replay_buffer_size=replay_buffer_size,
  )
  if math.isnan(eval_target):
    raise UserError('--eval_target is a number, not nan')
  clock = runs.Clock()

  # The environment, its replay data, and the agent, which acts before each of its training steps.
  environments.introduced(env_name)
  rollout = OnlineRollout(env_name, int(replay_buffer_size), seed, runs.stop_requested)
  specs = rollout.observation_spec, rollout.action_spec
  own = [os.path.join(log_dir, name) for name in ('state', 'agent_final')]
  agent = make_agent(
    agent_name, specs, rollout.data, seed, total_train_steps, own, **agent_parameters
  )
  if agent.batch_size > replay_buffer_size:
    raise UserError(
      f'train_eval_online.batch_size is {agent.batch_size}, more than the {replay_buffer_size:g} '
      'transitions of replay_buffer_size'
    )
  acting = agent.acting_policy()
  loop = Loop(agent, before_step=lambda draws: rollout.advance(acting, draws))
  evaluator = Evaluator(env_name, agent.policies(), n_eval_episodes, seed, runs.stop_requested)
  with clock('compilation'):
    loop.compile(schedule.next_stop(0))
  operative.warn_of_unused()

  # The run: a new one, or one that goes on. A finished one keeps its state in its two last files.
  settings = runs.Settings(
    agent_name=agent_name, env_name=env_name, seed=seed, n_eval_episodes=n_eval_episodes,
    eval_target=eval_target, evaluated=evaluator.names, **agent.identity(),
  )  # fmt: skip
  with runs.RunFolder(log_dir, settings, allow_changed_config) as run:
    found = run.resume(['state'], ['agent_final', 'replay_final'])
    if found:
      agent.restore(run.at(found[0]), rollout=rollout.variables)
      rollout.take_up(run.at(found[-1]))
      logging.info('going on from step %d of %s', agent.step, run.at(found[0]))
    elif checkpoints.exists(run.at('agent_partial_target')):
      raise UserError(
        f'{run.at("agent_partial_target")} is of another run, which a new one would leave there as '
        'its own: remove it and replay_partial_target, or choose another --sub_dir or --root_dir'
      )
    elif results.has_evaluations(log_dir):  # there are none before the first save
      raise UserError(
        f'{log_dir} has the results of a run whose state is gone; remove that folder, or choose '
        'another --sub_dir or --root_dir'
      )

    def save(step: int) -> None:
      if step and step % int(save_freq) == 0:
        checkpoints.save(run.at(f'agent-{step}'), **agent.state)
      state = dict(**agent.state, rollout=rollout.hold())
      run.save('state', keep=True, data=rollout.data.held(), **state)
      if step == total_train_steps:
        # Until both of its files are there `state` has all of it: two of different runs never meet.
        checkpoints.save(run.at('replay_final'), data=rollout.data.held())
        run.save('agent_final', **state)
        checkpoints.remove(run.at('state'))

    def evaluated(step: int, returns: list[float]) -> None:
      last = returns[-eval_target_n:]
      # Of an evaluation that failed the return is NaN, which reaches nothing.
      reached = len(last) == eval_target_n and all(mean >= eval_target for mean in last)
      if reached and not checkpoints.exists(run.at('agent_partial_target')):
        logging.info('step %d: %d evaluations in a row reach %g', step, len(last), eval_target)
        checkpoints.save(run.at('replay_partial_target'), data=rollout.data.held())
        checkpoints.save(run.at('agent_partial_target'), **agent.state)

    if agent.step == 0:
      n_left = initial_explore_steps - rollout.n_explored
      logging.info('%d steps of uniform actions come before the training', n_left)
      with clock('exploration'):
        while rollout.n_explored < initial_explore_steps and not runs.stop_requested():
          n_left = initial_explore_steps - rollout.n_explored
          rollout.explore(min(_EXPLORE_STEPS, n_left))
      if not rollout.n_explored and runs.stop_requested():
        runs.stop('nothing was done yet: the same command begins anew')
      # From now on the folder tells its settings: no other run leaves its files among these.
      save(0)
      if runs.stop_requested():
        runs.stop('step 0 is saved: the same command goes on from there')
    elif agent.step == total_train_steps and found == ['state']:
      save(agent.step)  # it was killed before it had its last files
    with numpy_calls.errors():
      train(f'{agent_name} {env_name}', loop, schedule, evaluator, run, clock, save, evaluated)
  rollout.close()
