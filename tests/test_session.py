"""Runs in TensorBoard's HParams tab, as its own backend reads their event files."""

import glob
import os
import time

import gin
import numpy as np
import pytest
import tensorflow as tf
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import (
  api_pb2,
  backend_context,
  get_experiment,
  list_session_groups,
)

from brac import gin_config, results, runs

TOTAL = 20


@gin.configurable(module='session_test')
def tuned(alpha=1.0):
  return alpha


@pytest.fixture
def run(tmp_path):
  """`run(alpha, seed, step, last)`: a run of ours from a step on, as training leaves it."""

  def run(alpha, seed, step=0, last=TOTAL):
    gin.clear_config()
    gin.parse_config([f'ALPHA = {alpha}', 'NETS = ((8, 8), 2)', 'tuned.alpha = %ALPHA'])
    tuned()
    about = results.About('Hopper-v2', 'eps1', 1000, 'kl_vp', f'alpha_{alpha}', seed)
    settings = runs.Settings(agent_name='brac_primal', env_name='Hopper-v2', seed=seed)
    path = str(tmp_path / f'alpha_{alpha}' / str(seed))
    with runs.RunFolder(path, settings, False, TOTAL, about) as folder:
      record = folder.open_record(['main'], step)
      while step < last:
        step += 10
        record.summary(step, {'q_loss': 1 / alpha})
        record.summary(step, {'q_loss': 2 / alpha}, 'validation')
        record.evaluation(step, {'main': np.array([alpha * step])})
      if step >= TOTAL:
        folder.end(step)
    return path

  return run


def read(root):
  """The experiment and the session groups that TensorBoard finds below a folder."""
  multiplexer = plugin_event_multiplexer.EventMultiplexer(
    tensor_size_guidance={'tensors': 1000}
  ).AddRunsFromDirectory(str(root))
  multiplexer.Reload()
  provider = data_provider.MultiplexerDataProvider(multiplexer, str(root))
  backend = backend_context.Context(base_plugin.TBContext(data_provider=provider))
  here = context.RequestContext()
  experiment = get_experiment.Handler(here, backend, '', api_pb2.GetExperimentRequest()).run()
  request = api_pb2.ListSessionGroupsRequest(
    start_index=0,
    slice_size=100,
    allowed_statuses=api_pb2.Status.values(),
    col_params=[
      api_pb2.ColParams(
        metric=api_pb2.MetricName(group='eval/main', tag='episode_mean'), order=api_pb2.ORDER_DESC
      )
    ],
  )
  return experiment, list_session_groups.Handler(here, backend, '', request).run().session_groups


def metrics(group):
  return {f'{m.name.group}/{m.name.tag}': m.value for m in group.metric_values}


def test_a_search_is_a_table_that_is_sorted_by_the_last_return(tmp_path, run):
  for alpha, seed in [(0.5, 0), (3.0, 0), (3.0, 1), (0.25, 7)]:
    run(alpha, seed)
  experiment, groups = read(tmp_path)
  columns = {info.name: info for info in experiment.hparam_infos}
  assert columns.keys() == {'ALPHA', 'agent', 'preset', 'env', 'data', 'n_train', 'seed'}
  assert columns['ALPHA'].type == api_pb2.DATA_TYPE_FLOAT64
  named = {(m.name.group, m.name.tag) for m in experiment.metric_infos}
  assert named == {('eval/main', 'episode_mean'), ('train', 'q_loss'), ('validation', 'q_loss')}
  returns = [metrics(group)['eval/main/episode_mean'] for group in groups]
  assert returns == [60.0, 60.0, 10.0, 5.0]
  last = groups[-1]
  assert last.name.startswith('Hopper-v2/eps1/n1000/kl_vp/alpha_0.25/7 ')
  assert last.hparams['ALPHA'].number_value == 0.25 and last.hparams['seed'].number_value == 7
  told = {name: last.hparams[name].string_value for name in ('agent', 'preset', 'env', 'data')}
  assert told == dict(agent='brac_primal', preset='kl_vp', env='Hopper-v2', data='eps1')
  assert metrics(last)['train/q_loss'] == 4.0 and metrics(last)['validation/q_loss'] == 8.0
  assert [s.status for group in groups for s in group.sessions] == [api_pb2.STATUS_SUCCESS] * 4


def test_what_is_bound_past_the_macros_is_a_column(tmp_path):
  bindings = ['brac_primal_agent.Agent.alpha = 3', 'train_eval_offline.model_params = ((8, 8), 2)']
  for seed, given in enumerate([bindings + ['POLICY_LR = 1e-5'], []]):
    gin_config.parse(['kl_vp.gin'], given)
    about = results.About('Hopper-v2', 'eps1', 1000, 'kl_vp', '0', seed)
    settings = runs.Settings(agent_name='brac_primal', env_name='Hopper-v2', seed=seed)
    with runs.RunFolder(str(tmp_path / str(seed)), settings, False, TOTAL, about) as folder:
      folder.open_record(['main'], 0)
  own = {'agent', 'preset', 'env', 'data', 'n_train', 'seed'}
  columns = {
    group.hparams['seed'].number_value: {
      name: value.number_value for name, value in group.hparams.items() if name not in own
    }
    for group in read(tmp_path)[1]
  }
  assert columns[0] == {'brac_primal_agent.Agent.alpha': 3.0, 'POLICY_LR': 1e-5}
  assert columns[1] == {'ALPHA': 0.1, 'POLICY_LR': 3e-4}


def test_what_a_kill_left_open_at_the_end_ends_with_the_next_command(tmp_path, run):
  path = run(3.0, 0, last=TOTAL - 10)
  about = results.About('Hopper-v2', 'eps1', 1000, 'kl_vp', 'alpha_3.0', 0)
  settings = runs.Settings(agent_name='brac_primal', env_name='Hopper-v2', seed=0)
  for _ in range(2):
    with runs.RunFolder(path, settings, False, TOTAL, about) as folder:
      folder.write_finished(TOTAL)
    (group,) = read(tmp_path)[1]
    assert [session.status for session in group.sessions] == [api_pb2.STATUS_SUCCESS]


def test_a_run_that_goes_on_has_one_session_which_began_when_it_did(tmp_path, run):
  path = run(3.0, 0, last=10)
  (before,) = (s for group in read(tmp_path)[1] for s in group.sessions)
  assert before.status == api_pb2.STATUS_UNKNOWN
  files = glob.glob(os.path.join(path, 'events*'))
  run(3.0, 0, 10, last=10)
  assert glob.glob(os.path.join(path, 'events*')) == files
  time.sleep(1.1)  # TensorBoard reads files in the order of their names, which have whole seconds
  run(3.0, 0, 10)
  (group,) = read(tmp_path)[1]
  (after,) = group.sessions
  assert after.start_time_secs == before.start_time_secs
  assert after.status == api_pb2.STATUS_SUCCESS
  assert metrics(group)['eval/main/episode_mean'] == 60.0


def test_a_finished_run_that_is_to_be_longer_is_not_finished_until_it_is(tmp_path, run):
  run(3.0, 0)
  run(3.0, 0, step=TOTAL - 10, last=TOTAL - 10)
  (group,) = read(tmp_path)[1]
  assert [session.status for session in group.sessions] == [api_pb2.STATUS_UNKNOWN]


def test_what_a_crash_left_half_is_written_anew_and_other_values_take_their_place(tmp_path, run):
  path = run(3.0, 0, last=10)
  (file,) = glob.glob(os.path.join(path, 'events*'))
  os.truncate(file, os.path.getsize(file) // 2)
  run(3.0, 0, 10)
  assert len(read(tmp_path)[1]) == 1
  os.rename(path, tmp_path / 'moved')
  os.makedirs(os.path.dirname(path), exist_ok=True)
  os.makedirs(tmp_path / 'alpha_5.0')
  os.rename(tmp_path / 'moved', tmp_path / 'alpha_5.0' / '0')
  run(5.0, 0, 10)
  (group,) = read(tmp_path)[1]
  assert group.hparams['ALPHA'].number_value == 5.0


def test_the_operative_configuration_is_a_text(run):
  path = run(3.0, 0)
  texts = {}
  for file in glob.glob(os.path.join(path, 'events*')):
    for event in tf.compat.v1.train.summary_iterator(file):
      for value in event.summary.value:
        if value.metadata.plugin_data.plugin_name == 'text':
          texts[value.tag] = tf.make_ndarray(value.tensor).item().decode()
  assert list(texts) == ['operative_config']
  assert '    ALPHA = 3.0\n' in texts['operative_config']
