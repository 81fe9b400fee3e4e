"""Searches of real trainings, as their program makes them."""

import csv
import json
import re
import shutil
import textwrap

import pytest
from small_world import RANDWALK

from brac import gin_config, results

pytest.importorskip('optuna', reason='a search needs optuna: pip install "brac[sweep]"')

PRESET = """
LR = 1e-3
UNITS = 8
train_eval_offline.agent_name = 'sac'
train_eval_offline.model_params = (((%UNITS, %UNITS),), 2)
train_eval_offline.optimizers = (('adam', %LR),)
train_eval_offline.batch_size = 16
train_eval_offline.eval_freq = 100
train_eval_offline.summary_freq = 50
"""


FQE = """
train_eval_offline.agent_name = 'fqe'
train_eval_offline.model_params = (((8,),), 2)
train_eval_offline.batch_size = 16
train_eval_offline.eval_freq = 50
"""


def test_a_search_needs_no_simulator(start, tmp_path):
  configs = tmp_path / 'mine'
  (configs / 'grids').mkdir(parents=True)
  (configs / 'my.gin').write_text(PRESET)
  (configs / 'fqe.gin').write_text(FQE)
  (configs / 'dcfg_randwalk.py').write_text(textwrap.dedent(RANDWALK))
  (configs / 'grids' / 'my.json').write_text(json.dumps({'values': {'LR': [1e-3, 1e-1]}}))
  command = [
    *('--presets=my', '--env_names=Pendulum-v1'),
    *(f'--root_dir={tmp_path}/learn', f'--data_root_dir={tmp_path}/data', '--data_name=randwalk'),
    *(f'--config_dir={configs}', '--n_train=1000', '--n_eval_episodes=0', '--first_rung=200'),
    *('--total_train_steps=300', '--metric=fqe', '--fqe_steps=150', '--n_jobs=2'),
    '--gin_bindings=G = 0.9\ntrain_eval_offline.discount = %G',
    '--gin_bindings=train_eval_offline.validation_fraction = 0.1',
  ]
  done = start('sweep', *command)
  assert done.wait() == 0, done.stderr
  assert 'value and return' not in done.stdout  # there is no return
  place = tmp_path / 'learn/Pendulum-v1/randwalk/n1000/my/sweep'
  values = {}
  for trial in place.glob('LR*'):
    step, _ = results.read_progress(str(trial / '0'))
    (estimate,) = trial.glob(f'0/fqe/*/Pendulum-v1/randwalk/n1000/fqe/{step}/0')
    steps, columns = results.read_results(str(estimate / 'results.csv'))
    assert steps == (50, 100, 150)
    settings = results.read_settings(str(estimate))
    assert settings['train_eval_offline.discount'] == '0.9'
    assert settings['train_eval_offline.validation_fraction'] == '0.1'
    assert not (estimate / 'eval').exists()
    values[trial.name] = step, sum(columns['value']) / 3
  assert {step for step, _ in values.values()} == {200, 300}
  with open(place / 'trials_0.csv', encoding='utf-8', newline='') as f:
    table = list(csv.DictReader(f))
  for row in table:
    step, value = values[f'LR_{float(row["LR"]):g}']
    assert int(row['steps']) == step and float(row['value']) == pytest.approx(value)
    assert row['return'] == ''
  assert float(table[0]['at 200']) > float(table[1]['at 200'])
  runs_there = results.read_runs(str(tmp_path / 'learn'))  # estimates are no runs of the tree
  assert sorted(run.agent for run in runs_there) == ['my', 'my']


def test_a_preset_and_a_grid_of_ones_own(start, tmp_path):
  configs = tmp_path / 'mine'
  (configs / 'grids').mkdir(parents=True)
  (configs / 'my.gin').write_text(PRESET)
  (configs / 'dcfg_randwalk.py').write_text(textwrap.dedent(RANDWALK))
  (configs / 'grids' / 'my.json').write_text(json.dumps({'values': {'LR': [1e-3, 1e-2, 1e-1]}}))
  command = [
    *('--presets=my', '--env_names=Pendulum-v1'),
    *(f'--root_dir={tmp_path}/learn', f'--data_root_dir={tmp_path}/data', '--data_name=randwalk'),
    *(f'--config_dir={configs}', '--n_train=1000', '--n_eval_episodes=1', '--first_rung=200'),
    *('--total_train_steps=600', '--winner_steps=700', '--max_trials=2', '--n_jobs=2'),
  ]
  done = start('sweep', *command)
  assert done.wait() == 0, done.stderr
  place = tmp_path / 'learn/Pendulum-v1/randwalk/n1000/my/sweep'
  assert sorted(p.name for p in place.glob('LR*')) == ['LR_0.001', 'LR_0.1']
  steps = sorted(results.read_progress(str(p / '0'))[0] for p in place.glob('LR*'))
  # Whether a program that is beaten at a rung has ended by itself before it is stopped, is chance.
  assert 200 <= steps[0] <= 600 and steps[1] == 700
  assert {'trials_0.csv', 'trials_0.md', 'trials_0.png'} <= {p.name for p in place.iterdir()}
  tuned = configs / 'tuned' / 'Pendulum-v1' / 'my.gin'
  preset = gin_config.parse([str(tuned)], [])
  winner = next(p for p in place.glob('LR*') if results.read_progress(str(p / '0'))[0] == 700)
  rate = float(winner.name[3:])
  assert preset.bound['train_eval_offline.optimizers'] == (('adam', rate),)

  # Trials are of their settings and of their data, and so is what they left.
  left = tuned.read_text()
  n_steps = {p: results.read_progress(str(p / '0')) for p in place.glob('LR*')}
  for flag, said in (
    ('--gin_bindings=train_eval_offline.batch_size=8', 'batch_size was 16, is 8; choose another'),
    ('--gin_bindings=LR=0.5', '--gin_bindings binds LR, whose values the grid'),
    ('--gin_bindings=LR', 'gin: LR: '),
    ('--gin_bindings=NONE=1', "gin: 'NONE' names no parameter"),
    (f'--tuned_dir={tuned}', f'{tuned} cannot be written, where'),
    ('--presets=sub/my', '--presets sub/my: the name alone; --config_dir names the folder'),
    ('--n_eval_episodes=2', '--n_eval_episodes was 1, is 2; choose another --root_dir'),
    ('--seed=1', f'{tuned} is of a search with seed 0 and 600 steps a trial; one of another'),
    ('--total_train_steps=599', f'{tuned} is of a search with seed 0 and 600 steps a trial'),
    ('--n_train=999', f'{tuned} is of a search on other data; choose another --config_dir'),
  ):
    done = start('sweep', *command, flag)
    assert done.wait() == 1 and done.stdout == ''
    (line,) = done.said
    assert line.startswith('sweep: ') and said in line
  assert tuned.read_text() == left
  assert {p: results.read_progress(str(p / '0')) for p in place.glob('LR*')} == n_steps

  # A macro that one of several presets has.
  (configs / 'own.gin').write_text(PRESET + 'BATCH = 16\ntrain_eval_offline.batch_size = %BATCH\n')
  shutil.copy(configs / 'grids' / 'my.json', configs / 'grids' / 'own.json')
  several = ('--presets=my,own', '--gin_bindings=BATCH=8', '--n_eval_episodes=1', '--dry_run')
  dry = start('sweep', *command, *several)
  assert dry.wait() == 0, dry.said
  lines = dry.stdout.splitlines()
  assert lines and all(('/own.gin' in line) == ('BATCH=8' in line) for line in lines)

  # A trial of another grid counts, where it was trained with these settings.
  other = tmp_path / 'other.json'
  other.write_text(json.dumps({'values': {'LR': [rate]}}))
  both = start('sweep', *command, f'--grid={other}')
  assert both.wait() == 0 and ': started' not in both.stdout
  assert '# of 0.001, 0.1\n' in tuned.read_text()
  shutil.copytree(winner, place / 'LR_0.5')
  third = start('sweep', *command, f'--grid={other}')
  assert third.wait() == 0
  assert [line for line in third.said if re.match('left out, .*LR_0.5/0 .* was', line)]
  assert '# of 0.001, 0.1\n' in tuned.read_text()
  shutil.rmtree(place / 'LR_0.5')

  # The same command has nothing to do, and a dry run has nothing to print of what is whole.
  again = start('sweep', *command)
  assert again.wait() == 0 and ': started' not in again.stdout
  dry = start('sweep', *command, '--dry_run')
  assert dry.wait() == 0 and f'sweep/{winner.name} ' not in dry.stdout
