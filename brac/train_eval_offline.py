"""The offline experiment: an agent trained on a stored dataset, evaluated in its environment."""

import os

import gin
from absl import logging

from brac import (
  agents,
  checkpoints,
  clones,
  environments,
  files,
  gin_config,
  results,
  runs,
)
from brac.data import provenance, stored, transitions
from brac.data.replay import Dataset
from brac.errors import UserError, check_bool, check_whole
from brac.rollouts import Evaluator
from brac.training import Schedule, train


@gin.configurable(
  denylist=[
    'log_dir', 'data_file', 'env_name', 'n_train', 'total_train_steps', 'n_eval_episodes', 'seed',
    'allow_changed_config',
  ]
)  # fmt: skip
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
  shuffle_steps: int = 0,
  use_seed_for_data: bool = False,
  out_of_box_actions: str = 'count',
  summary_freq: int = 100,
  print_freq: int = 1000,
  save_freq: int = 20000,
  eval_freq: int = 5000,
  save_minutes: float = 10.0,
  model_params=(((200, 200),), 2),
  optimizers=(('adam', 1e-3),),
  batch_size: int = 256,
  weight_decays=(0.0,),
  update_freq: int = 1,
  update_rate: float = 0.005,
  discount: float = 0.99,
) -> None:
  """Trains an agent on a dataset; goes on where a run in `log_dir` was saved.

  The first block of arguments are the program's flags; a preset, a gin file, may bind
  `agent_name`. Of the rest, which gin binds:

  Args:
    shuffle_steps: the data is cut into blocks of so many transitions, whose order is drawn, before
      the first `n_train` are taken; 0 takes them as they were stored.
    use_seed_for_data: whether that order is drawn from the run's seed, or always from 0.
    out_of_box_actions: what is done about actions that the environment does not take: `count` says
      how many there are and uses them as they are, as the published code does; `clip` also moves
      them to the edge of the box; `refuse` ends the program.
    summary_freq: steps from one TensorBoard summary to the next.
    print_freq: steps from one line of the log to the next.
    save_freq: steps from one save to the next.
    eval_freq: steps from one evaluation to the next.
    save_minutes: after so many minutes without a save there is one.
    model_params, ..., discount: see `agents.agent.Agent`.
  """
  schedule = Schedule(
    total_train_steps, summary_freq, print_freq, eval_freq, save_freq, save_minutes
  )
  schedule.check('train_eval_offline')
  check_whole('train_eval_offline', 0, shuffle_steps=shuffle_steps)
  check_whole('train_eval_offline', 1, batch_size=batch_size)
  check_bool('train_eval_offline', use_seed_for_data=use_seed_for_data)
  if out_of_box_actions not in transitions.OUT_OF_BOX:
    choices = ', '.join(map(repr, transitions.OUT_OF_BOX))
    raise UserError(
      f'train_eval_offline.out_of_box_actions is one of {choices}, not {out_of_box_actions!r}'
    )
  clock = runs.Clock()

  # The data.
  env = environments.described(env_name)
  with clock('loading'):
    rows = stored.load(data_file, env.observation_spec.shape[0], env.action_spec.shape[0])
    if batch_size > min(n_train, len(rows.reward)):
      raise UserError(
        f'train_eval_offline.batch_size is {batch_size}, more than the '
        f'{min(n_train, len(rows.reward))} transitions'
      )
    rows = transitions.in_box(rows, env.action_spec, out_of_box_actions, data_file)
    rows = transitions.first(
      rows, n_train, int(shuffle_steps), seed if use_seed_for_data else 0, data_file
    )
    data, data_fingerprint = Dataset(rows), transitions.fingerprint(rows)
    del rows

  # The agent.
  agent = agents.load(agent_name)(
    observation_spec=env.observation_spec,
    action_spec=env.action_spec,
    data=data,
    seed=seed,
    model_params=model_params,
    optimizers=optimizers,
    batch_size=batch_size,
    weight_decays=weight_decays,
    update_freq=update_freq,
    update_rate=update_rate,
    discount=discount,
  )
  if agent.CLONE:
    clones.warn_of_other_data(getattr(agent, agent.CLONE.parameter), data_fingerprint)
  for remark in agent.remarks(total_train_steps):
    logging.warning('%s', remark)
  made_up = provenance.read(data_file).get('made_up_next_actions')
  if made_up and agent.reads_next_actions:
    logging.warning(
      '%d rows of %s have a next action that nobody took (--keep_last); this agent learns from it',
      made_up,
      data_file,
    )
  evaluator = Evaluator(env_name, agent.policies(), n_eval_episodes, seed)

  with clock('compilation'):
    agent.loop.compile(schedule.next_stop(0))
  for name in gin_config.idle(agent.gin_modules()):
    logging.warning('gin: %s is bound, but the agent of this run does not use it', name)
  settings = runs.Settings(
    agent_name=agent_name, env_name=env_name, seed=seed, n_eval_episodes=n_eval_episodes,
    data=data_fingerprint,
  )  # fmt: skip

  # The run: a new one, or one that goes on.
  _lock = runs.lock(log_dir)
  path = os.path.join(log_dir, 'agent')
  if checkpoints.recover(path):
    settings.check(path, allow_changed_config)
    agent.restore(path)
    logging.info('going on from step %d of %s', agent.step, path)
  else:
    results.check_not_lost(log_dir, path)

  def leave(only_missing: bool = False) -> None:
    for name, objects in agent.leaves().items():
      place = os.path.join(log_dir, name)
      if not only_missing or not checkpoints.recover(place, needed=False):
        checkpoints.save(place, **objects)

  def write_progress() -> None:
    with files.writing(log_dir):
      results.write_progress(log_dir, agent.step, total_train_steps)

  def save(step: int) -> None:
    leave()
    checkpoints.save(path, keep=True, **agent.state, settings=settings.variable)
    write_progress()

  if agent.step >= total_train_steps:
    leave(only_missing=True)
    write_progress()
    logging.info('the run has %d steps already: there is nothing to do', agent.step)
    return
  logging.info('%d transitions from %s', data.size, data_file)
  record = runs.Record(log_dir, evaluator.names, agent.step)
  write_progress()
  runs.write_config(log_dir)

  train(f'{agent_name} {env_name}', agent.loop, schedule, evaluator, record, clock, save)
