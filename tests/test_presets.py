"""The presets in configs/, and the clone that those of brac_primal find."""

import glob
import os
import shlex

import gin
import pytest

from brac import checkpoints, clones, environments, results, rng
from brac.data.replay import Dataset
from brac.data.transitions import Transitions
from brac.data_config import project_folder
from brac.errors import UserError
from brac.networks import Actor, Box
from brac.policies import RandomPolicy
from brac.rollouts import Collection
from brac.train_eval_offline import train_eval_offline

# The agent of each row of the paper's table, and what tells the row from the agent's others.
ROWS = {
  'sac': ('sac', {}),
  'bc': ('bc', {}),
  'bcq': ('bcq', {}),
  'bear': (
    'brac_primal',
    dict(divergence_name='mmd', value_penalty=False, train_alpha=True, ensemble_q_lambda=0.75),
  ),
  **{
    f'{row}_{form}': (agent, dict(divergence_name=divergence, value_penalty=form == 'vp'))
    for row, agent, divergence in (
      ('mmd', 'brac_primal', 'mmd'),
      ('kl', 'brac_primal', 'kl'),
      ('kl_dual', 'brac_dual', 'kl'),
      ('w', 'brac_dual', 'w'),
    )
    for form in ('vp', 'pr')
  },
}
PARAMETER = 'brac_primal_agent.Agent.behavior_ckpt_file'
DATA = 'Pendulum-v1/d/n300'


def preset(name):
  return os.path.join(project_folder('configs'), name + '.gin')


@pytest.fixture(scope='module')
def data_file(tmp_path_factory):
  """300 transitions of Pendulum-v1."""
  path = str(tmp_path_factory.mktemp('data') / 'data')
  env = environments.make_batch('Pendulum-v1', 1, 0)
  rows = Transitions.zeros(300, 3, 1)
  policy = RandomPolicy(env.observation_spec, env.action_spec)
  collection = Collection('Pendulum-v1', policy, rows, 0, 1)
  while collection.advance():
    pass
  checkpoints.save(path, data=Dataset(rows))
  return path


def save_clone(*parts):
  path = os.path.join(*map(str, parts), 'agent_behavior')
  box = Box.of(environments.make_batch('Pendulum-v1', 1, 0).action_spec)
  checkpoints.save(path, policy=Actor(3, (8,), box, rng.Rng(0)))
  return path


def parameters(config):
  """`SELECTOR.PARAMETER` of a configuration that gin holds, with the values."""
  return {
    f'{selector}.{name}': value
    for (_, selector), bindings in config.items()
    for name, value in bindings.items()
  }


def test_there_is_a_preset_for_each_row():
  there = glob.glob(os.path.join(project_folder('configs'), '*.gin'))
  assert {os.path.basename(path)[:-4] for path in there} >= ROWS.keys()


@pytest.mark.parametrize('name', ROWS)
def test_a_preset_runs_and_has_every_parameter_that_its_run_uses(name, data_file, tmp_path):
  agent_name, own = ROWS[name]
  gin.parse_config_file(preset(name))
  bound = parameters(gin.config._CONFIG)
  assert gin.query_parameter('train_eval_offline.agent_name') == agent_name
  for key, value in own.items():
    assert gin.query_parameter(f'{agent_name}_agent.Agent.{key}') == value
  if agent_name == 'brac_primal':
    clones.bind(PARAMETER, str(tmp_path / 'run'), [save_clone(tmp_path)], '')

  train_eval_offline(
    log_dir=str(tmp_path / 'run'),
    data_file=data_file,
    env_name='Pendulum-v1',
    n_train=300,
    total_train_steps=3,
    n_eval_episodes=1,
    seed=0,
  )
  used = parameters(gin.config._OPERATIVE_CONFIG)
  # Of the machine and the simulator, not of the algorithm.
  used = {key: value for key, value in used.items() if '.physics.' not in key}
  assert used.keys() == bound.keys()
  assert checkpoints.Reader(str(tmp_path / 'run' / 'agent')).read('global_step') == 3


def test_bear_is_the_root_of_the_mmd_trained_to_a_target():
  gin.parse_config_file(preset('bear'))
  assert gin.query_parameter('mmd.use_sqrt') is True
  assert gin.query_parameter('brac_primal_agent.Agent.target_divergence') > 0


@pytest.mark.parametrize('name', ROWS)
def test_a_preset_opens_with_its_source_and_says_the_unit_of_each_parameter(name):
  with open(preset(name)) as f:
    head, *lines = f.read().split('\n\n', 1)
  assert all(line.startswith('#') for line in head.splitlines())
  for text in ('arxiv 1911.11361', 'section', 'tuned', 'they searched'):
    assert text in head.replace('\n# ', ' ').lower()
  lines = ''.join(lines).splitlines()
  for k, line in enumerate(lines):
    if line and not line.startswith('#'):
      assert '  # ' in line or lines[k - 1].startswith('# '), line


# --- The clone ------------------------------------------------------------------------------------


def test_a_clone_is_taken_from_the_nearest_place(tmp_path):
  root = tmp_path / 'learn'
  paths = clones.places('bc', str(root), DATA, 'mine', 7)
  shipped = project_folder('trained_policies')
  assert paths == [
    os.path.join(folder, DATA, 'bc', place, 'agent_behavior')
    for folder in (str(root), shipped)
    for place in ('mine/7', 'mine/0', '0/7', '0/0')
  ]
  for path in (paths[3], paths[2], paths[1], paths[0]):
    save_clone(os.path.dirname(path))
    gin.clear_config()
    clones.bind(PARAMETER, str(tmp_path / 'run'), paths, '')
    assert gin.query_parameter(PARAMETER) == path
    with pytest.raises(RuntimeError):  # the lock on the configuration is back
      gin.finalize()
      gin.bind_parameter(PARAMETER, 'another')


def test_a_shipped_clone_is_taken_where_the_user_has_none(tmp_path):
  own, shipped = (str(tmp_path / name / 'agent_behavior') for name in ('own', 'shipped'))
  save_clone(tmp_path / 'shipped')
  clones.bind(PARAMETER, str(tmp_path / 'run'), [own, shipped], '')
  assert gin.query_parameter(PARAMETER) == shipped


def test_a_clone_that_is_half_trained_is_named(tmp_path, caplog):
  for step, warned in ((2, True), (5, False)):
    gin.clear_config()
    caplog.clear()
    results.write_progress(str(tmp_path), step, 5)
    clones.bind(PARAMETER, str(tmp_path / 'run'), [save_clone(tmp_path)], '')
    assert ('has not come to its end' in caplog.text) == warned


def test_equal_places_are_looked_at_once(tmp_path):
  paths = clones.places('bc', str(tmp_path), DATA, '0', 0)
  assert len(paths) == len(set(paths)) == 2


def test_a_clone_that_the_user_names_stays(tmp_path):
  gin.bind_parameter(PARAMETER, 'mine')
  clones.bind(PARAMETER, str(tmp_path), [save_clone(tmp_path)], '')
  assert gin.query_parameter(PARAMETER) == 'mine'


def test_without_a_clone_the_error_has_the_command(tmp_path):
  command = shlex.join(['python', '-m', 'brac.train_offline', '--gin_file=bc.gin'])
  with pytest.raises(UserError) as error:
    clones.bind(PARAMETER, str(tmp_path), [str(tmp_path / 'a'), str(tmp_path / 'b')], command)
  for text in (PARAMETER, str(tmp_path / 'a'), str(tmp_path / 'b'), command):
    assert text in str(error.value)
