"""gin files, bindings and presets as the programs take them."""

import re

from reading import checkpoint_names, values
from small_world import BRIEF, ROOT, gin, offline_args, offline_dir

from brac import checkpoints
from brac.data.replay import Dataset
from brac.data.stored import load


def test_gin_files_and_bindings_are_taken_together(finish, world, tmp_path):
  other = tmp_path / 'other.gin'
  other.write_text('train_eval_offline.discount = 0.5\ntrain_eval_offline.update_rate = 0.5\n')
  args = [arg for arg in offline_args(world, tmp_path, *BRIEF) if not arg.startswith('--gin')]
  finish(
    [
      'train_offline',
      *args,
      f'--gin_file={world / "good.gin"}',
      f'--gin_file={other}',
      *gin('train_eval_offline.update_rate=0.25'),
      *gin('bc_agent.Agent.alpha_entropy=0.75'),
      *gin('import math'),
    ]
  )
  operative = (offline_dir(tmp_path, 'bc') / 'operative_config.gin').read_text()
  for name, value in (('batch_size', '8'), ('discount', '0.5'), ('update_rate', '0.25')):
    assert f'train_eval_offline.{name} = {value}\n' in operative
  assert 'bc_agent.Agent.alpha_entropy = 0.75' in operative


def preset_args(world, root, preset, *args, steps=2):
  # The launcher's folder is neither the project's nor has a folder configs.
  return (
    *('train_offline', f'--gin_file={preset}', '--env_name=Pendulum-v1', '--data_name=randwalk'),
    *(f'--root_dir={root}', f'--data_root_dir={world / "data"}', '--n_train=1000'),
    *('--n_eval_episodes=1', f'--total_train_steps={steps}', *args),
  )


def test_a_preset_names_the_run_and_finds_the_clone_that_it_keeps(finish, world, tmp_path):
  root = tmp_path / 'a folder whose name is long enough for gin to break it over several lines'
  finish(preset_args(world, root, 'bc.gin'))
  clone = offline_dir(root, 'bc') / 'agent_behavior'
  mine = tmp_path / 'kl_strong.gin'
  mine.write_text(f"include '{ROOT}/configs/kl_vp.gin'\nALPHA = 3.0\n")
  runs = finish(
    preset_args(world, root, 'configs/kl_vp.gin', '--seed=3'),
    preset_args(world, root, 'mmd_pr.gin', '--sub_dir=x', '--agent_name=brac_primal'),
    preset_args(world, root, mine),
  )
  for run in runs:
    assert f'the behavior policy is {clone}\n' in run.stderr
  kl_vp = offline_dir(root, 'kl_vp', seed=3)
  for folder in (kl_vp, offline_dir(root, 'mmd_pr', sub_dir='x'), offline_dir(root, 'kl_strong')):
    assert checkpoint_names(folder) == ['agent']
  assert 'alpha = 3.0\n' in (offline_dir(root, 'kl_strong') / 'operative_config.gin').read_text()

  # Of which data a clone is, its run tells.
  data = world / 'data' / 'Pendulum-v1' / 'randwalk'
  rows = load(str(data / '0' / 'data'), 3, 1)
  rows.reward[0] += 1
  checkpoints.save(str(data / 'other' / 'data'), data=Dataset(rows))
  elsewhere = preset_args(world, root, 'kl_pr.gin', '--seed=4', '--data_sub_dir=other')
  elsewhere += tuple(gin('mmd.use_sqrt=True'))
  (other_data,) = finish(elsewhere)
  assert re.search(
    f'^W.*{re.escape(str(clone))} was cloned from other data', other_data.stderr, re.M
  )
  assert 'mmd.use_sqrt is bound, but nothing in this run uses it' in other_data.stderr
  for run in runs:
    assert not re.search('was cloned from other data|is bound, but', run.stderr)

  # A nearer clone is for runs that begin.
  finish(preset_args(world, root, 'bc.gin', '--seed=3'))
  again = [
    preset_args(world, root, 'kl_vp.gin', '--seed=3', steps=4),
    preset_args(world, root, 'kl_pr.gin', '--seed=3'),
  ]
  going_on, other = finish(*again)
  assert f'that the run was begun with, in {kl_vp}/agent\n' in going_on.stderr
  assert values(kl_vp / 'agent')['global_step'] == 4
  own = offline_dir(root, 'bc', seed=3) / 'agent_behavior'
  assert f'the behavior policy is {own}\n' in other.stderr


def test_the_last_of_several_presets_counts(finish, world, tmp_path):
  more = tmp_path / 'more.gin'
  more.write_text('train_eval_offline.discount = 0.5\n')
  finish(preset_args(world, tmp_path, 'sac.gin', '--gin_file=bc.gin', f'--gin_file={more}'))
  folder = offline_dir(tmp_path, 'bc')
  assert checkpoint_names(folder) == ['agent', 'agent_behavior']
  assert 'discount = 0.5\n' in (folder / 'operative_config.gin').read_text()


def test_a_run_warns_of_what_it_does_not_use(finish, world, tmp_path):
  unused = gin('brac_primal_agent.Agent.alpha=0.1')
  (run,) = finish(['train_offline', *offline_args(world, tmp_path, *BRIEF, *unused)])
  assert 'brac_primal_agent.Agent.alpha is bound, but nothing in this run uses it' in run.stderr
