"""The offline experiment: an agent trained on a stored dataset, evaluated in its environment."""

import os
from typing import Optional

import gin
import numpy as np
from absl import logging

from brac import checkpoints, clones, environments, films, operative, policy_loader, results, runs
from brac.agents.agent import GIVEN, Agent
from brac.agents.validation import Validation
from brac.data import provenance, stored, transitions
from brac.data.replay import Dataset
from brac.errors import UserError, check_bool, check_number, check_whole
from brac.rollouts import Evaluator
from brac.signatures import hands_on_to
from brac.training import Schedule, make_agent, train


@operative.experiment
@gin.configurable(
  denylist=[
    'log_dir', 'data_file', 'env_name', 'n_train', 'total_train_steps', 'n_eval_episodes', 'seed',
    'allow_changed_config', 'clone_search', 'about',
  ]
)  # fmt: skip
@hands_on_to(Agent, without=GIVEN)
def train_eval_offline(
  log_dir: str,
  data_file: str,
  agent_name: str,
  env_name: str,
  n_train: int,
  total_train_steps: int,
  n_eval_episodes: int,
  seed: int,
  allow_changed_config: bool = False,
  clone_search: Optional[clones.Lookup] = None,
  about: Optional[results.About] = None,
  shuffle_steps: int = 0,
  use_seed_for_data: bool = False,
  out_of_box_actions: str = 'count',
  validation_fraction: float = 0.0,
  summary_freq: int = 100,
  print_freq: int = 1000,
  save_freq: int = 20000,
  eval_freq: int = 5000,
  save_minutes: float = 10.0,
  video_steps: int = 0,
  **agent_parameters,
) -> None:
  """Trains an agent on a dataset; goes on where a run in `log_dir` was saved.

  The first block of arguments are the program's flags, where an agent that needs a clone of the
  behavior policy looks for it, and what the folder is to tell of the run; a preset, a gin file, may
  bind `agent_name`. Of the rest, which gin binds:

  Args:
    agent_name: the algorithm; a gin file that binds it is a preset, and names the run.
    shuffle_steps: the data is cut into blocks of so many transitions, whose order is drawn, before
      the first `n_train` are taken; 0 takes them as they were stored.
    use_seed_for_data: whether that order is drawn from the run's seed, or always from 0.
    out_of_box_actions: what is done about actions that the environment does not take: `count` says
      how many there are and uses them as they are, as the published code does; `clip` also moves
      them to the edge of the box; `refuse` ends the program.
    validation_fraction: the part of the rows, in whole episodes that are drawn from the run's seed,
      that is held out, and on which the losses are evaluated at each summary.
    summary_freq: steps from one TensorBoard summary to the next.
    print_freq: steps from one line of the log to the next.
    save_freq: steps from one save to the next.
    eval_freq: steps from one evaluation to the next.
    save_minutes: after so many minutes without a save there is one.
    video_steps: TensorBoard has a film of the first episode of the last evaluation, of each policy
      and of so many steps at most; 0: there is none.
    agent_parameters, from `model_params` to `discount`: see `agents.agent.Agent`.
  """
  schedule = Schedule(
    total_train_steps, summary_freq, print_freq, eval_freq, save_freq, save_minutes
  )
  schedule.check('train_eval_offline')
  check_whole('train_eval_offline', 0, shuffle_steps=shuffle_steps, video_steps=video_steps)
  check_bool('train_eval_offline', use_seed_for_data=use_seed_for_data)
  if use_seed_for_data and not shuffle_steps:
    logging.warning(
      'train_eval_offline.use_seed_for_data is True, but shuffle_steps is 0: the order of the data '
      'is not drawn'
    )
  validation_fraction = check_number(
    'train_eval_offline', 0, 1, validation_fraction=validation_fraction
  )
  if out_of_box_actions not in transitions.OUT_OF_BOX:
    choices = ', '.join(map(repr, transitions.OUT_OF_BOX))
    raise UserError(
      f'train_eval_offline.out_of_box_actions is one of {choices}, not {out_of_box_actions!r}'
    )
  clock = runs.Clock()

  # The data.
  env, source = environments.introduced(env_name), provenance.read(data_file)
  with clock('loading'):
    rows = stored.load(data_file, env.observation_spec.shape[0], env.action_spec.shape[0])
    provenance.compare_observation_keys(data_file, source, env_name, env.observation_keys)
    if not source and env.observation_keys:  # an online training's, whose save beside it tells more
      policy_loader.check_order(data_file, 'dataset')
    rows = transitions.in_box(rows, env.action_spec, out_of_box_actions, data_file)
    numbers = transitions.used(
      len(rows.reward), n_train, int(shuffle_steps), seed if use_seed_for_data else 0, data_file
    )
    held_out = None
    if validation_fraction:
      numbers, held = transitions.hold_out(rows.end, numbers, validation_fraction, seed, data_file)
      held_out = transitions.take(rows, held)
      logging.info('%d transitions are held out', len(held_out.reward))
    chosen = transitions.take(rows, numbers)
    numbers = np.arange(len(rows.end))[numbers]
    begins = transitions.begins(rows.end, stored.is_first_whole(data_file))
    first = rows.s1[numbers[begins[numbers]]]
    del rows
    data, content = Dataset(chosen, first_states=first), clones.Data.of(chosen)
    del chosen
  logging.info('%d transitions from %s', data.size, data_file)

  # The agent.
  path = os.path.join(log_dir, 'agent')
  specs = env.observation_spec, env.action_spec
  agent = make_agent(
    agent_name, specs, data, seed, total_train_steps, [path], clone_search, content,
    **agent_parameters,
  )  # fmt: skip
  if agent.batch_size > data.size:
    left = f' that validation_fraction = {validation_fraction:g} leaves to train on'
    raise UserError(
      f'train_eval_offline.batch_size is {agent.batch_size}, more than the {data.size} transitions'
      + left * (held_out is not None)
    )
  made_up = source.get('made_up_next_actions')
  if made_up and agent.reads_next_actions:
    logging.warning(
      '%d rows of %s have a next action that nobody took (--keep_last); this agent learns from it',
      made_up,
      data_file,
    )
  policies = agent.policies()
  evaluator = Evaluator(env_name, policies, n_eval_episodes, seed, runs.stop_requested)
  if video_steps:
    films.try_out(env_name)  # or it would only be known at the end
  validation = Validation(agent, held_out) if held_out is not None else None
  with clock('compilation'):
    agent.loop.compile(schedule.next_stop(0))
    if validation:
      validation.compile()
  operative.warn_of_unused()

  # The run: a new one, or one that goes on.
  settings = runs.Settings(
    agent_name=agent_name, env_name=env_name, seed=seed, n_eval_episodes=n_eval_episodes,
    data=content.fingerprint, evaluated=evaluator.names, **agent.identity(),
  )  # fmt: skip
  now = settings.now()
  for name, was in checkpoints.kept_settings(data_file).items():
    if name.startswith('physics.') and now.get(name, was) != was:
      logging.warning(
        '%s was collected with %s = %s, here it is %s', data_file, name, was, now[name]
      )
  about = about and about._replace(judged_by=agent.judged_by, estimates=agent.ESTIMATES)
  with runs.RunFolder(log_dir, settings, allow_changed_config, total_train_steps, about) as run:
    if run.resume(['agent']):
      agent.restore(path)
      logging.info('going on from step %d of %s', agent.step, path)
    else:
      run.check_not_lost('agent')

    def leave(only_missing: bool = False) -> None:
      for name, objects in agent.leaves().items():
        if not only_missing or not run.has(name):
          clones.save(run.at(name), content, **objects)

    def save(step: int) -> None:
      leave()
      run.save('agent', keep=True, **agent.state)

    def film(step: int) -> dict[str, bytes]:
      try:
        return films.of_evaluation(env_name, policies, seed, step, int(video_steps))
      except UserError as error:
        logging.warning('step %d could not be filmed: %s', step, error)
        return {}

    if agent.step >= total_train_steps:
      leave(only_missing=True)
    train(
      f'{agent_name} {env_name}', agent.loop, schedule, evaluator, run, clock, save,
      validation=validation, film=film if video_steps else None,
    )  # fmt: skip
