"""The small world that the programs are started in: configs, commands, and where runs go."""

import os
import pathlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BRAC = os.path.join(ROOT, 'brac')

RANDWALK = """
  def get_data_config(env_name, policy_root_dir=None):
    return [['randwalk', ['randwalk', '', ['none'], ()], 1.0]]
"""
MIXTURE = """
  def get_data_config(env_name, policy_root_dir=None):
    return [
      ['randwalk', ['randwalk', '', ['none'], ()], 0.2],
      ['untrained', ['randinit', '', ['none'], (8,)], 0.4],
      ['noisy', ['randinit', '', ['gaussianeps', 0.3, 0.5], (8,)], 0.4],
    ]
"""
CONFIGS = {
  'dcfg_randwalk': RANDWALK,
  'dcfg_mixture': MIXTURE,
  'dcfg_proportions': RANDWALK.replace('1.0', '0.9'),
  'dcfg_wrapper': RANDWALK.replace("['none']", "['gausian', 0.1]"),
  'dcfg_ptype': RANDWALK.replace("['randwalk', ''", "['randwlak', ''"),
  'dcfg_syntax': RANDWALK.replace('return [[', 'return [[['),
  'dcfg_raises': RANDWALK.replace('return', 'assert env_name == 1; return'),
  'dcfg_exits': RANDWALK.replace('return', 'raise SystemExit; return'),
  'dcfg_list': RANDWALK.replace("['none']", "[['none']]"),
  'dcfg_own': """
    def get_data_config(env_name, policy_root_dir=None):
      return [['p', ['load', policy_root_dir + '/pendulum', ['none'], (8,)], 1.0]]
  """,
  'dcfg_units': """
    def get_data_config(env_name, policy_root_dir=None):
      return [['p', ['load', policy_root_dir + '/pendulum', ['none'], (200, 200)], 1.0]]
  """,
}


def collect_args(world, name, *args, root='data'):
  return (
    f'--root_dir={world / root}',
    '--env_name=Pendulum-v1',
    f'--data_name={name}',
    f'--config_dir={world / "configs"}',
    f'--config_file=dcfg_{name}',
    '--n_samples=1000',
    '--n_eval_episodes=1',
    *args,
  )


def gin(binding):
  return [f'--gin_bindings={binding}']


def bind(function, **parameters):
  return [f'--gin_bindings={function}.{name}={value!r}' for name, value in parameters.items()]


def offline_args(world, root, *args, **parameters):
  small = dict(model_params=(((8, 8),), 2), batch_size=16, summary_freq=20, eval_freq=200)
  return (
    f'--root_dir={root}',
    f'--data_root_dir={world / "data"}',
    '--data_name=randwalk',
    '--env_name=Pendulum-v1',
    '--agent_name=sac',
    '--n_train=1000',
    '--n_eval_episodes=1',
    '--total_train_steps=400',
    *bind('train_eval_offline', **{**small, **parameters}),
    *args,
  )


def offline_dir(root, agent_name='sac', seed=0, n_train=1000, sub_dir='0'):
  place = f'Pendulum-v1/randwalk/n{n_train}/{agent_name}/{sub_dir}/{seed}'
  return pathlib.Path(root, place)


def online_args(root, *args, **parameters):
  small = dict(
    model_params=(((8, 8),), 2),
    batch_size=16,
    summary_freq=20,
    eval_freq=200,
    initial_explore_steps=250,
    replay_buffer_size=600,
  )
  return (
    f'--root_dir={root}',
    '--env_name=Pendulum-v1',
    '--n_eval_episodes=1',
    '--total_train_steps=400',
    *bind('train_eval_online', **{**small, **parameters}),
    *args,
  )


def online_dir(root, agent_name='sac', sub_dir='0'):
  return pathlib.Path(root, f'Pendulum-v1/{agent_name}/{sub_dir}')


# The quickest run there is.
BRIEF = ('--agent_name=bc', '--total_train_steps=1')


def run_to(start, *command):
  run = start(*command)
  assert run.wait() == 0, run.stderr


def check_mistake(run, world, name, texts, exit_status=1):
  assert run.wait() == exit_status, run.stderr
  assert run.stdout == ''
  assert len(run.said) == 1, run.stderr
  assert run.said[0].startswith(name + ': ')
  for text in texts:
    assert text.replace('{world}', str(world)) in run.said[0]
