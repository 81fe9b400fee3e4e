"""The same seed gives the same bits as it did before the code was rearranged.

`data/bits.json` holds checksums of what short runs of every agent left, by what they depend on
beside the code: the release of TensorFlow, the processor and the C library. Elsewhere the tests
skip. `python tests/test_bits.py` prints what a machine gives now: to be added there on a machine
that it lacks (from a commit that passes on another), and to be written there where a change of the
bits is meant, and said in the commit.
"""

import glob
import json
import os
import platform
import tempfile
import zlib
from collections.abc import Callable

import pytest
import tensorflow as tf
from launcher import launched

_HERE = os.path.dirname(os.path.abspath(__file__))
_RECORDED = os.path.join(_HERE, 'data', 'bits.json')
# Products round otherwise where a processor has wider vectors.
_ENVIRONMENT = dict(
  ONEDNN_MAX_CPU_ISA='AVX2',
  TF_ENABLE_ONEDNN_OPTS='0',
  CUDA_VISIBLE_DEVICES='-1',
  PYTHONPATH=os.path.dirname(_HERE),
)
_STEPS = 60  # of the plain loop; tests/test_agents.py holds the unrolled one to its bits
_BRAC_BINDINGS = ('warm_start=20', 'train_alpha=True', 'train_alpha_entropy=True')
# Widths that the machine's vector units do not divide evenly; every optional update switched on.
_UNITS = {
  'sac': '(((40, 33), (24,)), 2)',
  'bc': '((40, 33),)',
  'bcq': '(((40, 33), (24,), (30,)), 2, 0.15)',
  'brac_primal': '(((40, 33), (24,)), 2)',
  'brac_dual': '(((40, 33), (24,), (30,)), 2)',
}


def _offline(name: str, *bindings: str, update_freq: int = 1) -> list[str]:
  agent = (
    'brac_primal' if name in ('kl', 'mmd') else 'brac_dual' if name in ('dual_kl', 'w') else name
  )
  brac = _BRAC_BINDINGS if agent.startswith('brac') else ()
  return [
    'train_offline', f'--agent_name={agent}', f'--sub_dir={name}', f'--total_train_steps={_STEPS}',
    *(f'--gin_bindings={agent}_agent.Agent.{b}' for b in (*brac, *bindings)),
    f'--gin_bindings=train_eval_offline.model_params={_UNITS[agent]}',
    '--gin_bindings=train_eval_offline.batch_size=32',
    '--gin_bindings=train_eval_offline.weight_decays=(1e-3,)',
    f'--gin_bindings=train_eval_offline.update_freq={update_freq}',
    '--gin_bindings=train_eval_offline.eval_freq=50',
  ]  # fmt: skip


RUNS = {
  'collect': ['collect_data', '--config_file=dcfg_eps1', '--n_samples=2000'],
  'sac': _offline('sac', update_freq=3),
  'bc': _offline('bc'),
  'bcq': _offline('bcq'),
  'kl': _offline('kl', "divergence_name='kl'"),
  'mmd': _offline('mmd', "divergence_name='mmd'", 'value_penalty=False', 'ensemble_q_lambda=0.75'),
  'dual_kl': _offline('dual_kl', "divergence_name='kl'"),
  'w': _offline('w', "divergence_name='w'", 'value_penalty=False'),
  'online': [
    'train_online', f'--total_train_steps={_STEPS}',
    f'--gin_bindings=train_eval_online.model_params={_UNITS["sac"]}',
    '--gin_bindings=train_eval_online.initial_explore_steps=50',
    '--gin_bindings=train_eval_online.eval_freq=50',
    '--gin_bindings=train_eval_online.batch_size=32',
  ],
}  # fmt: skip


def _run(name: str, start: Callable) -> str:
  """Runs a program; returns a checksum of all that it saved of numbers."""
  program, *flags = RUNS[name]
  folder = start.home
  flags += ['--env_name=HalfCheetah-v2', '--seed=3', '--n_eval_episodes=2']
  roots = {'collect_data': 'data', 'train_offline': 'learn', 'train_online': 'online'}
  root = os.path.join(folder, roots[program])
  flags.append(f'--root_dir={root}')
  if program == 'collect_data':
    flags.append('--data_name=d')
  if program == 'train_offline':
    flags += ['--data_name=d', f'--data_root_dir={folder}/data', '--n_train=2000']
  if '--agent_name=brac_primal' in flags:
    clone = f'{root}/HalfCheetah-v2/d/n2000/bc/bc/3/agent_behavior'
    flags.append(f"--gin_bindings=brac_primal_agent.Agent.behavior_ckpt_file='{clone}'")
  run = start(program, *flags)
  assert run.wait() == 0, run.stderr
  checksum = 0
  for place, _, files in sorted(os.walk(root)):
    if program == 'train_offline' and place.split('/')[-2] != name:
      continue
    for file in sorted(files):
      path = os.path.join(place, file)
      if file == 'results.csv':
        with open(path, 'rb') as f:
          checksum = zlib.crc32(f.read(), checksum)
      elif file.endswith('.index'):
        reader = tf.train.load_checkpoint(path[: -len('.index')])
        for key in sorted(reader.get_variable_to_shape_map()):
          value = reader.get_tensor(key)
          # Settings tell the version of the code; the environment's state is a pickle of classes.
          if getattr(value, 'dtype', None) is not None and value.dtype.kind in 'fi':
            if not key.startswith(('save_counter', 'global_step')):  # a counter's width may change
              checksum = zlib.crc32(key.encode() + value.tobytes(), checksum)
  return f'{checksum:08x}'


def _machine() -> str:
  """What the same code was seen to round alike on; which part of it decides is not known."""
  if not os.path.exists('/proc/cpuinfo'):
    return f'TensorFlow {tf.__version__}, {platform.platform()}'
  with open('/proc/cpuinfo', encoding='utf-8') as f:
    first = f.read().split('\n\n')[0]
  cpu = dict(map(str.strip, line.partition(':')[::2]) for line in first.splitlines())
  caches = []
  for path in sorted(glob.glob('/sys/devices/system/cpu/cpu0/cache/index*/size')):
    with open(path, encoding='utf-8') as f:
      caches.append(f.read().strip())
  model = '-'.join(cpu.get(k, '?') for k in ('vendor_id', 'cpu family', 'model', 'stepping'))
  libc = ' '.join(platform.libc_ver())
  return f'TensorFlow {tf.__version__}, {model}, caches {" ".join(caches)}, {libc}'


@pytest.fixture(scope='module')
def recorded():
  with open(_RECORDED, encoding='utf-8') as f:
    bits = json.load(f)
  if _machine() not in bits:
    pytest.skip(f'no checksums were recorded with {_machine()}')
  return bits[_machine()]


@pytest.fixture(scope='module')
def start_here(tmp_path_factory):
  with launched(tmp_path_factory.mktemp('bits'), **_ENVIRONMENT) as start:
    yield start


@pytest.mark.parametrize('name', RUNS)
def test_the_same_seed_gives_the_bits_that_were_recorded(name, recorded, start_here):
  assert _run(name, start_here) == recorded[name]


if __name__ == '__main__':
  with tempfile.TemporaryDirectory() as scratch, launched(scratch, **_ENVIRONMENT) as start:
    print(json.dumps({_machine(): {name: _run(name, start) for name in RUNS}}, indent=2))
