"""An agent outside of the package, as docs/add_an_agent.md has it: trained, continued, a preset."""

import os
import shutil

import pytest
from reading import checkpoint_names, values
from small_world import ROOT, check_mistake, gin, offline_args, offline_dir, online_args, online_dir

AGENT = '--agent_name=td3_bc_agent:Agent'


@pytest.fixture
def td3_bc(start):
  """Puts the example where the programs are started, as it is for a user who stands there."""
  shutil.copy(os.path.join(ROOT, 'examples', 'td3_bc_agent.py'), start.home)


def test_it_is_trained_and_goes_on_from_its_save(td3_bc, finish, world, tmp_path):
  args = offline_args(world, tmp_path, AGENT, *gin('td3_bc_agent.Agent.alpha=1.5'))
  finish(['train_offline', *args, '--total_train_steps=5'])
  run = offline_dir(tmp_path, 'td3_bc_agent.Agent')
  assert values(run / 'agent')['global_step'] == 5
  (second,) = finish(['train_offline', *args, '--total_train_steps=10'])
  assert 'going on from step 5' in second.stderr
  state = values(run / 'agent')
  assert checkpoint_names(run) == ['agent']
  steps = [state[key] for key in ('global_step', 'optimizers/q/step', 'optimizers/p/step')]
  assert steps == [10, 10, 5]  # the policy is updated in every second step
  assert 'td3_bc_agent.Agent.alpha = 1.5' in (run / 'operative_config.gin').read_text()


def test_it_acts_online(td3_bc, finish, tmp_path):
  finish(['train_online', *online_args(tmp_path, AGENT, '--total_train_steps=4')])
  assert values(online_dir(tmp_path, 'td3_bc_agent.Agent') / 'agent_final')['global_step'] == 4


def test_a_preset_of_it_imports_it(td3_bc, finish, world, tmp_path):
  preset = tmp_path / 'mine.gin'
  preset.write_text(
    "import td3_bc_agent\ninclude 'common.gin'\n"
    "train_eval_offline.agent_name = 'td3_bc_agent:Agent'\n"
    'td3_bc_agent.Agent.policy_freq = 3\n'
  )
  args = [arg for arg in offline_args(world, tmp_path) if not arg.startswith('--agent_name')]
  finish(['train_offline', f'--gin_file={preset}', *args, '--total_train_steps=3'])
  assert values(offline_dir(tmp_path, 'mine') / 'agent')['optimizers/p/step'] == 1


OWN_POLICY = """
import gin
import td3_bc_agent
from brac.policies import ActorPolicy

class Halved(ActorPolicy):
  def act(self, s, rng):
    return super().act(s, rng) / 2

@gin.configurable
class Agent(td3_bc_agent.Agent):
  def policies(self):
    specs = self.observation_spec, self.action_spec
    return {**super().policies(), 'halved': Halved(*specs, self.pi, mode=True)}
"""


def test_a_policy_of_its_own_is_evaluated_and_filmed_and_the_others_go_out(
  td3_bc, start, finish, world, tmp_path
):
  with open(os.path.join(start.home, 'halved_agent.py'), 'w', encoding='utf-8') as f:
    f.write(OWN_POLICY)
  args = offline_args(world, tmp_path, '--agent_name=halved_agent:Agent', '--total_train_steps=4')
  finish(['train_offline', *args])
  run = offline_dir(tmp_path, 'halved_agent.Agent')
  assert (run / 'results.csv').read_text().startswith('step,main,halved\n')
  common = '--env_name=Pendulum-v1', f'--checkpoint={run}/agent'
  film, export = finish(
    ['record_video', *common, f'--output={tmp_path}/a.gif', '--policy=halved', '--steps=2'],
    ['export_policy', *common, f'--output_dir={tmp_path}/onnx', '--format=onnx'],
  )
  assert 'return agent -' in film.stdout
  assert 'halved is left out: no ONNX graph of a Halved is known' in export.stderr
  files = ['max_q.onnx', 'mode.onnx', 'policy.json', 'sample.onnx']
  assert sorted(os.listdir(tmp_path / 'onnx')) == files


@pytest.mark.parametrize(
  'args, texts',
  [
    ([AGENT, *gin('td3_bc_agent.Agent.alfa=3')], ["no parameter 'alfa'", "did you mean 'alpha'?"]),
    ([AGENT, *gin('td3_bc_agent.Agent.alpha=-3')], ['td3_bc_agent.Agent.alpha is a number from 0']),
    (['--agent_name=td3_bc_agent:Agnt'], ["td3_bc_agent has no class 'Agnt'", "'Agent'?"]),
    (['--agent_name=td3_cb_agent:Agent'], ['td3_cb_agent cannot be imported']),
  ],
)
def test_a_mistake_is_one_line(args, texts, td3_bc, start, world, tmp_path):
  run = start('train_offline', *offline_args(world, tmp_path, *args))
  check_mistake(run, world, 'train_offline', texts)
