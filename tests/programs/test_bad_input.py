"""Mistakes in flags, gin and data: one line each, and nothing is written."""

import os
import subprocess
import sys

import pytest
from small_world import ROOT, check_mistake, collect_args, gin, offline_args, online_args


def primal(world_file='policies/pendulum', *args):
  name = 'brac_primal_agent.Agent.behavior_ckpt_file'
  return ['--agent_name=brac_primal', *gin(f"{name}='{{world}}/{world_file}'"), *args]


# What is given to train_offline on good data, and what the line has to name.
OFFLINE = [
  # Flags.
  (['--agent_name=brac_primol'], ['--agent_name is one of', "did you mean 'brac_primal'?"]),
  (['--agentname=bc'], ['agentname', 'agent_name']),
  (['bc'], ["'bc' is no flag"]),
  (['--seed=-1'], ['seed']),
  (['--seed=three'], ['seed', 'three']),
  (['--seed=99999999999999999999'], ['seed', '99999999999999999999']),
  (['--sub_dir='], ['--sub_dir']),
  (['--sub_dir=../../x'], ['--sub_dir', '../../x']),
  (['--root_dir='], ['--root_dir is empty']),
  (['--total_train_steps=0'], ['total_train_steps']),
  (['--total_train_steps=1e6'], ['total_train_steps', '1e6']),
  (['--n_train=0'], ['n_train']),
  (['--n_eval_episodes=-1'], ['n_eval_episodes']),
  # Environments and data.
  (['--env_name=Pendulun-v1'], ["unknown environment 'Pendulun-v1'", "'Pendulum-v1'"]),
  (['--env_name=CartPole-v1'], ['CartPole-v1', 'Discrete(2)', 'Box']),
  (
    ['--data_name=randwlak'],
    ['no dataset at {world}/data/Pendulum-v1/randwlak/0/data', "did you mean 'randwalk'?"],
  ),
  # A name that is right, of data that are not there, where there are others of nearly that name.
  (
    ['--data_name=eps3', '--env_name=HalfCheetah-v2', '--data_sub_dir=7'],
    ['no dataset at {world}/data/HalfCheetah-v2/eps3/7/data', '--sub_dir=7 '
     '--env_name=HalfCheetah-v2 --data_name=eps3 --config_file=dcfg_eps3'],
  ),
  (
    ['--data_name=eps3', '--env_name=HalfCheetah-v2', '--data_file_name=other'],
    ['no dataset at {world}/data/HalfCheetah-v2/eps3/0/other'],
  ),
  (
    ['--data_name=eps3', '--env_name=HalfCheetah-v2'],
    ['no dataset at {world}/data/HalfCheetah-v2/eps3/0/data', 'this collects one: python -m '
     'brac.collect_data --root_dir={world}/data --env_name=HalfCheetah-v2 --data_name=eps3 '
     '--config_file=dcfg_eps3 --n_samples=1000'],
  ),
  (['--data_sub_dir=nope'], ['no dataset at {world}/data/Pendulum-v1/randwalk/nope/data']),
  (['--data_file_name=date'], ['no dataset at ', 'in that folder there is: data']),
  (['--data_name=empty'], ['{world}/data/Pendulum-v1/empty/0/data is empty']),
  (['--data_name=nan'], ['_s2', 'not finite', 'row 7']),
  (['--data_name=damaged'], ['{world}/data/Pendulum-v1/damaged/0/data is damaged']),
  (['--env_name=HalfCheetah-v2'], ['[1000, 3]', '17 states and 6 actions']),
  (['--data_name=discounts'], ['1000 numbers of _discount', 'not in [0, 1]', 'row 0']),
  (['--data_name=text'], ['_s1 holds no numbers']),
  (['--data_name=many_sizes'], ['_current_size is no whole number']),
  (['--data_name=no_index'], ['no_index/0/data.index is missing']),
  (
    ['--data_name=outside', *gin("train_eval_offline.out_of_box_actions='refuse'")],
    ["1000 of the 1000 transitions", "outside of the environment's box", 'row 0', "'clip'"],
  ),
  (['--n_train=10'], ['batch_size is 16, more than the 10 transitions']),
  # Names in gin.
  (gin('train_eval_oflline.batch_size=8'), ["'train_eval_oflline'", "'train_eval_offline'?"]),
  (gin('train_eval_offline.bach_size=8'), ["no parameter 'bach_size'", "'batch_size'?"]),
  (gin('sac_agnt.Agent.target_entropy=1'), ["'sac_agnt.Agent'", "'sac_agent.Agent'?"]),
  (gin('sac_agent.Agent.target_entrpy=1'), ["no parameter 'target_entrpy'", "'target_entropy'?"]),
  (gin('sac_agent.Agent.batch_size=1'), ['sac_agent.Agent', "no parameter 'batch_size'"]),
  (gin('Agent.alpha=1'), ['Agent', 'brac_dual_agent']),
  (gin('train_eval_offline.total_train_steps=5'), ['total_train_steps', 'flag']),
  (gin("train_eval_offline.env_name='Ant-v2'"), ['env_name', 'flag']),
  (gin('train_eval_offline.n_eval_episodes=5'), ['n_eval_episodes', 'flag']),
  (gin('train_eval_offline.batch_size='), ['train_eval_offline.batch_size=']),
  (gin('train_eval_offline.batch_size'), ['train_eval_offline.batch_size']),
  (gin('train_eval_offline.batch_size=%small'), ['small']),
  (gin('train_eval_offline.batch_size=@small()'), ['small']),
  (gin('import no_such_module'), ['no_such_module']),
  (['--gin_file={world}/none.gin'], ['{world}/none.gin', 'no such file']),
  (['--gin_file={world}/broken.gin'], ['broken.gin', 'line 2']),
  # Values in gin.
  (gin('sac_agent.Agent.target_entropy=none'), ['none is no value', 'None']),
  (gin('train_eval_offline.batch_size=0'), ['batch_size', '0']),
  (gin('train_eval_offline.batch_size=2.5'), ['batch_size', '2.5']),
  (gin("train_eval_offline.batch_size='big'"), ['batch_size', "'big'"]),
  (gin('train_eval_offline.update_freq=0'), ['update_freq', '0']),
  (gin('train_eval_offline.update_rate=1.5'), ['update_rate', '1.5']),
  (gin('train_eval_offline.discount=1.5'), ['train_eval_offline.discount', '1.5']),
  (gin("train_eval_offline.discount='high'"), ['discount', "'high'"]),
  (gin('train_eval_offline.eval_freq=0'), ['train_eval_offline.eval_freq', '0']),
  (gin("train_eval_offline.out_of_box_actions='ignore'"), ["'count', 'clip', 'refuse'", 'ignore']),
  (gin("train_eval_offline.summary_freq='often'"), ['summary_freq', "'often'"]),
  (gin('train_eval_offline.save_freq=-1'), ['save_freq', '-1']),
  (gin('train_eval_offline.save_minutes=-1'), ['save_minutes', '-1']),
  (gin('train_eval_offline.shuffle_steps=-1'), ['shuffle_steps', '-1']),
  (gin('train_eval_offline.shuffle_steps=0.5'), ['shuffle_steps', '0.5']),
  (gin('train_eval_offline.weight_decays=0.1'), ['weight_decays', '0.1']),
  (gin("train_eval_offline.weight_decays=('x',)"), ['weight_decays', "'x'"]),
  (gin('train_eval_offline.model_params=((8, 8), 2)'), ['model_params of sac reads']),
  (gin('train_eval_offline.model_params=(((8, 0),), 2)'), ['model_params of sac reads']),
  (gin('train_eval_offline.model_params=(((8, 8),), 0)'), ['model_params of sac reads']),
  (gin('train_eval_offline.model_params=None'), ['train_eval_offline.model_params of sac reads']),
  (gin('train_eval_offline.model_params=(((1000000,),), 2)'), ['1 to 10000 units', '1000000']),
  (gin('batch_size=3'), ["'batch_size'", 'did you mean train_eval_offline.batch_size?']),
  (gin('ALPHA=3'), ["'ALPHA' names no parameter", 'no value has it as %ALPHA']),
  (gin('mmd.n=8'), ['mmd.n', 'the program sets it']),
  (gin("train_eval_offline.optimizers=(('sgd', 1e-3),)"), ["unknown optimizer 'sgd'", "'adam'"]),
  (gin("train_eval_offline.optimizers=('adam', 1e-3)"), ['optimizers']),
  (gin("train_eval_offline.optimizers=(('adam', -1),)"), ['optimizers', 'learning rate', '-1']),
  (gin("train_eval_offline.optimizers=(('adam', 'x'),)"), ['optimizers', "'x'"]),
  (gin("sac_agent.Agent.target_entropy='low'"), ['target_entropy', "'low'"]),
  (gin('sac_agent.Agent.target_entropy=1e400'), ['target_entropy is a finite number', 'inf']),
  (
    ['--agent_name=brac_dual', *gin("gradient_penalty.gamma='x'")],
    ['gradient_penalty.gamma', "'x'"],
  ),
  (gin("physics.backend='bullet'"), ['physics.backend', "'bullet'"]),
  # Agents.
  (
    [
      *('--agent_name=brac_primal', '--seed=2', *gin('brac_primal_agent.Agent.alpha=2.0')),
      *gin('train_eval_offline.shuffle_steps=1000'),
    ],
    [
      'behavior_ckpt_file',
      'n1000/bc/0/2/agent_behavior or ',
      'python -m brac.train_offline --gin_file=bc.gin --env_name=Pendulum-v1 --data_name=randwalk '
      '--n_train=1000 --root_dir=',
      '--data_root_dir={world}/data --seed=2 --total_train_steps=300000 '
      '--gin_bindings=train_eval_offline.shuffle_steps=1000',
    ],
  ),
  (
    ['--agent_name=brac_primal', '--seed=2', '--gin_file={world}/rows.gin'],
    ['--total_train_steps=300000 --gin_bindings=train_eval_offline.shuffle_steps=1000'],
  ),
  # Presets.
  (['--gin_file=kl_vq.gin'], ['--gin_file kl_vq.gin: there is no such file', "'kl_vp.gin'?"]),
  (['--gin_file=kl_vp.gin'], ['--agent_name sac', "'brac_primal'", 'leave the flag out']),
  (gin("train_eval_offline.agent_name='brac_primol'"), ["'brac_primol'", "'brac_primal'?"]),
  (gin('train_eval_offline.agent_name=None'), ['None', "'sac', 'bc', 'bcq'"]),
  (primal('policies/pendulom'), ['no behavior policy at {world}/policies/pendulom', 'pendulum']),
  (primal('policies/cheetah'), ['does not fit', '17-8-12', '3-8-2']),
  (primal('data/Pendulum-v1/randwalk/0/data'), ['holds no policy']),
  (primal('policies/nan'), ['{world}/policies/nan holds NaN', 'policy/_layers/0/']),
  (
    ['--agent_name=brac_primal', *gin('brac_primal_agent.Agent.behavior_ckpt_file=5')],
    ['path of a checkpoint, not 5'],
  ),
  (
    primal('policies/pendulum', *gin("brac_primal_agent.Agent.divergence_name='mmd'"))
    + gin('laplacian_kernel.sigma=0'),
    ['laplacian_kernel.sigma', '0'],
  ),
  (
    primal(*['policies/pendulum', *gin("brac_primal_agent.Agent.divergence_name='kll'")]),
    ["unknown divergence 'kll'", "'kl'?"],
  ),
  (
    primal(*['policies/pendulum', *gin('brac_primal_agent.Agent.n_div_samples=0')]),
    ['n_div_samples', '0'],
  ),
  (
    primal(*['policies/pendulum', *gin("brac_primal_agent.Agent.alpha='high'")]),
    ['alpha', "'high'"],
  ),
  (
    ['--agent_name=brac_dual', *gin("brac_dual_agent.Agent.divergence_name='mmd'")],
    ["unknown divergence 'mmd'", "'kl', 'w'"],
  ),
  (['--agent_name=brac_dual', *gin('brac_dual_agent.Agent.c_iter=0')], ['c_iter', '0']),
  (['--agent_name=bcq', *gin('bcq_agent.Agent.n_action_samples=0')], ['n_action_samples', '0']),
  # Folders.
  (['--root_dir={world}/file'], ['cannot write to {world}/file/Pendulum-v1/', 'Not a directory']),
  (['--sub_dir=.'], ["--sub_dir is the name of a folder within another, not '.'"]),
  (['--data_name=../randwalk'], ["--data_name is the name of a folder within another"]),
  (['--data_name={world}/data'], ["--data_name is the name of a folder within another"]),
  ([f'--sub_dir={"x" * 300}'], ['--sub_dir', 'longer than 255']),
  (['--root_dir={world}/learn\r'], ['--root_dir ', "the control character '\\r'"]),
  (['--data_name=rand\nwalk'], ['--data_name ', "the control character '\\n'"]),
  (['--env_name=Pendulum-v1\r'], ['--env_name ', "the control character '\\r'"]),
  (['--gin_file=bc.gin\r'], ['--gin_file ', "the control character '\\r'"]),
  (['--sub_dir=a\x7fb'], ['--sub_dir ', "the control character '\\x7f'"]),
  (['--sub_dir=l\udcff'], ['--sub_dir', "'l\\udcff'", 'UTF-8']),
  (['--data_root_dir='], ['--data_root_dir is empty']),
  (['--n_eval_episodes=100000000000'], ['--n_eval_episodes=100000000000']),
  (['--root_dir={world}/lr=[1e-3]'], ['{world}/lr=[1e-3]', '* ? [ ]']),
]  # fmt: skip

# What is given to train_online.
ONLINE = [
  (['--eval_target=high'], ['eval_target', 'high']),
  (['--eval_target=nan'], ['eval_target', 'nan']),
  (gin('train_eval_online.batch_size=601'), ['batch_size is 601', 'replay_buffer_size']),
  (gin('train_eval_online.replay_buffer_size=1e18'), ['replay_buffer_size', 'to 1e+09']),
  (['--agent_name=sax'], ['--agent_name is one of', "did you mean 'sac'?"]),
  (['--env_name=HalfCheetah-v9'], ["unknown environment 'HalfCheetah-v9'", "'HalfCheetah-v"]),
  (['--env_name=MountainCar-v0'], ['MountainCar-v0', 'Discrete(3)']),
  (['--n_train=5'], ['n_train']),
  (gin('train_eval_online.initial_explore_steps=0'), ['initial_explore_steps', '0']),
  (gin('train_eval_online.replay_buffer_size=0'), ['replay_buffer_size', '0']),
  (gin('train_eval_online.eval_target_n=0'), ['eval_target_n', '0']),
  (gin('train_eval_online.eval_target=0'), ['the flag --eval_target']),
  (gin('train_eval_online.discount=1.5'), ['train_eval_online.discount', '1.5']),
  (['--gin_file=bc.gin'], ['bc.gin', 'presets are for train_offline']),
  (gin('train_eval_online.shuffle_steps=5'), ["no parameter 'shuffle_steps'"]),
]  # fmt: skip

# What is given to collect_data with a good config.
COLLECT = [
  (['--config_file=dcfg_randwlak'], ['dcfg_randwlak.py', "'dcfg_randwalk'?"]),
  (['--config_dir={world}/none'], ['--config_dir {world}/none', 'no such folder']),
  (['--config_dir=no.such.module'], ['--config_dir no.such.module', 'nor a package']),
  (['--config_file=dcfg_proportions'], ['dcfg_proportions.py', 'add up to 0.9, not to 1']),
  (
    ['--config_file=dcfg_wrapper'],
    ["{world}/configs/dcfg_wrapper.py: part 'randwalk': unknown wrapper 'gausian'", "'gaussian'?"],
  ),
  (['--config_file=dcfg_ptype'], ["unknown ptype 'randwlak'", "'randwalk'?"]),
  (['--config_file=dcfg_syntax'], ['{world}/configs/dcfg_syntax.py:']),
  (['--config_file=dcfg_exits'], ['{world}/configs/dcfg_exits.py:3: ', 'SystemExit']),
  (['--config_file=dcfg_list'], ["unknown wrapper ['none']"]),
  (['--n_samples=99999999999999'], ['--n_samples 99999999999999: out of memory']),
  (['--data_name='], ['--data_name is empty']),
  (['--config_dir='], ['--config_dir is empty']),
  (['--policy_root_dir='], ['--policy_root_dir is empty']),
  (['--config_file=dcfg_raises'], ['{world}/configs/dcfg_raises.py:3: ', 'AssertionError']),
  (
    ['--config_file=dcfg_units', '--policy_root_dir={world}/policies'],
    ['{world}/policies/pendulum does not fit', '3-8-2', '3-200-200-2'],
  ),
  (
    [
      *(f'--config_dir={ROOT}/configs', '--config_file=dcfg_pure'),
      '--policy_root_dir={world}/policies',
    ],
    [
      f"{ROOT}/configs/dcfg_pure.py: part 'pure': no policy at "
      '{world}/policies/Pendulum-v1/agent_partial_target; brac.train_online',
    ],
  ),
  (['--env_name=Pendulum-v9'], ["unknown environment 'Pendulum-v9'", "'Pendulum-v1'"]),
  (['--config_file=dcfg_mixture', '--n_samples=2'], ['--n_samples 2', '3 policies']),
  (['--n_samples=0'], ['n_samples']),
  (['--agent_name=sac'], ['agent_name']),
  (gin('collect.n_envs=0'), ['n_envs', '0']),
  (gin('collect.n_samples=10'), ['n_samples', 'flag']),
  (['--gin_file=bc.gin'], ['bc.gin', 'presets are for train_offline']),
  (gin('collect.n_env=10'), ["no parameter 'n_env'", "'n_envs'?"]),
]  # fmt: skip

# Flags without the one that they belong to: they would change nothing.
OTHERS = {
  'import_data': [
    (['--describe={world}/data', '--keep_last'], ['--keep_last is for an import', '--describe']),
    (['--describe={world}/data', '--source=x.npz'], ['--source is for an import']),
    (['--source=x.npz', '--clone={world}/x'], ['--clone is for --describe']),
  ],
  'manifest': [(['--commit=abc'], ['--commit is for --ship'])],
  'sweep': [(['--fqe_steps=9'], ['--fqe_steps is for --metric=fqe'])],
}

MISTAKES = [
  (program, args, texts)
  for program, table in (
    ('train_offline', OFFLINE),
    ('train_online', ONLINE),
    ('collect_data', COLLECT),
    *OTHERS.items(),
  )
  for args, texts in table
]


@pytest.fixture(scope='module')
def mistaken(start, world, tmp_path_factory):
  """`mistaken(k)`: the run of the k-th of MISTAKES and its root folder; the next starts too."""
  roots = tmp_path_factory.mktemp('mistakes')
  started = {}

  def begin(k):
    program, args, _ = MISTAKES[k]
    root = roots / str(k)
    args = [arg.replace('{world}', str(world)) for arg in args]
    if program == 'train_offline':
      args = [*offline_args(world, root), *args]
    elif program == 'train_online':
      args = [*online_args(root), *args]
    elif program == 'collect_data':
      args = [*collect_args(world, 'randwalk', root=root), *args]
    elif program == 'sweep':
      args = [f'--root_dir={root}', *args]
    started[k] = start(program, *args), root

  def mistaken(k):
    for i in (k, k + 1):
      if i not in started and i < len(MISTAKES):
        begin(i)
    return started[k]

  return mistaken


@pytest.mark.parametrize(
  'k', range(len(MISTAKES)), ids=[' '.join([name, *args]) for name, args, _ in MISTAKES]
)
def test_a_mistake_is_one_line_and_writes_nothing(mistaken, world, k):
  program, _, texts = MISTAKES[k]
  run, root = mistaken(k)
  check_mistake(run, world, program, texts)
  assert not os.path.exists(root)


def test_the_mistakes_wrote_nothing_elsewhere(mistaken, world):
  for k in range(len(MISTAKES)):
    mistaken(k)[0].wait()
  assert set(os.listdir(world)) == {
    *('configs', 'data', 'policies', 'broken.gin', 'good.gin', 'rows.gin', 'file', 'file.gif')
  }
  assert sorted(os.listdir(world / 'data')) == ['HalfCheetah-v2', 'Pendulum-v1']


def test_what_tensorflow_cannot_allocate_is_one_line():
  code = """
from brac import programs
def main():
  import tensorflow as tf
  raise tf.errors.ResourceExhaustedError(None, None, 'failed to allocate\\nmore')
programs.run(main)
"""
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 1
  assert done.stderr == '-c: out of memory: failed to allocate\n'
