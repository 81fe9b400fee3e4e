"""The two experiments in this process: their defaults, what arrives where, what is kept when."""

import inspect

import gin
import numpy as np
import pytest
from reading import n_rows, values

from brac import agents, checkpoints
from brac.data import transitions
from brac.data.replay import Dataset
from brac.data.transitions import Transitions
from brac.rollouts import Evaluator
from brac.train_eval_offline import train_eval_offline
from brac.train_eval_online import train_eval_online

_COMMON = dict(
  summary_freq=100,
  print_freq=1000,
  eval_freq=5000,
  save_minutes=10.0,
  model_params=(((200, 200),), 2),
  optimizers=(('adam', 1e-3),),
  batch_size=256,
  weight_decays=(0.0,),
  update_freq=1,
  update_rate=0.005,
  discount=0.99,
)
DEFAULTS = {
  train_eval_online: dict(
    _COMMON,
    save_freq=100000000,
    eval_target_n=2,
    initial_explore_steps=10000,
    replay_buffer_size=1000000,
  ),
  train_eval_offline: dict(
    _COMMON, save_freq=20000, shuffle_steps=0, use_seed_for_data=False, out_of_box_actions='count'
  ),
}
# Of the agent's parameters, other values than the defaults.
BOUND = dict(
  model_params=(((9, 8), (7, 6)), 3),
  optimizers=(('adam', 0.1), ('adam', 0.2), ('adam', 0.3)),
  batch_size=5,
  weight_decays=(0.4, 0.5),
  update_freq=6,
  update_rate=0.7,
  discount=0.8,
)


class Arrived(Exception):
  """Ends an experiment where what the test asks about has arrived."""


@pytest.fixture
def run(tmp_path):
  """`run(experiment, **parameters)`: a short one of sac on Pendulum-v1, from seed 3."""

  def run(experiment, **parameters):
    given = dict(agent_name='sac', env_name='Pendulum-v1', n_eval_episodes=1, seed=3)
    given.update(log_dir=str(tmp_path / 'run'), total_train_steps=10)
    if experiment is train_eval_online:
      given['eval_target'] = 5.0
    else:
      given.update(data_file=str(tmp_path / 'data'), n_train=30)
      checkpoints.save(given['data_file'], data=Dataset(Transitions.zeros(40, 3, 1)))
    experiment(**{**given, **parameters})

  return run


@pytest.mark.parametrize('experiment', DEFAULTS)
def test_gin_parameters_have_the_defaults_of_the_spec(experiment):
  parameters = inspect.signature(experiment).parameters.values()
  got = {p.name: p.default for p in parameters if p.default is not p.empty}
  assert got == dict(DEFAULTS[experiment], allow_changed_config=False)


@pytest.mark.parametrize('experiment', DEFAULTS)
def test_what_gin_binds_for_the_agent_arrives_there(experiment, run, monkeypatch):
  arrived = {}

  def agent(**parameters):
    arrived.update(parameters)
    raise Arrived

  monkeypatch.setattr(agents, 'load', lambda name: agent)
  for name, value in BOUND.items():
    gin.bind_parameter(f'{experiment.__name__}.{name}', value)
  with pytest.raises(Arrived):
    run(experiment)
  assert {name: arrived[name] for name in [*BOUND, 'seed']} == {**BOUND, 'seed': 3}


@pytest.mark.parametrize('use_seed_for_data, seed', [(False, 0), (True, 3)])
def test_the_order_of_the_data_is_drawn_as_gin_binds_it(use_seed_for_data, seed, run, monkeypatch):
  arrived = []

  def first(rows, *rest):
    arrived.extend(rest)
    raise Arrived

  monkeypatch.setattr(transitions, 'first', first)
  gin.bind_parameter('train_eval_offline.batch_size', 5)
  gin.bind_parameter('train_eval_offline.shuffle_steps', 4)
  gin.bind_parameter('train_eval_offline.use_seed_for_data', use_seed_for_data)
  with pytest.raises(Arrived):
    run(train_eval_offline)
  assert arrived[:3] == [30, 4, seed]


@pytest.mark.parametrize('returns, kept_at', [([5, 0, 5, 5, 5], 8), ([5, 0, 5], None)])
def test_a_policy_is_kept_the_first_time_that_two_evaluations_in_a_row_reach_the_target(
  returns, kept_at, run, monkeypatch, tmp_path
):
  coming = iter(returns)
  monkeypatch.setattr(Evaluator, 'run', lambda self, step: {'main': np.full(1, next(coming))})
  small = dict(model_params=(((8, 8),), 2), batch_size=8, initial_explore_steps=20)
  run(train_eval_online, total_train_steps=2 * len(returns), eval_freq=2, **small)
  kept = [str(tmp_path / 'run' / f'{name}_partial_target') for name in ('agent', 'replay')]
  assert [checkpoints.exists(path) for path in kept] == [kept_at is not None] * 2
  if kept_at:
    assert checkpoints.Reader(kept[0]).read('global_step') == kept_at
    assert checkpoints.Reader(kept[1]).read('data/_current_size') == 20 + kept_at


def test_whole_floats_count_in_an_online_run(tmp_path):
  small = dict(initial_explore_steps=20.0, replay_buffer_size=1e2, batch_size=8.0, eval_freq=2.0)
  train_eval_online(
    log_dir=str(tmp_path),
    agent_name='sac',
    env_name='Pendulum-v1',
    eval_target=-1e9,
    total_train_steps=4,
    n_eval_episodes=1,
    seed=0,
    model_params=(((8, 8),), 2),
    eval_target_n=2.0,
    update_freq=2.0,
    **small,
  )
  assert len(values(tmp_path / 'agent_partial_target')) and n_rows(tmp_path) == 2
