"""The two experiments in this process: their defaults, what arrives where, what is kept when."""

import inspect
import os
import shutil

import gin
import gym
import numpy as np
import pytest
import tensorflow as tf
from reading import assert_same_run, n_rows, values

from brac import agents, checkpoints
from brac import results as results_of_runs
from brac.data import transitions
from brac.data.replay import Dataset
from brac.data.transitions import Transitions
from brac.errors import UserError
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
    _COMMON,
    save_freq=20000,
    shuffle_steps=0,
    use_seed_for_data=False,
    out_of_box_actions='count',
    validation_fraction=0.0,
    video_steps=0,
  ),  # fmt: skip
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
  for name in ('clone_search', 'about'):  # which the program gives, as it does the flags
    got.pop(name, None)
  assert got == dict(DEFAULTS[experiment], allow_changed_config=False)


@pytest.mark.parametrize('experiment', DEFAULTS)
def test_what_gin_binds_for_the_agent_arrives_there(experiment, run, monkeypatch):
  arrived = {}

  class Agent(agents.load('sac')):
    def __init__(self, **parameters):
      arrived.update(parameters)
      raise Arrived

  monkeypatch.setattr(agents, 'load', lambda name: Agent)
  for name, value in BOUND.items():
    gin.bind_parameter(f'{experiment.__name__}.{name}', value)
  with pytest.raises(Arrived):
    run(experiment)
  assert {name: arrived[name] for name in [*BOUND, 'seed']} == {**BOUND, 'seed': 3}


@pytest.mark.parametrize('use_seed_for_data, seed', [(False, 0), (True, 3)])
def test_the_order_of_the_data_is_drawn_as_gin_binds_it(use_seed_for_data, seed, run, monkeypatch):
  arrived = []

  def used(size, *rest):
    arrived.extend(rest)
    raise Arrived

  monkeypatch.setattr(transitions, 'used', used)
  gin.bind_parameter('train_eval_offline.batch_size', 5)
  gin.bind_parameter('train_eval_offline.shuffle_steps', 4)
  gin.bind_parameter('train_eval_offline.use_seed_for_data', use_seed_for_data)
  with pytest.raises(Arrived):
    run(train_eval_offline)
  assert arrived[:3] == [30, 4, seed]


@pytest.mark.parametrize(
  'n, returns, kept_at',
  [
    (None, [5, 0, 5, 5, 5], 8),
    (None, [5, 0, 5], None),
    (1, [0, 5, 5], 4),
    (3, [5, 5, 0, 5, 5, 5], 12),
    (3, [5, 5], None),
  ],
)
def test_a_policy_is_kept_the_first_time_that_so_many_evaluations_in_a_row_reach_the_target(
  n, returns, kept_at, run, monkeypatch, tmp_path
):
  coming = iter(returns)
  monkeypatch.setattr(Evaluator, 'run', lambda self, step: {'main': np.full(1, next(coming))})
  small = dict(model_params=(((8, 8),), 2), batch_size=8, initial_explore_steps=20)
  small.update({} if n is None else {'eval_target_n': n})  # 2 by default
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


# --- Evaluations that fail, clones that go, second runs -------------------------------------------


class Unstable(gym.Env):
  """Its episode of a training's fourth step fails; those of other evaluations do not."""

  observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
  action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
  fails = False

  def reset(self, *, seed=None, return_info=False, options=None):
    super().reset(seed=seed)
    return self.np_random.uniform(-1, 1, 3).astype(np.float32)

  def step(self, action):
    if Unstable.fails:
      raise RuntimeError('simulation unstable')
    return self.reset(), 1.0, False, {}


gym.register('Unstable-v0', entry_point=Unstable, max_episode_steps=5)
OFFLINE = dict(agent_name='bc', env_name='Unstable-v0', model_params=((8, 8),), batch_size=8)


@pytest.fixture
def evaluations(monkeypatch):
  """`evaluations(step, happens)`: what happens before the evaluation at a step."""
  happening, plain = {}, Evaluator.run

  def run(self, step):
    happening.get(step, lambda: None)()
    return plain(self, step)

  monkeypatch.setattr(Evaluator, 'run', run)
  monkeypatch.setattr(Unstable, 'fails', False)
  return happening


def fail():
  Unstable.fails = True


def mend():
  Unstable.fails = False


def interrupt():
  raise KeyboardInterrupt


def rows(folder):
  return (folder / 'results.csv').read_text().splitlines()[1:]


@pytest.mark.parametrize('experiment', DEFAULTS)
def test_a_failed_evaluation_costs_its_own_cell_alone(
  experiment, run, evaluations, tmp_path, caplog
):
  evaluations.update({4: fail, 6: mend})
  small = dict(OFFLINE, eval_freq=2, total_train_steps=6)
  if experiment is train_eval_online:
    # It acts in the environment, whose fault is to be the evaluation's.
    evaluations[4] = lambda: None
    evaluations[6] = fail
    small.update(initial_explore_steps=20)
  run(experiment, **small)
  failed = 4 if experiment is train_eval_offline else 6
  assert [row.split(',') for row in rows(tmp_path / 'run')] == [
    [str(step), '' if step == failed else '5.0'] for step in (2, 4, 6)
  ]
  name = 'agent' if experiment is train_eval_offline else 'agent_final'
  assert checkpoints.Reader(str(tmp_path / 'run' / name)).read('global_step') == 6
  (warning,) = [
    r.getMessage() for r in caplog.records if 'could not be evaluated' in r.getMessage()
  ]
  assert warning.startswith(f'step {failed} could not be evaluated: ') and 'unstable' in warning


@pytest.mark.parametrize('experiment', DEFAULTS)
@pytest.mark.parametrize('at', [4, 6])
def test_a_step_is_saved_before_it_is_evaluated_and_evaluated_after_a_kill(
  experiment, at, run, evaluations, tmp_path
):
  straight, stopped = str(tmp_path / 'straight'), str(tmp_path / 'stopped')
  small = dict(OFFLINE, env_name='Pendulum-v1', eval_freq=2, total_train_steps=6)
  small.update(save_freq=4, save_minutes=10.0)
  if experiment is train_eval_online:
    small.update(initial_explore_steps=20, eval_target=-1e9, save_minutes=0.0)
  run(experiment, **small, log_dir=straight)
  evaluations[at] = interrupt
  with pytest.raises(KeyboardInterrupt):
    run(experiment, **small, log_dir=stopped)
  saves = {'agent'} if experiment is train_eval_offline else {'state', 'agent_final'}
  steps = {
    int(checkpoints.Reader(os.path.join(stopped, name)).read('global_step'))
    for name in saves
    if checkpoints.exists(os.path.join(stopped, name))
  }
  assert steps == {at}
  assert not results_of_runs.is_finished(stopped)
  del evaluations[at]
  run(experiment, **small, log_dir=stopped)
  assert_same_run(tmp_path / 'stopped', tmp_path / 'straight')
  assert results_of_runs.is_finished(stopped) == (experiment is train_eval_offline)


def told_and_there(folder):
  """The step that a run's folder says is the last, and whether it is evaluated."""
  if not results_of_runs.is_finished(str(folder)):
    return None
  step, _ = results_of_runs.read_progress(str(folder))
  return step, str(step) in [row.split(',')[0] for row in rows(folder)]


@pytest.mark.parametrize('at', [6, 8])
@pytest.mark.parametrize('total', [4, 7, 8, 10])
def test_a_run_that_tells_that_it_is_finished_is_evaluated(at, total, run, evaluations, tmp_path):
  small = dict(OFFLINE, env_name='Pendulum-v1', eval_freq=3, save_freq=2)
  evaluations[at] = interrupt
  for steps in (8, 8, total):  # stopped in the same evaluation again, then begun with another end
    try:
      run(train_eval_offline, **small, total_train_steps=steps)
    except KeyboardInterrupt:
      pass
    assert told_and_there(tmp_path / 'run') in (None, (max(at, total), True))
  evaluations.clear()
  run(train_eval_offline, **small, total_train_steps=total)
  assert told_and_there(tmp_path / 'run') == (max(at, total), True)


@pytest.mark.parametrize('bound, shuffle_steps', [(True, 0), (True, 5), (False, 0)])
def test_a_seed_that_draws_nothing_of_the_data_is_said(bound, shuffle_steps, run, caplog):
  order = dict(use_seed_for_data=bound, shuffle_steps=shuffle_steps)
  run(train_eval_offline, **OFFLINE, **order, n_eval_episodes=0, total_train_steps=1)
  assert ('the order of the data is not drawn' in caplog.text) == (bound and not shuffle_steps)


def test_without_evaluations_no_simulator_is_needed(run, evaluations, tmp_path):
  fail()
  run(train_eval_offline, **OFFLINE, eval_freq=5, n_eval_episodes=0)
  assert rows(tmp_path / 'run') == ['5,', '10,']
  assert checkpoints.exists(str(tmp_path / 'run' / 'agent_behavior'))
  assert not (tmp_path / 'run' / 'eval').exists()


def test_a_second_call_in_a_process_goes_on(run, tmp_path):
  for total in (2, 4):
    run(train_eval_offline, **OFFLINE, total_train_steps=total, eval_freq=2)
  assert len(rows(tmp_path / 'run')) == 2


def test_another_seed_is_another_run(run):
  small = dict(OFFLINE, initial_explore_steps=20, total_train_steps=2)
  run(train_eval_online, **small)
  with pytest.raises(UserError, match=r'--seed was 3, is 4; choose another --sub_dir(\n|$)'):
    run(train_eval_online, **small, seed=4, allow_changed_config=True)


def test_a_run_whose_tree_was_moved_and_whose_clone_is_gone_ends_as_one_that_was_not(
  run, tmp_path, caplog
):
  clone = tmp_path / 'here' / 'bc' / 'agent_behavior'
  small = dict(OFFLINE, env_name='Pendulum-v1', total_train_steps=4, eval_freq=2)
  run(train_eval_offline, **small, log_dir=str(clone.parent))
  small.update(agent_name='brac_primal', model_params=(((8, 8),), 2))
  gin.bind_parameter('brac_primal_agent.Agent.behavior_ckpt_file', str(clone))
  run(train_eval_offline, **small, log_dir=str(tmp_path / 'straight'))
  run(
    train_eval_offline, **{**small, 'total_train_steps': 2}, log_dir=str(tmp_path / 'here' / 'kl')
  )
  os.rename(tmp_path / 'here', tmp_path / 'there')
  shutil.rmtree(tmp_path / 'there' / 'bc')
  run(train_eval_offline, **small, log_dir=str(tmp_path / 'there' / 'kl'))
  assert f'{clone} is gone' in caplog.text
  a, b = (values(tmp_path / name / 'agent') for name in ('straight', 'there/kl'))
  for key in a:
    if key != 'settings':
      np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_a_collection_that_is_not_finished_is_no_data(run, tmp_path):
  state = dict(data=Dataset(Transitions.zeros(40, 3, 1)), collection=tf.Variable(b''))
  checkpoints.save(str(tmp_path / 'd' / 'data_unfinished'), **state)
  with pytest.raises(UserError, match='data_unfinished is a collection that is not finished'):
    run(train_eval_offline, **OFFLINE, data_file=str(tmp_path / 'd' / 'data_unfinished'))
  with pytest.raises(UserError, match=r'no dataset at .*/d/data(\n|$)'):
    run(train_eval_offline, **OFFLINE, data_file=str(tmp_path / 'd' / 'data'))
