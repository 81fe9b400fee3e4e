"""Data configs: those that are shipped, and those that users write."""

import os
import sys
import textwrap

import pytest
import tensorflow as tf

from brac import checkpoints, data_config, environments, policy_loader, rng
from brac.errors import UserError
from brac.networks import Actor, Box
from brac.tf_agents_bridge import BoundedTensorSpec

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NOISY = {
  'eps1': ['eps', 0.1],
  'eps3': ['eps', 0.3],
  'gaussian1': ['gaussian', 0.1],
  'gaussian3': ['gaussian', 0.3],
}
SHIPPED = ('example', 'pure', *NOISY)


def load(name, config_dir=None, env_name='Hopper-v2', policy_root_dir=None):
  return data_config.load(data_config.find(config_dir, name), env_name, policy_root_dir)


def by_wrapper(parts):
  """The proportions and checkpoints of the parts by what they do."""
  found = {}
  for part in parts:
    ptype, path, wrapper, units = part.policy_cfg
    assert units == (() if ptype == 'randwalk' else (200, 200))
    found[(ptype, *wrapper)] = part.proportion, path
  assert len(found) == len(parts)
  return found


# --- What is shipped ------------------------------------------------------------------------------


def test_the_shipped_configs_are_those_of_the_paper_and_the_example():
  there = {f for f in os.listdir(os.path.join(_ROOT, 'configs')) if f.startswith('dcfg_')}
  assert there == {f'dcfg_{name}.py' for name in SHIPPED}


@pytest.mark.parametrize('name', NOISY)
def test_the_noisy_four_mix_20_40_40(name):
  parts = by_wrapper(load(f'dcfg_{name}'))
  path = os.path.join(_ROOT, 'trained_policies', 'Hopper-v2', 'agent_partial_target')
  assert parts.pop(('randwalk', 'none'))[0] == 0.2
  assert parts.pop(('load', 'none')) == (0.4, path)
  assert parts == {('load', *NOISY[name]): (0.4, path)}


def test_pure_is_the_policy_alone():
  path = os.path.join(_ROOT, 'trained_policies', 'Ant-v2', 'agent_partial_target')
  assert by_wrapper(load('dcfg_pure', env_name='Ant-v2')) == {('load', 'none'): (1.0, path)}


@pytest.mark.parametrize('name', ['pure', *NOISY])
def test_a_policy_root_dir_takes_the_place_of_the_shipped_policies(name):
  parts = by_wrapper(load(f'dcfg_{name}', policy_root_dir='/mine'))
  paths = {path for (ptype, *_), (_, path) in parts.items() if ptype == 'load'}
  assert paths == {'/mine/Hopper-v2/agent_partial_target'}


@pytest.mark.parametrize(
  'root, expect', [(None, '/home/me/tmp/offlinerl/policies'), ('/mine', '/mine')]
)
def test_example_reads_the_users_own_policy(monkeypatch, root, expect):
  monkeypatch.setenv('HOME', '/home/me')
  parts = by_wrapper(load('dcfg_example', policy_root_dir=root))
  paths = {path for (ptype, *_), (_, path) in parts.items() if ptype == 'load'}
  assert paths == {f'{expect}/Hopper-v2/sac/0/agent_partial_target'}
  assert abs(sum(proportion for proportion, _ in parts.values()) - 1) < 1e-9


@pytest.mark.parametrize('name', SHIPPED)
def test_the_policies_of_a_shipped_config_load(name, tmp_path):
  specs = (
    tf.TensorSpec([11], tf.float32),
    BoundedTensorSpec([3], tf.float32, -1, 1),
  )
  actor = Actor(11, (200, 200), Box.of(specs[1]), rng.Rng(0))
  for parts in ((), ('sac', '0')):
    path = os.path.join(tmp_path, 'Hopper-v2', *parts, 'agent_partial_target')
    checkpoints.save(path, policy=actor)
  for part in load(f'dcfg_{name}', policy_root_dir=str(tmp_path)):
    policy = policy_loader.load_policy(part.policy_cfg, *specs)
    assert policy.act(tf.zeros([2, 11]), rng.Rng(0)).shape == [2, 3]


@pytest.mark.parametrize('env_name', ['HalfCheetah-v2', 'Hopper-v2', 'Walker2d-v2', 'Ant-v2'])
def test_the_shipped_policy_and_its_clones_fit_their_environment(env_name):
  env = environments.make_batch(env_name, 1, 0)
  sizes = env.observation_spec.shape[0], Box.of(env.action_spec)
  folder = os.path.join(_ROOT, 'trained_policies', env_name)
  path = os.path.join(folder, 'agent_partial_target')
  policy_loader.load_actor(path, *sizes, 'policy', (200, 200))
  for data_name in ('pure', *NOISY):
    run = os.path.join(folder, data_name, 'n1000000', 'bc', '0', '0')
    policy_loader.load_actor(os.path.join(run, 'agent_behavior'), *sizes, 'clone')
    with open(os.path.join(run, 'results.csv'), encoding='utf-8') as f:
      header, *rows = f.read().splitlines()
    assert header == 'step,main' and rows


# --- What users write -----------------------------------------------------------------------------

GOOD = """
  def get_data_config(env_name, policy_root_dir=None):
    return [['mine', ['randwalk', '', ['none'], ()], 1.0]]
"""


@pytest.fixture
def write(tmp_path):
  """`write(source)` writes the data config `dcfg_mine.py` into a folder, which it returns."""

  def write(source, name='dcfg_mine'):
    folder = tmp_path / 'my configs'
    folder.mkdir(exist_ok=True)
    (folder / f'{name}.py').write_text(textwrap.dedent(source))
    return str(folder)

  return write


@pytest.mark.parametrize('name', ['dcfg_mine', 'dcfg_mine.py'])
def test_a_users_config_in_any_folder(write, name):
  (part,) = load(name, write(GOOD))
  assert part == ('mine', ['randwalk', '', ['none'], ()], 1.0)
  assert (part.name, part.proportion) == ('mine', 1.0)


def test_a_config_with_another_name_than_dcfg(write):
  assert len(load('anything', write(GOOD, 'anything'))) == 1


def test_a_relative_folder_and_one_with_a_tilde(write, tmp_path, monkeypatch):
  write(GOOD)
  monkeypatch.chdir(tmp_path)
  assert len(load('dcfg_mine', 'my configs')) == 1
  monkeypatch.setenv('HOME', str(tmp_path))
  assert len(load('dcfg_mine', '~/my configs')) == 1


def test_a_config_gets_what_it_is_given(write):
  folder = write("""
    def get_data_config(env_name, policy_root_dir=None):
      return [[f'{env_name} {policy_root_dir}', ['randwalk', '', ['none'], ()], 1]]
  """)
  assert load('dcfg_mine', folder, 'Ant-v2', '/mine')[0].name == 'Ant-v2 /mine'
  assert load('dcfg_mine', folder, 'Ant-v2')[0].name == 'Ant-v2 None'


def test_a_config_may_import_what_stands_beside_it(write):
  write('NAME = "of the neighbour"', 'my_neighbour_of_dcfg')
  folder = write("""
    import my_neighbour_of_dcfg
    def get_data_config(env_name, policy_root_dir=None):
      return [[my_neighbour_of_dcfg.NAME, ['randwalk', '', ['none'], ()], 1.0]]
  """)
  path = list(sys.path)
  assert load('dcfg_mine', folder)[0].name == 'of the neighbour'
  assert sys.path == path
  # Another folder may have another neighbour of that name.
  write('NAME = "of another neighbour"', 'my_neighbour_of_dcfg')
  assert load('dcfg_mine', folder)[0].name == 'of another neighbour'


def test_proportions_may_be_thirds(write):
  folder = write("""
    def get_data_config(env_name, policy_root_dir=None):
      return [(str(i), ('randwalk', '', ('none',), ()), 1 / 3) for i in range(3)]
  """)
  assert [part.name for part in load('dcfg_mine', folder)] == ['0', '1', '2']


@pytest.fixture
def package(tmp_path, monkeypatch):
  """A package `dcfg_test_package.sub` on the path, with a data config."""
  folder = tmp_path / 'dcfg_test_package' / 'sub'
  folder.mkdir(parents=True)
  (folder.parent / '__init__.py').write_text('')
  (folder / '__init__.py').write_text('')
  (folder / 'dcfg_mine.py').write_text(textwrap.dedent(GOOD))
  monkeypatch.syspath_prepend(str(tmp_path))
  yield 'dcfg_test_package.sub'
  for name in [name for name in sys.modules if name.startswith('dcfg_test_package')]:
    del sys.modules[name]


@pytest.mark.parametrize('name', ['dcfg_mine', 'dcfg_mine.py'])
def test_a_dotted_module_name(package, name):
  assert load(name, package)[0].name == 'mine'


def test_a_dotted_module_name_without_an_init_file(tmp_path, monkeypatch):
  folder = tmp_path / 'dcfg_test_namespace' / 'configs'
  folder.mkdir(parents=True)
  (folder / 'dcfg_mine.py').write_text(textwrap.dedent(GOOD))
  monkeypatch.syspath_prepend(str(tmp_path))
  assert load('dcfg_mine', 'dcfg_test_namespace.configs')[0].name == 'mine'


# --- What is wrong --------------------------------------------------------------------------------


def error_of(*args, **kwargs):
  with pytest.raises(UserError) as error:
    load(*args, **kwargs)
  message = str(error.value)
  assert '\n' not in message
  return message


def test_an_unknown_config_is_an_error_with_the_nearest():
  message = error_of('dcfg_gausian1')
  assert 'dcfg_gausian1.py' in message and "did you mean 'dcfg_gaussian1'?" in message
  assert 'dcfg_pure' in message and 'dcfg_example' in message


def test_an_unknown_config_in_an_empty_folder(tmp_path):
  assert 'there are none' in error_of('dcfg_mine', str(tmp_path))


@pytest.mark.parametrize('config_dir', ['/no/where', 'no_such_package.configs', 'os.path', 'a b'])
def test_an_unknown_folder_is_an_error(config_dir):
  message = error_of('dcfg_mine', config_dir)
  assert f'--config_dir {config_dir}' in message and 'no such folder' in message


def test_a_package_that_fails_is_not_said_to_be_missing(package, tmp_path):
  (tmp_path / 'dcfg_test_package' / 'sub' / '__init__.py').write_text(
    'import no_such_module_at_all'
  )
  message = error_of('dcfg_mine', package)
  assert 'no_such_module_at_all' in message


def test_a_syntax_error_shows_the_users_own_line(write):
  folder = write('import os\n\ndef get_data_config(env_name) return []\n')
  message = error_of('dcfg_mine', folder)
  assert message.startswith(f'{folder}/dcfg_mine.py:3: ')
  assert message.endswith('def get_data_config(env_name) return []')


def test_null_bytes_are_an_error_with_the_file(write):
  folder = write('x = 1\0')
  message = error_of('dcfg_mine', folder)
  assert message.startswith(f'{folder}/dcfg_mine.py: ') and 'null bytes' in message


def test_a_folder_in_the_place_of_a_config_is_said(write, tmp_path):
  folder = write(GOOD)
  os.mkdir(f'{folder}/dcfg_folder.py')
  message = error_of('dcfg_folder', folder)
  assert message.startswith(f'no data config {folder}/dcfg_folder.py, but a folder')
  assert "there are dcfg_mine; did you mean 'dcfg_mine'?" in message


def test_a_config_leaves_nothing_in_its_folder(write, monkeypatch):
  monkeypatch.setattr(sys, 'dont_write_bytecode', False)
  write('x = 1', 'my_neighbour_of_dcfg')
  folder = write('import my_neighbour_of_dcfg\nraise ValueError')
  error_of('dcfg_mine', folder)
  assert sorted(os.listdir(folder)) == ['dcfg_mine.py', 'my_neighbour_of_dcfg.py']
  assert not sys.dont_write_bytecode and 'my_neighbour_of_dcfg' not in sys.modules


def test_a_failing_import_shows_the_users_own_line(write):
  folder = write('import os\nimport no_such_module_at_all\n')
  message = error_of('dcfg_mine', folder)
  assert message.startswith(f'{folder}/dcfg_mine.py:2: import no_such_module_at_all: ')
  assert "ModuleNotFoundError: No module named 'no_such_module_at_all'" in message


def test_a_syntax_error_in_a_neighbour_shows_its_line(write):
  write('x = = 1', 'my_broken_neighbour_of_dcfg')
  folder = write('import my_broken_neighbour_of_dcfg\n')
  message = error_of('dcfg_mine', folder)
  assert f'{folder}/my_broken_neighbour_of_dcfg.py:1: ' in message and 'x = = 1' in message


@pytest.mark.parametrize(
  'body, what',
  [
    ("raise KeyError('Walker')", "raise KeyError('Walker'): KeyError: 'Walker'"),
    ('return os.path.join(None)', 'return os.path.join(None): TypeError: '),
    ("raise ValueError('one\\ntwo')", 'ValueError: one'),
    ('return 1 / 0', 'return 1 / 0: ZeroDivisionError: division by zero'),
    ("raise GeneratorExit('mine')", "GeneratorExit('mine'): GeneratorExit: mine"),
  ],
)
def test_a_function_that_raises_shows_the_users_own_line(write, body, what):
  folder = write(f'import os\ndef get_data_config(env_name, policy_root_dir=None):\n  {body}\n')
  message = error_of('dcfg_mine', folder)
  assert message.startswith(f'{folder}/dcfg_mine.py:3: ') and what in message


def test_a_function_without_the_arguments_is_an_error(write):
  folder = write('def get_data_config(env_name):\n  return []\n')
  message = error_of('dcfg_mine', folder)
  assert f'{folder}/dcfg_mine.py' in message and 'get_data_config() takes 1 positional' in message


def test_a_config_without_the_function_is_an_error(write):
  folder = write('def get_config(env_name, policy_root_dir=None):\n  return []\n')
  message = error_of('dcfg_mine', folder)
  assert f'{folder}/dcfg_mine.py has no function get_data_config(env_name' in message


RANDWALK = "['randwalk', '', ['none'], ()]"


@pytest.mark.parametrize(
  'lines, what',
  [
    (f"[['a', {RANDWALK}, 0.5], ['b', {RANDWALK}, 0.4]]", 'proportions add up to 0.9, not to 1'),
    (f"[['a', {RANDWALK}, 0.5], ['b', {RANDWALK}, 0.6]]", 'proportions add up to 1.1, not to 1'),
    (f"[['a', {RANDWALK}, 0.0], ['b', {RANDWALK}, 1.0]]", "the proportion of 'a' is above 0"),
    (f"[['a', {RANDWALK}, -1], ['b', {RANDWALK}, 2]]", "the proportion of 'a' is above 0"),
    (f"[['a', {RANDWALK}, float('nan')]]", "the proportion of 'a' is above 0"),
    (f"[['a', {RANDWALK}, '1.0']]", "the proportion of 'a' is above 0 and at most 1, not '1.0'"),
    (f"[['a', {RANDWALK}, True]]", "the proportion of 'a' is above 0 and at most 1, not True"),
    (f"[['a', {RANDWALK}]]", 'a line reads [name, policy_cfg, proportion], not '),
    (f"['a', {RANDWALK}, 1.0]", 'a line reads [name, policy_cfg, proportion], not '),
    ("['randwalk']", "a line reads [name, policy_cfg, proportion], not 'randwalk'"),
    ("'randwalk'", "returns a list of [name, policy_cfg, proportion], not 'randwalk'"),
    ('None', 'returns a list of [name, policy_cfg, proportion], not None'),
    ("{'a': 1.0}", "returns a list of [name, policy_cfg, proportion], not {'a': 1.0}"),
    ('(x for x in [1])', 'returns a list of [name, policy_cfg, proportion], not <generator'),
    ('[]', 'returns a list of [name, policy_cfg, proportion], not []'),
    (f'[[None, {RANDWALK}, 1.0]]', 'the name of a part is a text, not None'),
    (f'[["", {RANDWALK}, 1.0]]', "the name of a part is a text, not ''"),
  ],
)  # fmt: skip
def test_what_does_not_read_as_a_config_is_an_error(write, lines, what):
  folder = write(f'def get_data_config(env_name, policy_root_dir=None):\n  return {lines}\n')
  message = error_of('dcfg_mine', folder)
  assert message.startswith(f'{folder}/dcfg_mine.py: ') and what in message
