"""gin files and bindings: what they say of a run, what is unused, what their mistakes read."""

import logging

import gin
import pytest

from brac import gin_config, train_eval_online
from brac.errors import UserError


@pytest.fixture
def parse(tmp_path):
  """`parse(text, *bindings)` takes up a gin file at `tmp_path / 'my.gin'`, then bindings."""

  def parse(text, *bindings):
    (tmp_path / 'my.gin').write_text(text)
    gin_config.parse([str(tmp_path / 'my.gin')], bindings)

  yield parse
  logging.disable(logging.NOTSET)
  gin_config.preset.clear()


@pytest.mark.parametrize(
  'text, texts',
  [
    ('\nfoo.bar = 3', ['{file}:2: ', "no 'foo'"]),
    ('\ntrain_eval_offline.discout = 3', ['{file}:2: ', "no parameter 'discout'", "'discount'?"]),
    ('sac_agent.Agent.target_entrpy = 3', ["'target_entrpy' in {file}", "'target_entropy'?"]),
    ('\ntrain_eval_offline.seed = 3', ['{file}:2: ', 'seed is not for gin to bind']),
    ('mmd.n = 8', ['{file}:1: ', 'mmd.n is not for gin to bind: the program sets it']),
    ("include '{file}'", ['{file} includes itself']),
    ('import exits_with_zero', ['{file}', 'SystemExit(0)']),
    ('train_eval_offline.batch_size = @sac_agent.Agent()', ['train_eval_offline.batch_size: ']),
    ('train_eval_offline.batch_size = %a\na = %a', ['train_eval_offline.batch_size: ']),
    ('import calls_exit\ntrain_eval_offline.batch_size = @calls_exit.f()', ['SystemExit(0)']),
    ('brac_dual_agent.Agent.behavior_ckpt_file = 3', ["'behavior_ckpt_file' in {file}"]),
    ("x.y = '%s'" % ('long ' * 1000), ["no 'x'"]),
    ('a = [%s' % ('long ' * 1000), ['{file}: ']),
  ],
)
def test_a_mistake_in_a_gin_file_names_its_place(text, texts, parse, tmp_path, monkeypatch):
  (tmp_path / 'exits_with_zero.py').write_text('import sys\nsys.exit(0)\n')
  (tmp_path / 'calls_exit.py').write_text(
    'import gin, sys\n@gin.configurable\ndef f(): sys.exit(0)\n'
  )
  monkeypatch.syspath_prepend(str(tmp_path))
  file = str(tmp_path / 'my.gin')
  with pytest.raises(UserError) as error:
    parse(text.replace('{file}', file))
  message = str(error.value)
  assert len(message) < 700 and '\n' not in message and 'target_divergence' not in message
  for text in texts:
    assert text.replace('{file}', file) in message


@pytest.mark.parametrize('path, says', [('{folder}', 'is a folder'), ('/dev/zero', 'no regular')])
def test_a_gin_file_is_a_file(path, says, tmp_path):
  with pytest.raises(UserError, match=says):
    gin_config._gin_file(path.replace('{folder}', str(tmp_path)))


def test_what_a_run_does_not_use_is_named(parse):
  parse(
    """
    brac_primal_agent.Agent.alpha = 0.1
    mmd.use_sqrt = True
    gradient_penalty.gamma = 3
    sac_agent.Agent.ensemble_q_lambda = 1
    physics.n_threads = 2
    small = 8
    train_eval_offline.batch_size = %small
    unused = 8
    scope/train_eval_offline.discount = 1
    """,
    'train_eval_online.batch_size = -3',
    'collect.n_envs = 3',
  )
  others = {'collect.n_envs', 'train_eval_online.batch_size', 'scope/train_eval_offline.discount'}
  primal = {'brac_primal_agent.Agent.alpha', 'mmd.use_sqrt'}
  sac, dual = 'sac_agent.Agent.ensemble_q_lambda', 'gradient_penalty.gamma'

  def unused(agent_name, experiment='train_eval_offline'):
    return set(gin_config.unused(experiment, agent_name, []))

  assert unused('sac') == {*others, *primal, dual, 'unused'}
  assert unused('brac_primal') == {*others, sac, 'unused'}
  assert unused('brac_dual') == {*others, 'brac_primal_agent.Agent.alpha', sac, 'unused'}
  own = {'scope/train_eval_offline.discount', 'train_eval_offline.batch_size', *primal, sac, dual}
  assert unused(None, 'collect') == {*own, 'train_eval_online.batch_size', 'unused'}


def test_a_new_divergence_has_parameters_of_its_own(parse):
  def renyi(pi, b, n, rng, order=2):
    raise NotImplementedError

  with gin.unlock_config():
    gin.external_configurable(renyi, module='brac.divergences')
  try:
    parse('renyi.order = 3')
    assert gin_config.unused('train_eval_offline', 'brac_primal', []) == []
    assert gin_config.unused('train_eval_offline', 'sac', []) == ['renyi.order']
  finally:
    gin.config._REGISTRY.pop('brac.divergences.renyi')


@pytest.mark.parametrize('experiment', ['train_eval_online', 'collect'])
def test_a_preset_is_for_train_offline(experiment, parse):
  parse("train_eval_offline.agent_name = 'bc'")
  with pytest.raises(UserError, match='my.gin binds .*presets are for train_offline'):
    gin_config.unused(experiment, 'sac', [])


@pytest.mark.parametrize(
  'name, near',
  [
    ('batch_size', '; did you mean train_eval_offline.batch_size?'),
    ('target_entropi', '; did you mean sac_agent.Agent.target_entropy?'),
    ('sigma', '%sigma'),
  ],
)
def test_a_binding_without_its_selector_is_refused(name, near, parse):
  parse('x = 3', f'{name} = 3')
  with pytest.raises(UserError) as error:
    gin_config.unused('train_eval_offline', 'sac', [f'{name} = 3'])
  assert str(error.value).startswith(f'gin: {name!r} names no parameter')
  assert str(error.value).endswith(near)


def test_a_macro_may_name_the_agent(parse):
  parse('train_eval_offline.agent_name = %which', "which = 'bcq'")
  assert gin_config.preset['agent_name'] == 'bcq'
  assert gin_config.unused('train_eval_offline', 'bcq', ["which = 'bcq'"]) == []


def test_a_macro_that_a_binding_makes_idle_is_no_mistake(parse):
  parse('size = 3\ntrain_eval_offline.batch_size = %size', 'train_eval_offline.batch_size = 4')
  bindings = ['train_eval_offline.batch_size = 4']
  assert gin_config.unused('train_eval_offline', 'sac', bindings) == ['size']


@pytest.mark.parametrize('parameters', [dict(discount=2), dict(model_params=None)])
def test_what_an_agent_refuses_gets_the_experiments_selector(parameters, tmp_path):
  (parameter,) = parameters
  with pytest.raises(UserError) as error:
    train_eval_online.train_eval_online(
      log_dir=str(tmp_path / 'run'),
      agent_name='sac',
      env_name='Pendulum-v1',
      eval_target=0,
      total_train_steps=4,
      n_eval_episodes=1,
      seed=0,
      **parameters,
    )
  line = gin_config.first_line(str(error.value))
  assert line.startswith(f'train_eval_online.{parameter} ') and '\n' not in line
  assert not (tmp_path / 'run').exists()
