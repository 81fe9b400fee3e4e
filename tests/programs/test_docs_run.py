"""The commands of the docs, typed in the order of their page, at home in a small world.

What is typed is what the page says (its blocks of `sh`), with flags at the end that make it small.
What a page takes for granted is there before. What is no program of ours is listed, with a reason.
"""

import importlib.util
import json
import os
import pathlib
import re
import shlex
import shutil

import h5py
import numpy as np
import pytest
from environment_helpers import CAN_DRAW
from small_world import ROOT, run_to

_BLOCK = re.compile(r'^```(\w*)\n(.*?)^```', re.M | re.S)
_SMALL = {
  'train_online': [
    *('--total_train_steps=100', '--eval_target=-1e6', '--n_eval_episodes=1'),
    '--gin_bindings=train_eval_online.initial_explore_steps=150',
    '--gin_bindings=train_eval_online.eval_freq=50',
    '--gin_bindings=train_eval_online.replay_buffer_size=1000',
  ],
  'collect_data': ['--n_samples=1200', '--n_eval_episodes=1'],
  'train_offline': ['--total_train_steps=2', '--n_eval_episodes=1'],
  'record_video': ['--steps=3'],
  'run_paper': [
    *('--total_train_steps=2', '--n_eval_episodes=1', '--n_train=1200', '--seeds=0'),
    *('--data_names=eps1', '--env_names=Walker2d-v2'),
  ],
  'sweep': [
    *('--total_train_steps=2', '--first_rung=2', '--n_eval_episodes=1', '--n_train=1200'),
    *('--max_trials=1', '--clone_steps=1', '--tuned_dir=tuned'),
    *('--gin_bindings=train_eval_offline.eval_freq=1', '--env_names=Walker2d-v2'),
  ],
}
_NEEDS = {
  'record_video': lambda: CAN_DRAW,
  '--format=onnx': lambda: importlib.util.find_spec('onnx'),
}
_ELSEWHERE = {
  './run.sh': 'CI, and a person in a new clone',
  './run_tests.sh': 'what runs this',
  'pip ': 'of extras: tests/test_packaging.py',
  'ray ': 'tests/test_ray.py makes a cluster of its own',
  'sbatch ': 'there is no Slurm here',
  'cd examples': 'what is there is copied into the home',
  'python -c': 'the arrays are made below',
  'python -m pytest': 'runs already',
  'python -m brac.manifest': 'tests/test_manifest.py',
  'python -m brac.gin_reference': 'tests/test_gin_reference.py',
}
_DATA = {
  'README.md': ['Walker2d-v2/eps1'],
  'docs/add_a_divergence.md': ['HalfCheetah-v2/example'],
  'docs/add_an_agent.md': ['HalfCheetah-v2/example'],
  'docs/clusters.md': ['Walker2d-v2/eps1'],
  'docs/many_runs.md': ['Walker2d-v2/eps1'],
  'docs/selection.md': ['Walker2d-v2/eps1'],
  'docs/tuning.md': ['Walker2d-v2/eps1'],
  'docs/your_data.md': ['HalfCheetah-v2/eps1', 'Hopper-v2/eps1'],
}


def typed(page):
  """What is typed of a page, in its order: `(program, flags)`."""
  blocks = _BLOCK.findall(pathlib.Path(ROOT, page).read_text('utf-8'))
  found, variables = [], {}
  for line in (
    '\n'.join(text for language, text in blocks if language == 'sh')
    .replace('\\\n', ' ')
    .splitlines()
  ):
    line = line.strip().replace('./run_paper.sh', 'python -m brac.run_paper')
    if match := re.match(r'(\w+)=(\S+)$', line):
      variables['$' + match[1]] = match[2]
    elif line and not line.startswith(('#', *_ELSEWHERE)) and '--ray_address' not in line:
      for name, value in variables.items():
        line = line.replace(name, value)
      words = shlex.split(line.partition(' | ')[0], comments=True)
      assert words[:2] == ['python', '-m'] and words[2].startswith('brac.'), f'{page}: {line}'
      found.append((words[2].removeprefix('brac.'), words[3:]))
  return found


_PAGES = [
  'README.md',
  *sorted(str(p.relative_to(ROOT)) for p in pathlib.Path(ROOT, 'docs').rglob('*.md')),
]


@pytest.fixture
def home(start, request):
  """The home of the programs, with what a page takes for granted."""
  page = request.getfixturevalue('page')
  for place in _DATA.get(page, []):
    env_name, data_name = place.split('/')
    names = [f'--env_name={env_name}', f'--data_name={data_name}']
    run_to(start, 'collect_data', *names, '--config_file=dcfg_pure', *_SMALL['collect_data'])
  if page == 'docs/add_a_divergence.md':
    names = ['--env_name=HalfCheetah-v2', '--data_name=example', '--gin_file=bc.gin']
    run_to(start, 'train_offline', *names, *_SMALL['train_offline'])
  blocks = _BLOCK.findall(pathlib.Path(ROOT, page).read_text('utf-8'))
  for language, text in blocks:
    if language == 'text' and (name := re.match(r'# (\w+\.gin)\n', text)):
      (start.home / name[1]).write_text(text)
  if page == 'docs/add_a_divergence.md':
    python = ''.join(text for language, text in blocks if language == 'python')
    (start.home / 'my_divergences.py').write_text(python)
  if page == 'docs/your_data.md':
    make_sources(start)
  if page == 'docs/clusters.md':
    (start.home / 'my' / 'configs' / 'grids').mkdir(parents=True)
    (start.home / 'my' / 'configs' / 'my.gin').write_text("include 'kl_vp.gin'\n")
    (start.home / 'my' / 'configs' / 'grids' / 'my.json').write_text(
      '{"values": {"ALPHA": [1, 3]}}'
    )
  for path in ('examples/td3_bc_agent.py', 'trained_policies/Walker2d-v2'):
    if os.path.isdir(os.path.join(ROOT, path)):
      shutil.copytree(os.path.join(ROOT, path), start.home / path, dirs_exist_ok=True)
    else:
      shutil.copy(os.path.join(ROOT, path), start.home)
  yield start.home
  for name in ('tmp', 'my', 'tuned'):
    shutil.rmtree(start.home / name, ignore_errors=True)


def make_sources(start):
  """The files of other people that a page imports."""
  cheetah = ['--env_name=HalfCheetah-v2', '--data_name=eps1']
  run_to(start, 'export_data', *cheetah, '--target=halfcheetah_medium-v2.hdf5')
  draws, n = np.random.default_rng(0), 17
  with h5py.File(start.home / 'halfcheetah_medium-v2.hdf5', 'r+') as f:
    for name, width in (('fc0', 8), ('fc1', 8), ('last_fc', 6), ('last_fc_log_std', 6)):
      f[f'metadata/policy/{name}/weight'] = draws.normal(size=[width, n]).astype(np.float32) / 4
      f[f'metadata/policy/{name}/bias'] = np.zeros(width, np.float32)
      n = width if name.startswith('fc') else n
    f['metadata/policy/nonlinearity'] = np.bytes_('relu')
    f['metadata/policy/output_distribution'] = np.bytes_('tanh_gaussian')
  name = 'mujoco/hopper/medium-v0'
  run_to(start, 'export_data', '--env_name=Hopper-v2', '--data_name=eps1', f'--target={name}')
  path = start.home / '.minari' / 'datasets' / name / 'data' / 'metadata.json'
  told = json.loads(path.read_text())
  told['env_spec'] = json.dumps({'id': 'Hopper-v5'})
  path.write_text(json.dumps(told))
  n, n_states, ends = 1200, 3, np.arange(1200) % 200 == 199
  arrays = dict(observations=draws.normal(size=[n, n_states]), actions=draws.uniform(-1, 1, [n, 1]))
  ending = dict(rewards=-np.ones(n), terminals=np.zeros(n, bool), timeouts=ends)
  np.savez(start.home / 'mine.npz', **arrays, **ending)


@pytest.mark.parametrize('page', [page for page in _PAGES if typed(page)])
def test_the_commands_of_a_page_run(start, home, page):
  n_typed = 0
  for program, flags in typed(page):
    if '-v5' in str(flags) and not importlib.util.find_spec('gymnasium'):
      continue
    if program == 'sweep' and not importlib.util.find_spec('optuna'):
      continue
    if any(word in [program, *flags] and not there() for word, there in _NEEDS.items()):
      continue
    if program == 'run_paper' and not any(f.startswith('--env_names') for f in flags):
      flags = [*flags, '--env_names=Hopper-v2']
    flags = [re.sub('=/(my|tmp)/', rf'={home}/\1/', f).replace('$HOME', str(home)) for f in flags]
    small = _SMALL.get(program, [])
    if any(flag.startswith('--n_eval_episodes=') for flag in flags):  # which the page is about
      small = [flag for flag in small if not flag.startswith('--n_eval_episodes=')]
    if page == 'docs/your_data.md':  # whose data is of the environment that it names
      small = [flag for flag in small if not flag.startswith('--env_names=')]
    small = [*small, *['--fqe_steps=2' for flag in flags if flag == '--metric=fqe']]
    run_to(start, program, *flags, *small)
    n_typed += 1
  if not n_typed:
    pytest.skip('what the page types needs packages or libraries that are not here')
