"""What the flags of the three programs mean."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import time

import pytest
from reading import checkpoint_names, results
from small_world import (
  BRAC,
  BRIEF,
  RANDWALK,
  ROOT,
  collect_args,
  offline_args,
  offline_dir,
  online_args,
  online_dir,
)

from brac import data_config, environments, policies, policy_loader, programs, rollouts
from brac.errors import UserError
from brac.networks import Box

COMMON_FLAGS = {'seed': 0, 'n_eval_episodes': 20, 'gin_file': [], 'gin_bindings': []}

FLAGS = {
  'train_online': {
    'root_dir': '{HOME}/tmp/offlinerl/policies',
    'sub_dir': '0',
    'agent_name': 'sac',
    'env_name': 'Walker2d-v2',
    'eval_target': 1000,
    'total_train_steps': 500000,
  },
  'collect_data': {
    'root_dir': '{HOME}/tmp/offlinerl/data',
    'sub_dir': '0',
    'env_name': 'HalfCheetah-v2',
    'data_name': 'random',
    'config_file': 'dcfg_pure',
    'policy_root_dir': None,
    'n_samples': 1000000,
  },
  'train_offline': {
    'root_dir': '{HOME}/tmp/offlinerl/learn',
    'sub_dir': '0',
    'data_root_dir': '{HOME}/tmp/offlinerl/data',
    'data_sub_dir': '0',
    'data_name': 'eps1',
    'data_file_name': 'data',
    'agent_name': 'sac',
    'env_name': 'HalfCheetah-v2',
    'total_train_steps': 500000,
    'n_train': 1000000,
  },
}


@pytest.mark.parametrize('program', FLAGS)
def test_help_has_every_flag_with_its_default_and_what_it_means(start, tmp_path, program):
  run = start(program, '--helpshort')
  run.wait()
  helps = re.findall(
    r'^  --(?:\[no\])?(\w+): (.*?)(?=^  --|\Z)', run.stdout + run.stderr, re.M | re.S
  )
  helps = {name: ' '.join(text.split()) for name, text in helps}
  for name, default in {**COMMON_FLAGS, **FLAGS[program]}.items():
    text = helps[name]
    if default in (None, []):
      assert '(default: ' not in text or '(default: [])' in text or "(default: '[]')" in text, text
    else:
      shown = str(default).replace('{HOME}', str(start.home))
      unwrapped = text.replace('- ', '-')  # a path is broken at a hyphen too
      assert re.search(rf"\(default: '?{re.escape(shown)}(\.0)?'?\)", unwrapped), text
  assert {'config_dir'} <= set(helps) or program != 'collect_data'
  for name, text in helps.items():
    meaning = re.sub(r'^<[\w|]*>: |\(default: .*|\(an? .*|; repeat this option.*', '', text).strip()
    assert len(meaning) > 10, f'--{name}: {text}'


def test_help_does_not_wait_for_tensorflow():
  code = 'import sys, brac.train_offline; sys.exit("tensorflow" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_a_typed_mistake_is_one_line(tmp_path):
  def type_in(name, folder):
    return subprocess.Popen(
      [sys.executable, '-m', name, f'--root_dir={tmp_path}/root', '--env_name=HalfCheeta-v2'],
      cwd=folder,
      env={**os.environ, 'HOME': str(tmp_path)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  for process in (type_in('brac.train_offline', tmp_path), type_in('train_offline', BRAC)):
    out, err = process.communicate()
    assert process.returncode == 1 and out == ''
    (line,) = err.splitlines()
    assert line.startswith('train_offline: ') and "'HalfCheetah-v" in line
  assert not os.path.exists(tmp_path / 'root')


def test_another_clone_does_not_run_the_code_of_the_one_that_is_installed(tmp_path):
  brac = shutil.copytree(BRAC, tmp_path / 'brac', ignore=shutil.ignore_patterns('__pycache__'))
  command = [sys.executable, '-m', 'train_offline', '--help']
  run = subprocess.run(command, cwd=brac, capture_output=True, text=True)
  assert (run.returncode, run.stdout) == (1, '')
  assert run.stderr.startswith(f'train_offline: {brac} is not the code that would run: {BRAC} is ')
  assert len(run.stderr.splitlines()) == 1


def test_sub_dir_auto_is_the_date_and_time(finish, world, tmp_path):
  finish(
    ['train_offline', *offline_args(world, tmp_path, *BRIEF, '--sub_dir=auto')],
    ['train_online', *online_args(tmp_path, '--total_train_steps=1', '--sub_dir=auto')],
    ['collect_data', *collect_args(world, 'randwalk', '--sub_dir=auto', root=tmp_path)],
  )
  for parent, last, name in (
    ('randwalk/n1000/bc', '0', 'agent'),
    ('sac', '', 'agent_final'),
    ('randwalk', '', 'data'),
  ):
    parent = tmp_path / 'Pendulum-v1' / parent
    (sub_dir,) = set(os.listdir(parent)) - {'n1000'}
    then = time.mktime(time.strptime(sub_dir, '%Y-%m-%d-%H-%M-%S'))
    assert abs(then - os.path.getmtime(parent / sub_dir)) < 3600
    assert name in checkpoint_names(parent / sub_dir / last)


def test_a_return_is_the_mean_of_as_many_episodes_as_the_flag_says(finish, world, tmp_path):
  n = '--n_eval_episodes=3'
  collecting, *_ = finish(
    ['collect_data', *collect_args(world, 'randwalk', n, root=tmp_path / 'data')],
    ['train_offline', *offline_args(world, tmp_path, *BRIEF, n)],
    ['train_online', *online_args(tmp_path, '--total_train_steps=1', n)],
  )
  env = environments.make_batch('Pendulum-v1', 1, 0)
  specs = env.observation_spec, env.action_spec

  def evaluate(policy, seed, step):
    return rollouts.Evaluator('Pendulum-v1', {'main': policy}, 3, seed).run(step)['main']

  for path in (
    offline_dir(tmp_path, 'bc') / 'agent_behavior',
    online_dir(tmp_path) / 'agent_final',
  ):
    actor = policy_loader.load_actor(str(path), 3, Box.of(specs[1]), 'policy')
    returns = evaluate(policies.ActorPolicy(*specs, actor, True), 0, 1)
    assert results(path.parent)[1] == [[1, pytest.approx(returns.mean(), rel=1e-5)]]
  returns = evaluate(policies.RandomPolicy(*specs), rollouts.seed_of(0, 0), 0)
  assert f'return {returns.mean():.1f} ± {returns.std():.1f}\n' in collecting.stderr


@pytest.mark.parametrize('home, name', [('~', 'tilde'), ('$HOME', 'dollar')])
def test_folders_may_be_given_by_a_tilde_and_by_home(start, finish, world, home, name):
  # No shell puts these in where they follow a sign of equality.
  finish(['train_offline', *offline_args(world, f'{home}/{name}/learn', *BRIEF)])
  folder = start.home / name
  assert checkpoint_names(offline_dir(f'{folder}/learn', 'bc')) == ['agent', 'agent_behavior']
  shutil.copytree(world, f'{folder}/world')
  finish(
    [
      *('train_offline', *offline_args(world, f'{folder}/other', *BRIEF)),
      f'--data_root_dir={home}/{name}/world/data',
    ],
    [
      *('collect_data', *collect_args(world, 'own')),
      f'--root_dir={home}/{name}/data',
      f'--config_dir={home}/{name}/world/configs',
      f'--policy_root_dir={home}/{name}/world/policies',
    ],
  )
  assert checkpoint_names(f'{folder}/data') == ['Pendulum-v1/own/0/data']


@pytest.mark.parametrize('path', ['$NO_SUCH/x', 'a/${NO_SUCH}', '$HOME/x', '~no_such_user/x'])
def test_a_folder_that_cannot_be_expanded_is_an_error(monkeypatch, path):
  monkeypatch.delenv('HOME')
  with pytest.raises(UserError, match=f'^folder {re.escape(path)}: .* stands for nothing'):
    programs.folder(path)


def test_a_folder_may_have_signs_that_stand_for_nothing(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  assert programs.folder('$HOME/a$') == programs.folder('~/a$') == '/home/me/a$'
  assert programs.folder('./~x') == './~x' and programs.folder(None) is None


def test_a_dataset_that_has_the_name_of_another_config_is_warned_of(finish, world, tmp_path):
  other, own = finish(
    *(
      ['collect_data', *collect_args(world, name, '--config_file=dcfg_randwalk', root=tmp_path)]
      for name in ('mixture', 'randwalk')
    )
  )
  assert re.search('^W.* called mixture, but is collected as dcfg_randwalk.py', other.stderr, re.M)
  for run in (other, own):
    assert f'the data config is {world}/configs/dcfg_randwalk.py' in run.stderr
  assert 'but is collected as' not in own.stderr


def test_a_name_with_a_slash_has_one_folder(start, finish, tmp_path):
  (start.home / 'my_lab.py').write_text(
    'import gym\n'
    "gym.register('lab/Swing-v0', entry_point='gym.envs.classic_control:PendulumEnv', "
    'max_episode_steps=200)\n'
  )
  names = ('--env_name=my_lab:lab/Swing-v0', '--data_name=mine/small', '--n_eval_episodes=1')
  learn = (f'--root_dir={tmp_path}/learn', f'--data_root_dir={tmp_path}/data', '--n_train=300')
  (start.home / 'configs').mkdir()
  (start.home / 'configs' / 'dcfg_walk.py').write_text(textwrap.dedent(RANDWALK))
  config = ('--config_dir=configs', '--config_file=dcfg_walk', '--n_samples=300')
  finish(['collect_data', f'--root_dir={tmp_path}/data', *names, *config])
  finish(['train_offline', '--gin_file=bc.gin', '--total_train_steps=2', *learn, *names])
  finish(['train_offline', '--gin_file=kl_vp.gin', '--total_train_steps=2', *learn, *names])
  finish(['train_online', *online_args(tmp_path / 'policies', names[0], '--total_train_steps=1')])
  env = 'my_lab:lab--Swing-v0'
  assert checkpoint_names(tmp_path) == [
    f'data/{env}/mine--small/0/data',
    f'learn/{env}/mine--small/n300/bc/0/0/agent',
    f'learn/{env}/mine--small/n300/bc/0/0/agent_behavior',
    f'learn/{env}/mine--small/n300/kl_vp/0/0/agent',
    f'policies/{env}/sac/0/agent_final',
    f'policies/{env}/sac/0/replay_final',
  ]
  assert data_config.shipped_policy('my_lab:lab/Swing-v0', 'x') == f'x/{env}/agent_partial_target'


@pytest.mark.parametrize('streams', ['ascii', 'latin-1'])
def test_a_terminal_that_knows_few_signs_gets_others(tmp_path, streams):
  (tmp_path / 'says.py').write_text(
    """
from brac import gin_config, programs
programs.define_run_flags()
def main(preset):
  print(f'{preset.name}: 3 ± 1, α')
  raise gin_config.UserError('α is no β')
programs.run(main, takes_preset=True)
""",
    encoding='utf-8',
  )
  unknowing = {'LC_ALL': 'C', 'PYTHONCOERCECLOCALE': '0', 'PYTHONUTF8': '0'}
  run = subprocess.run(
    [sys.executable, tmp_path / 'says.py', '--gin_file=bc.gin'],
    env={**os.environ, **unknowing, 'PYTHONIOENCODING': streams},
    cwd=ROOT,
    capture_output=True,
  )
  spread = {'ascii': b'+-', 'latin-1': '±'.encode('latin-1')}[streams]
  assert run.stdout == b'bc: 3 ' + spread + b' 1, \\u03b1\n'
  assert run.stderr == b'says: \\u03b1 is no \\u03b2\n'
  assert run.returncode == 1
