"""The pipeline of the seed document, typed as it stands there."""

import os
import re
import subprocess
import sys

import numpy as np
from reading import checkpoint_names, n_rows, no_litter, results, scalars, tags, values
from small_world import BRAC

from brac.dataset import CUT_OFF, load


def type_in(command, folder, home):
  """Runs `python -m ...` as in a shell at a folder; returns its stderr."""
  environment = {k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'}
  run = subprocess.run(
    [sys.executable, *command],
    cwd=folder,
    env={**environment, 'HOME': str(home)},
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  assert run.stdout == ''
  lines = run.stderr.splitlines()
  assert all(re.match(r'[IW]\d{4} [\d:.]+ ', line) for line in lines), run.stderr
  return run.stderr


def test_the_pipeline_of_the_seed_document(tmp_path):
  home = tmp_path
  root = home / 'tmp' / 'offlinerl'

  type_in(
    [
      *('-m', 'train_online'),
      '--sub_dir=0',
      '--env_name=HalfCheetah-v2',
      '--eval_target=-4000',
      '--agent_name=sac',
      '--total_train_steps=90',
      '--n_eval_episodes=1',
      '--gin_bindings=train_eval_online.model_params=(((300, 300), (200, 200),), 2)',
      '--gin_bindings=train_eval_online.batch_size=256',
      "--gin_bindings=train_eval_online.optimizers=(('adam', 0.0005),)",
      '--gin_bindings=train_eval_online.initial_explore_steps=300',
      '--gin_bindings=train_eval_online.eval_freq=30',
      '--gin_bindings=train_eval_online.save_freq=40',
      '--gin_bindings=train_eval_online.summary_freq=15',
    ],
    BRAC,
    home,
  )
  run = root / 'policies' / 'HalfCheetah-v2' / 'sac' / '0'
  assert checkpoint_names(run) == [
    *('agent-40', 'agent-80', 'agent_final', 'agent_partial_target'),
    *('replay_final', 'replay_partial_target'),
  ]
  header, rows = results(run)
  assert header == ['step', 'main'] and [row[0] for row in rows] == [30, 60, 90]
  assert scalars(run / 'eval' / 'main') == [
    ('episode_mean', step, float(np.float32(mean))) for step, mean in rows
  ]
  terms = 'q_loss q_norm r_mean dsc_mean q2_target_mean q1_target_mean p_loss p_norm a_loss alpha'
  assert tags(run / 'train') == set(terms.split())
  assert {step for _, step, _ in scalars(run / 'train')} == {15, 30, 45, 60, 75, 90}
  # A time limit does not cut the bootstrap, and a cheetah never falls.
  assert {value for tag, _, value in scalars(run / 'train') if tag == 'dsc_mean'} == {1.0}
  # The target was reached by the last two of the first evaluations.
  assert values(run / 'agent_partial_target')['global_step'] == 60
  assert values(run / 'agent_final')['global_step'] == 90
  for name, n in (('replay_partial_target', 360), ('replay_final', 390)):
    assert values(run / name)['data/_current_size'] == n
  assert 'train_eval_online.eval_freq = 30' in (run / 'operative_config.gin').read_text()
  assert no_litter(run)

  type_in(
    [
      *('-m', 'brac.collect_data'),
      '--sub_dir=0',
      '--env_name=HalfCheetah-v2',
      '--data_name=example',
      '--config_file=dcfg_example',
      '--n_samples=600',
      '--n_eval_episodes=1',
    ],
    home,
    home,
  )
  data = root / 'data' / 'HalfCheetah-v2' / 'example' / '0'
  assert checkpoint_names(data) == ['data'] and no_litter(data)
  rows = load(str(data / 'data'), 17, 6)
  assert len(rows.reward) == 600
  # Each of the three policies fills a stretch of its own.
  assert np.flatnonzero(rows.end == CUT_OFF)[-1] == 599
  assert {119, 359} < set(np.flatnonzero(rows.end == CUT_OFF))

  common = [
    '--sub_dir=0',
    '--env_name=HalfCheetah-v2',
    '--data_name=example',
    '--n_eval_episodes=1',
    '--gin_bindings=train_eval_offline.batch_size=256',
    '--gin_bindings=train_eval_offline.eval_freq=20',
    '--gin_bindings=train_eval_offline.summary_freq=10',
    '--gin_bindings=train_eval_offline.save_freq=20',
  ]
  log = type_in(
    [
      *('-m', 'train_offline'),
      *common,
      '--agent_name=bc',
      '--total_train_steps=40',
      '--n_train=1000000',
      '--seed=0',
      '--gin_bindings=train_eval_offline.model_params=((200, 200),)',
      "--gin_bindings=train_eval_offline.optimizers=(('adam', 5e-4),)",
    ],
    BRAC,
    home,
  )
  assert re.search(r'^W.* n_train is 1000000, .* has 600 transitions: all of them', log, re.M)
  learn = root / 'learn' / 'HalfCheetah-v2' / 'example' / 'n1000000'
  run = learn / 'bc' / '0' / '0'
  assert checkpoint_names(run) == ['agent', 'agent_behavior']
  assert {key.split('/')[0] for key in values(run / 'agent_behavior')} <= {'policy', 'save_counter'}
  assert results(run)[0] == ['step', 'main'] and n_rows(run) == 2
  assert tags(run / 'train') == {'p_loss', 'p_norm', 'ae_loss', 'alpha_entropy'}
  assert no_litter(run)

  log = type_in(
    [
      *('-m', 'brac.train_offline'),
      *common,
      '--agent_name=brac_primal',
      '--total_train_steps=40',
      f"--gin_bindings=brac_primal_agent.Agent.behavior_ckpt_file='{run}/agent_behavior'",
      '--gin_bindings=brac_primal_agent.Agent.alpha=0.1',
      '--gin_bindings=brac_primal_agent.Agent.value_penalty=True',
      '--gin_bindings=train_eval_offline.model_params=(((300, 300), (200, 200),), 2)',
      '--gin_bindings=train_eval_offline.optimizers='
      "(('adam', 1e-3), ('adam', 3e-04), ('adam', 1e-3))",
    ],
    home,
    home,
  )
  assert re.search(r'^W.* warm_start is 20000, and the run ends at step 40', log, re.M)
  run = learn / 'brac_primal' / '0' / '0'
  assert checkpoint_names(run) == ['agent']
  header, rows = results(run)
  assert header == ['step', 'main', 'max_q'] and [row[0] for row in rows] == [20, 40]
  for k, name in enumerate(('main', 'max_q')):
    assert scalars(run / 'eval' / name) == [
      ('episode_mean', row[0], float(np.float32(row[1 + k]))) for row in rows
    ]
  terms = 'q_loss q_norm r_mean dsc_mean q2_target_mean q1_target_mean p_loss p_norm'
  assert tags(run / 'train') >= {*terms.split(), 'div_mean', 'div_std'}
  operative = (run / 'operative_config.gin').read_text()
  assert re.match(r'# version: \d.* of source \w{8}\n', operative)
  assert 'brac_primal_agent.Agent.alpha = 0.1' in operative
  assert 'brac_primal_agent.Agent.n_div_samples = 4' in operative
  assert no_litter(run)
