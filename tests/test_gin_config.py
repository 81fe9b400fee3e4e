"""gin files and bindings: what they say, how files include each other, what mistakes read."""

import logging
import os
import shutil
import subprocess
import sys

import gin
import pytest
import tensorflow as tf

from brac import collection, gin_config, operative, train_eval_offline, train_eval_online
from brac.agents import bcq_agent, brac_primal_agent, sac_agent
from brac.data.replay import Dataset
from brac.data.transitions import Transitions
from brac.data_config import project_folder
from brac.errors import UserError
from brac.tf_agents_bridge import BoundedTensorSpec


@pytest.fixture
def parse(tmp_path):
  """`parse(text, *bindings)` takes up a gin file at `tmp_path / 'my.gin'`, then bindings."""

  def parse(text, *bindings):
    (tmp_path / 'my.gin').write_text(text)
    return gin_config.parse([str(tmp_path / 'my.gin')], bindings)

  return parse


# --- What they say --------------------------------------------------------------------------------


def test_a_preset_is_what_was_found(parse, tmp_path):
  preset = parse(
    """
    train_eval_offline.agent_name = %which
    which = 'bcq'
    LR = 3e-5
    train_eval_offline.optimizers = (('adam', 1e-3), ('adam', %LR))
    SIZE = 64
    """,
    'LR = 1e-5',
    'physics.n_threads = 2',
  )
  assert preset == gin_config.Preset(
    agent_name='bcq',
    name='my',
    source=str(tmp_path / 'my.gin'),
    bound={
      'train_eval_offline.agent_name': 'bcq',
      'train_eval_offline.optimizers': (('adam', 1e-3), ('adam', 1e-5)),
      'physics.n_threads': 2,
    },
    macros={'which': 'bcq', 'LR': 1e-5, 'SIZE': 64},
    idle=('SIZE',),
  )
  # As `operative_config.gin` will have it.
  assert "optimizers = (('adam', 0.001), ('adam', 1e-05))" in gin.config_str()


def test_without_an_agent_there_is_no_name(parse):
  preset = parse('train_eval_offline.batch_size = 8')
  assert (preset.agent_name, preset.name, preset.source) == (None, None, None)
  by_binding = gin_config.parse([], ["train_eval_offline.agent_name = 'bc'"])
  assert (by_binding.agent_name, by_binding.name) == ('bc', None)


def test_a_binding_cannot_give_a_preset_s_name_to_the_runs_of_another_agent(tmp_path):
  same = gin_config.parse(['kl_vp.gin'], ["train_eval_offline.agent_name = 'brac_primal'"])
  assert (same.agent_name, same.name) == ('brac_primal', 'kl_vp')
  wrong = r"'bc': kl_vp\.gin, which names the run, is of 'brac_primal'; a gin file of your own"
  with pytest.raises(UserError, match=wrong):
    gin_config.parse(['kl_vp.gin'], ["train_eval_offline.agent_name = 'bc'"])
  own = tmp_path / 'own.gin'
  own.write_text("include 'kl_vp.gin'\ntrain_eval_offline.agent_name = 'bc'\n")
  assert gin_config.parse([str(own)], []).name == 'own'


def test_each_parsing_stands_for_itself(parse, tmp_path):
  parse("train_eval_offline.agent_name = 'bc'\nA = 8\ntrain_eval_offline.batch_size = %A")
  again = gin_config.parse([], ['train_eval_offline.discount = 0.5'])
  assert again == gin_config.Preset(bound={'train_eval_offline.discount': 0.5})
  with pytest.raises(ValueError):
    gin.query_parameter('train_eval_offline.batch_size')
  # What is bound can be bound again, as in a notebook.
  gin.bind_parameter('train_eval_offline.discount', 0.75)


@pytest.mark.parametrize('wrong', ['foo.bar = 3', 'train_eval_offline.batch_size = @f()', 'a = [3'])
def test_a_mistake_leaves_nothing_behind(parse, wrong):
  readers, prefixes = gin.config._FILE_READERS[:], gin.config._LOCATION_PREFIXES[:]
  with pytest.raises(UserError):
    parse(f'train_eval_offline.discount = 0.5\n{wrong}')
  assert logging.root.manager.disable == logging.NOTSET
  assert (gin.config._FILE_READERS, gin.config._LOCATION_PREFIXES) == (readers, prefixes)
  assert not gin.config._CONFIG
  logging.disable(logging.INFO)  # what the caller chose stays as it is
  try:
    with pytest.raises(UserError):
      parse(wrong)
    assert logging.root.manager.disable == logging.INFO
  finally:
    logging.disable(logging.NOTSET)


# --- Files ----------------------------------------------------------------------------------------


def write(folder, **texts):
  folder.mkdir(parents=True, exist_ok=True)
  for name, text in texts.items():
    (folder / f'{name}.gin').write_text(text)
  return folder


def alpha(path):
  return gin_config.parse([str(path)], []).bound['brac_primal_agent.Agent.alpha']


def test_a_file_of_ones_own_includes_a_preset(tmp_path, monkeypatch):
  mine = write(
    tmp_path / 'mine',
    strong="include 'kl_vp.gin'\nALPHA = 3.0\nMINE = 5\ntrain_eval_offline.update_freq = %MINE\n",
    kl_vp="include 'kl_vp.gin'\nALPHA = 4.0\n",  # of the name of the preset that it includes
    nested="include 'deep/kl_vp.gin'\n",
    by_path=f"include '{project_folder('configs')}/kl_vp.gin'\n",
    by_folder="include 'configs/kl_vp.gin'\nALPHA = 6.0\n",
  )
  write(mine / 'deep', kl_vp="include '../strong.gin'\ninclude 'leaf.gin'\n", leaf='ALPHA = 5.0\n')
  elsewhere = write(tmp_path / 'elsewhere', strong='', kl_vp='', leaf='', common='')
  monkeypatch.chdir(elsewhere)
  for name, value in dict(strong=3.0, kl_vp=4.0, nested=5.0, by_path=0.1, by_folder=6.0).items():
    preset = gin_config.parse([str(mine / f'{name}.gin')], [])
    assert (preset.name, preset.agent_name) == (name, 'brac_primal')
    assert preset.bound['brac_primal_agent.Agent.alpha'] == value
  preset = gin_config.parse([str(mine / 'strong.gin')], ['MINE = 7', 'ALPHA = 8.0'])
  assert preset.bound['train_eval_offline.update_freq'] == 7
  assert preset.bound['brac_primal_agent.Agent.alpha'] == 8.0


def test_a_copied_folder_of_presets_is_a_folder_of_its_own(tmp_path, monkeypatch):
  copied = shutil.copytree(project_folder('configs'), tmp_path / 'copied')
  common = copied / 'brac_primal.gin'
  common.write_text(common.read_text().replace('.Agent.alpha = %ALPHA', '.Agent.alpha = 77.0'))
  assert alpha(copied / 'kl_vp.gin') == 77.0
  # A preset of the project's has what stands beside it, wherever it is asked for.
  monkeypatch.chdir(copied)
  assert alpha(os.path.join(project_folder('configs'), 'kl_vp.gin')) == 0.1


def test_tuned_settings_have_the_name_of_their_preset(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # what stands in the present folder comes first
  configs = shutil.copytree(project_folder('configs'), tmp_path / 'ours' / 'configs')
  write(configs / 'tuned' / 'Walker2d-v2', kl_vp="include 'kl_vp.gin'\nALPHA = 30.0\n")
  monkeypatch.setattr(gin_config, 'project_folder', lambda name: str(tmp_path / 'ours' / name))
  for path in ('tuned/Walker2d-v2/kl_vp.gin', 'configs/tuned/Walker2d-v2/kl_vp.gin'):
    preset = gin_config.parse([path], [])
    assert (preset.name, preset.agent_name) == ('kl_vp', 'brac_primal')
    assert preset.bound['brac_primal_agent.Agent.alpha'] == 30.0
    assert preset.macros['POLICY_LR'] == 3e-4
  with pytest.raises(UserError, match="did you mean 'tuned/Walker2d-v2/kl_vp.gin'"):
    gin_config.parse(['tuned/Walker2d-v2/kl_vq.gin'], [])


@pytest.mark.parametrize('mark', ['\ufeff', ''])
@pytest.mark.parametrize('end', ['\n', '\r\n', ''])
def test_a_file_may_come_from_any_editor(tmp_path, mark, end):
  text = f"{mark}include 'inner.gin'{end or chr(10)}train_eval_offline.discount = 0.5  # γ{end}"
  (tmp_path / 'my.gin').write_bytes(text.encode())
  (tmp_path / 'inner.gin').write_bytes(f'{mark}train_eval_offline.batch_size = 8{end}'.encode())
  bound = gin_config.parse([str(tmp_path / 'my.gin')], []).bound
  assert bound == {'train_eval_offline.batch_size': 8, 'train_eval_offline.discount': 0.5}


@pytest.mark.parametrize('encoding', ['latin-1', 'utf-16'])
def test_a_file_that_is_not_in_utf_8_is_named(tmp_path, encoding):
  (tmp_path / 'my.gin').write_bytes('# Größe\n'.encode(encoding))
  with pytest.raises(UserError, match=rf"gin: {tmp_path}/my\.gin: 'utf-8' codec can't decode"):
    gin_config.parse([str(tmp_path / 'my.gin')], [])


@pytest.mark.parametrize('path, says', [('{folder}', 'is a folder'), ('/dev/zero', 'no regular')])
def test_a_gin_file_is_a_file(path, says, tmp_path):
  path = path.replace('{folder}', str(tmp_path))
  with pytest.raises(UserError, match=f'^--gin_file {path} .*{says}'):
    gin_config.parse([path], [])


@pytest.mark.parametrize(
  'text, says',
  [
    ("\ninclude 'kl_vq.gin'", r"my\.gin:2: include 'kl_vq\.gin': .* did you mean 'kl_vp\.gin'"),
    ("include '{folder}/my.gin'", r"my\.gin:1: include '.*my\.gin': the file includes itself"),
    ("include 'my.gin'", r"my\.gin:1: include 'my\.gin': the file includes itself"),
    ("include 'a.gin'", r"a\.gin:1: include 'my\.gin': the file includes itself"),
    ("include '{folder}'", r'my\.gin:1: .* is a folder'),
  ],
)
def test_what_cannot_be_included_is_named(parse, tmp_path, text, says):
  (tmp_path / 'a.gin').write_text("include 'my.gin'")
  with pytest.raises(UserError, match=f'^gin: {tmp_path}/{says}') as error:
    parse(text.replace('{folder}', str(tmp_path)))
  assert len(str(error.value).splitlines()) == 1


# --- Mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  'text, texts',
  [
    ('\nfoo.bar = 3', ['{file}:2: ', "no 'foo'"]),
    ('\ntrain_eval_offline.discout = 3', ['{file}:2: ', "no parameter 'discout'", "'discount'?"]),
    ('sac_agent.Agent.target_entrpy = 3', ["'target_entrpy' in {file}", "'target_entropy'?"]),
    ('\ntrain_eval_offline.seed = 3', ['{file}:2: ', 'seed is not for gin to bind']),
    ('mmd.n = 8', ['{file}:1: ', 'mmd.n is not for gin to bind: the program sets it']),
    ('import exits_with_zero', ['{file}', 'SystemExit(0)']),
    ('\nimport my_agnt', ['{file}:2: ', "'my_agnt'; start from its folder, or put that on PYTH"]),
    ('import my_agnt.part', ["'my_agnt'; start from its folder"]),
    ('from my_agnt import part', ["'my_agnt'; start from its folder"]),
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


def test_a_module_that_is_there_is_not_looked_for_elsewhere(parse, tmp_path, monkeypatch):
  (tmp_path / 'needs_more.py').write_text('import no_such_package\n')
  monkeypatch.syspath_prepend(str(tmp_path))
  with pytest.raises(UserError, match="No module named 'no_such_package'$"):
    parse('import needs_more')


@pytest.mark.parametrize(
  'preset, name, near',
  [
    ('kl_vp', 'ALPA', '; did you mean ALPHA or brac_primal_agent.Agent.alpha?'),
    ('kl_vp', 'policy_lr', '; did you mean POLICY_LR?'),
    ('kl_vp', 'eval/ALPHA', '; did you mean ALPHA or brac_primal_agent.Agent.alpha?'),
    ('kl_vp', 'alpha', '; did you mean ALPHA or brac_primal_agent.Agent.alpha?'),
    ('kl_vp', 'batch_size', '; did you mean train_eval_offline.batch_size?'),
    ('bc', 'PHI', '%PHI'),
    ('sac', 'target_entropi', '; did you mean sac_agent.Agent.target_entropy?'),
    (None, 'eval_target_n', '; did you mean train_eval_online.eval_target_n?'),
  ],
)
def test_a_binding_that_no_value_refers_to_is_refused(preset, name, near):
  files = [f'{preset}.gin'] if preset else []
  with pytest.raises(UserError) as error:
    gin_config.parse(files, ['train_eval_offline.update_freq = 2', f'{name} = 3'])
  assert str(error.value).startswith(f'gin: {name!r} names no parameter')
  assert str(error.value).endswith(near)


def test_a_short_name_is_bound():
  preset = gin_config.parse(['kl_vp.gin'], ['ALPHA=30.0', 'POLICY_LR=1e-5'])
  assert gin.query_parameter('brac_primal_agent.Agent.alpha') == 30.0
  assert gin.query_parameter('train_eval_offline.optimizers')[1] == ('adam', 1e-5)
  assert preset.macros == {'ALPHA': 30.0, 'POLICY_LR': 1e-5} and preset.idle == ()


@pytest.mark.parametrize(
  'text, name',
  [
    ('LENGTH = 5\ntrain_eval_offline.batch_size = %LENGHT', 'LENGTH'),
    ('LENGTH = 5\ntrain_eval_offline.batsh_size = %LENGTH', 'batch_size'),
    ('LENGTH = 5\ntrain_evil_offline.batch_size = %LENGTH', 'train_eval_offline'),
    ("include 'comon.gin'", 'common.gin'),
  ],
  ids=['macro', 'parameter', 'selector', 'file'],
)
def test_a_name_with_a_letter_wrong_is_said_with_the_real_one(text, name, parse):
  with pytest.raises(UserError) as error:
    parse(text)
  assert f'did you mean {name!r}?' in str(error.value)
  assert '\n' not in str(error.value) and len(str(error.value)) < 250


def test_what_may_be_tuned_are_the_macros_and_what_bindings_bind_past_them():
  agent = 'brac_primal_agent.Agent'
  text = "'''\ntrain_eval_offline.batch_size = 4\nno.such = 5\n'''"
  bindings = [
    f'{agent}.alpha = 3  # more\n{agent}.target_entropy = (\n    -2)\neval/{agent}.alpha = 0.5',
    'WARM_START = 7',
    f'brac.agents.{agent}.warm_start = %WARM_START',
    f'train_eval_offline:\n  update_freq \\\n = 2\n  use_seed_for_data = True\nTEXT = {text}',
    "train_eval_offline.agent_name = 'brac_primal'",
    'train_eval_offline.out_of_box_actions = %TEXT',
  ]
  gin_config.parse(['kl_vp.gin'], bindings)
  text = '\ntrain_eval_offline.batch_size = 4\nno.such = 5\n'
  assert operative.tuned() == {
    'POLICY_LR': 3e-4,
    'WARM_START': 7,
    'TEXT': text,
    f'{agent}.warm_start': 7,
    f'{agent}.alpha': 3,
    f'{agent}.target_entropy': -2,
    f'eval/{agent}.alpha': 0.5,
    'train_eval_offline.update_freq': 2,
    'train_eval_offline.use_seed_for_data': True,
    'train_eval_offline.out_of_box_actions': text,
  }
  gin_config.parse(['kl_vp.gin'], [])
  assert operative.tuned() == {'ALPHA': 0.1, 'POLICY_LR': 3e-4}


def test_a_macro_whose_place_another_value_takes_is_no_mistake(parse, tmp_path):
  (tmp_path / 'inner.gin').write_text('size = 3\ntrain_eval_offline.batch_size = %size')
  over = 'train_eval_offline.batch_size = 4'
  for text, *bindings in [(f"include 'inner.gin'\n{over}",), ("include 'inner.gin'", over)]:
    assert parse(text, *bindings).idle == ()
    assert 'size' not in operative.macros()  # its old value is shown as no run's
    with pytest.raises(UserError, match="'size' names no parameter"):
      parse(text, *bindings, 'size = 5')
  assert parse(f"include 'inner.gin'\nsise = 5\n{over}").idle == ('sise',)


# --- In a notebook --------------------------------------------------------------------------------


def test_every_module_can_be_reloaded_also_after_gin_has_parsed():
  code = """
import importlib, sys
from brac import gin_config
gin_config.parse(['kl_vp.gin'], [])
# In their order, which is that of their imports. Programs have flags, which absl lets be once.
done = [name for name in sys.modules if name.startswith('brac.')]
for name in done:
  importlib.reload(sys.modules[name])
gin_config.parse(['kl_vp.gin'], ['ALPHA = 30.0'])
import gin
assert gin.query_parameter('brac_primal_agent.Agent.alpha') == 30.0
assert {'brac.train_eval_offline', 'brac.divergences', 'brac.agents.sac_agent'} <= set(done)
"""
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


@pytest.fixture
def functions():
  """Two configurables, for the time of a test."""

  def outer(size=3):
    return size

  def inner(size=3, order=2):
    return size, order

  names = [f'operative_test.{f.__name__}' for f in (outer, inner)]
  yield [gin.external_configurable(f, module='operative_test') for f in (outer, inner)]
  for name in names:
    gin.config._REGISTRY.pop(name)


def test_what_nothing_asks_for_is_warned_of(functions, caplog):
  outer, inner = functions

  @operative.experiment
  def run(scope):
    outer()
    with gin.config_scope(scope):
      inner()
    operative.warn_of_unused()

  for name in ('outer.size', 'inner.order', 'a/inner.size', 'b/inner.size', 'b/outer.size'):
    gin.bind_parameter(name, 5)
  gin.bind_parameter(('LR', 'gin.macro', 'value'), 5)

  def warned(*args):
    caplog.clear()
    run(*args)
    return [record.args[0] + '.' + record.args[1] for record in caplog.records]

  assert warned(None) == ['a/inner.size', 'b/inner.size', 'b/outer.size']
  assert warned('a/c') == ['b/inner.size', 'b/outer.size']
  assert warned('b') == ['a/inner.size', 'b/outer.size']  # not what the run before has asked for


def test_the_settings_of_a_run_are_its_own(functions):
  outer, inner = functions
  first = operative.experiment(lambda: (outer(), inner(), gin.operative_config_str())[-1])
  second = operative.experiment(lambda: (outer(), gin.operative_config_str())[-1])
  assert 'inner.order' in first()
  assert 'outer.size = 3' in second() and 'inner.order' not in second()


@pytest.mark.parametrize(
  'experiment',
  [collection.collect, train_eval_offline.train_eval_offline, train_eval_online.train_eval_online],
)
def test_an_experiment_forgets_the_one_before_it(experiment):
  gin.config._OPERATIVE_CONFIG[('', 'brac.divergences.mmd')] = {'use_sqrt': True}
  with pytest.raises(TypeError, match='missing'):
    experiment()
  assert [s.rpartition('.')[2] for _, s in gin.config._OPERATIVE_CONFIG] == [experiment.__name__]


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


def test_what_one_of_several_classes_called_agent_refuses_is_its_line():
  # As where a saved agent is made again by its own parameters, without an experiment.
  specs = tf.TensorSpec([3], tf.float32), BoundedTensorSpec([1], tf.float32, -1, 1)
  data = Dataset(Transitions.zeros(1, 3, 1))
  for agent in (sac_agent.Agent, brac_primal_agent.Agent, bcq_agent.Agent):
    for parameter in ('discount', 'ensemble_q_lambda'):
      with pytest.raises(UserError) as error:
        agent(observation_spec=specs[0], action_spec=specs[1], data=data, **{parameter: 2})
      line = gin_config.first_line(str(error.value))
      assert f'{parameter} is a number from 0 to 1, not 2' in line and '\n' not in line


def test_an_error_of_other_words_is_left_as_it_is():
  call = "\n  In call to configurable '{}' ({})"
  for what in (
    call.format('Agent', '<function Agent at 0x7f>'),  # which of them it is cannot be known
    call.format('Agent', "<class 'elsewhere.Agent'>"),
    call.format('nothing', '<function nothing at 0x7f>'),
    '',
  ):
    assert gin_config.first_line('discount is wrong' + what) == 'discount is wrong'


def test_the_parameters_of_the_data_and_of_environments_are_there():
  names = {
    f'{gin_config.short(selector)}.{name}'
    for selector in gin_config.configurables()
    for name in gin_config.parameters(selector)
  }
  found = {name for name in names if gin_config.OF_DATA.fullmatch(name)}
  assert found == {
    *('train_eval_offline.shuffle_steps', 'train_eval_offline.use_seed_for_data'),
    *('train_eval_offline.out_of_box_actions', 'train_eval_offline.validation_fraction'),
    *('dict_observations.keys', 'physics.backend', 'physics.ant_contact_forces'),
    'physics.n_threads',
  }
