"""The presets in configs/."""

import glob
import os
import re

import gin
import pytest

from brac import checkpoints, clones, environments, gin_config, rng
from brac.data.replay import Dataset
from brac.data.transitions import Transitions
from brac.data_config import project_folder
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


def path_of(name):
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


def test_there_is_a_preset_for_each_row():
  there = glob.glob(os.path.join(project_folder('configs'), '*.gin'))
  assert {os.path.basename(path)[:-4] for path in there} >= ROWS.keys()


@pytest.mark.parametrize('name', ROWS)
def test_a_preset_runs_and_has_every_parameter_that_its_run_uses(name, data_file, tmp_path):
  agent_name, own = ROWS[name]
  preset = gin_config.parse([f'{name}.gin'], [])
  assert (preset.name, preset.agent_name) == (name, agent_name)
  own = {f'{agent_name}_agent.Agent.{key}': value for key, value in own.items()}
  assert own.items() <= preset.bound.items()
  assert preset.idle == ()
  train_eval_offline(
    log_dir=str(tmp_path / 'run'),
    data_file=data_file,
    env_name='Pendulum-v1',
    n_train=300,
    total_train_steps=3,
    n_eval_episodes=1,
    seed=0,
    clone_search=clones.Lookup([save_clone(tmp_path)], ''),
  )
  used = {
    f'{gin.config._REGISTRY.minimal_selector(selector)}.{parameter}'
    for (_, selector), values in gin.config._OPERATIVE_CONFIG.items()
    for parameter in values
  }
  # What is of the machine and the simulator, and not of the algorithm, is not for a preset to say.
  assert {key for key in used if not key.startswith('physics.')} == preset.bound.keys()
  assert checkpoints.Reader(str(tmp_path / 'run' / 'agent')).read('global_step') == 3


def adam(*rates):
  return tuple(('adam', rate) for rate in rates)


# The authors' published commands, and what all presets let a user bind by a short name.
PUBLISHED = {
  'kl_vp': {
    'brac_primal_agent.Agent.alpha': 0.1,
    'train_eval_offline.model_params': (((300, 300), (200, 200)), 2),
    'train_eval_offline.optimizers': adam(1e-3, 3e-4, 1e-3),
    'train_eval_offline.batch_size': 256,
  },
  'kl_dual_pr': {
    'brac_dual_agent.Agent.alpha': 10.0,
    'brac_dual_agent.Agent.c_iter': 3,
    'train_eval_offline.model_params': (((300, 300), (200, 200), (300, 300)), 2),
    'train_eval_offline.optimizers': (
      ('adam', 1e-3),
      ('adam', 3e-6),
      ('adam', 1e-3),
      ('adam', 1e-3),
    ),
  },
  'bcq': {
    'train_eval_offline.model_params': (((300, 300), (300, 300), (750, 750)), 2, 0.15),
    'train_eval_offline.optimizers': adam(1e-3, 3e-5, 1e-3),
    'train_eval_offline.batch_size': 100,
  },
  'bc': {
    'train_eval_offline.model_params': ((200, 200),),
    'train_eval_offline.optimizers': adam(5e-4, 5e-4),
    'train_eval_offline.batch_size': 256,
  },
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_a_preset_is_the_command_that_the_authors_published(name):
  assert PUBLISHED[name].items() <= gin_config.parse([f'{name}.gin'], []).bound.items()


# What else is not as the programs have it by default.
OTHERS = {'bear': {'mmd.use_sqrt': True}}


@pytest.mark.parametrize('name', ROWS)
def test_a_preset_changes_nothing_else(name):
  preset = gin_config.parse([f'{name}.gin'], [])
  agent_name, own = ROWS[name]
  changed = {key for key, value in preset.bound.items() if repr(value) != gin_config.default(key)}
  meant = {f'train_eval_offline.{key}' for key in ('agent_name', 'model_params', 'optimizers')}
  tuned = {'alpha'} if agent_name.startswith('brac') else set()
  tuned |= {'target_divergence'} if name == 'bear' else set()
  meant |= {f'{agent_name}_agent.Agent.{key}' for key in tuned | own.keys()}
  meant |= PUBLISHED.get(name, {}).keys() | OTHERS.get(name, {}).keys()
  assert OTHERS.get(name, {}).items() <= preset.bound.items()
  assert changed <= meant


@pytest.mark.parametrize('name', ROWS)
def test_what_is_tuned_has_a_short_name(name):
  macros = {'POLICY_LR'}
  if ROWS[name][0].startswith('brac'):
    macros.add('ALPHA')
  macros |= {'bcq': {'PHI'}, 'bear': {'TARGET_DIVERGENCE'}}.get(name, set())
  before = gin_config.parse([f'{name}.gin'], [])
  assert before.macros.keys() == macros
  for macro in macros:
    after = gin_config.parse([f'{name}.gin'], [f'{macro} = 0.125'])
    (changed,) = [key for key, value in before.bound.items() if after.bound[key] != value]
    assert '0.125' in repr(after.bound[changed])


def test_bear_is_the_root_of_the_mmd_trained_to_a_target():
  bound = gin_config.parse(['bear.gin'], []).bound
  assert bound['mmd.use_sqrt'] is True
  assert bound['brac_primal_agent.Agent.target_divergence'] > 0


@pytest.mark.parametrize('name', ROWS)
def test_a_preset_opens_with_its_source(name):
  with open(path_of(name), encoding='utf-8') as f:
    head = f.read().split('\n\n', 1)[0]
  assert all(line.startswith('#') for line in head.splitlines())
  head = re.sub(r'\n# ?', ' ', head)
  for text in ('Source: ', 'arXiv 1911.11361, section ', 'authors published '):
    assert text in head


@pytest.mark.parametrize(
  'path', sorted(glob.glob(os.path.join(project_folder('configs'), '*.gin'))), ids=os.path.basename
)
def test_each_value_has_its_unit(path):
  with open(path, encoding='utf-8') as f:
    lines = f.read().splitlines()
  bound = [k for k, line in enumerate(lines) if re.match(r'[\w.]+ = ', line)]
  assert bound
  for k in bound:
    assert '  # ' in lines[k] or lines[k - 1].startswith('# '), lines[k]
