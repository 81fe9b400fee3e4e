"""The grid's scheduler: what it plans, and what it does with programs that end well or ill."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from small_world import RANDWALK

from brac import checkpoints, results
from brac.data import stored, transitions
from brac.data.replay import Dataset
from brac.data.transitions import Transitions
from brac.data_config import project_folder

SMALL = """
train_eval_offline.agent_name = 'sac'
train_eval_offline.model_params = (((8, 8),), 2)
train_eval_offline.batch_size = 16
train_eval_offline.eval_freq = 200
train_eval_offline.summary_freq = 50
"""
PLACE = 'Pendulum-v1/randwalk/n1000'
DATA = 'data/Pendulum-v1/randwalk/0/data'


@pytest.fixture(scope='module')
def configs(tmp_path_factory):
  """Presets of which the planner reads whether they need a clone; `sac` and `broken` are run."""
  folder = tmp_path_factory.mktemp('configs')
  (folder / 'dcfg_randwalk.py').write_text(textwrap.dedent(RANDWALK))
  (folder / 'sac.gin').write_text(SMALL)
  (folder / 'my.gin').write_text('train_eval_offline.batch_size = 8\n')
  (folder / 'latin.gin').write_bytes('# Größe\n'.encode('latin-1'))
  (folder / 'broken.gin').write_text(SMALL + 'train_eval_offline.batch_size = 1001\n')
  (folder / 'no_gin.gin').write_text("train_eval_offline.agent_name = 'sac'\nthis is not gin\n")
  for name, agent in (('bc', 'bc'), ('primal', 'brac_primal'), ('dual', 'brac_dual')):
    (folder / f'{name}.gin').write_text(f"train_eval_offline.agent_name = '{agent}'\n")
  return folder


def write_data(root, n):
  path = root / 'data' / 'Pendulum-v1' / 'randwalk' / '0' / 'data'
  checkpoints.save(str(path), data=Dataset(Transitions.zeros(n, 3, 1)))


def flags_of(configs, root, **flags):
  given = dict(
    root_dir=root / 'learn',
    data_root_dir=root / 'data',
    config_dir=configs,
    env_names='Pendulum-v1',
    data_names='randwalk',
    seeds='0',
    n_train=1000,
    n_eval_episodes=1,
  )
  return [f'--{name}={value}' for name, value in {**given, **flags}.items()]


@pytest.fixture
def run(start, configs, tmp_path):
  """`run(**flags)` is the program, ended, of a grid whose folders are in `tmp_path`."""

  def run(**flags):
    done = start('run_paper', *flags_of(configs, tmp_path, **flags))
    done.wait()
    return done

  return run


# --- The plan -------------------------------------------------------------------------------------


def planned(run, **flags):
  """`collection` or preset and seed of each command, in their order, and the commands."""
  done = run(dry_run=True, **flags)
  assert done.status == 0, done.stderr
  commands = [shlex.split(line) for line in done.stdout.splitlines()[1:]]
  names = []
  for words in commands:
    found = dict(word[2:].split('=', 1) for word in words[3:])
    preset = os.path.basename(found.get('gin_file', 'collection'))
    names.append(preset.replace('.gin', '') + found.get('seed', ''))
  return names, commands


def test_data_and_clones_are_planned_before_what_needs_them(run, configs, tmp_path):
  names, commands = planned(run, presets='dual,primal,bc', seeds='3,0')
  assert names == ['collection', 'dual3', 'bc3', 'primal3', 'dual0', 'bc0', 'primal0']
  assert all(word in commands[0] for word in ('brac.collect_data', '--n_samples=1000'))
  assert f'--gin_file={configs}/primal.gin' in commands[3] and '--seed=3' in commands[3]
  assert planned(run, presets='dual')[0] == ['collection', 'dual0']
  # One clone does for all seeds where bc is no preset of the grid.
  names, _ = planned(run, presets='primal', seeds='0,1')
  assert names == ['collection', 'bc0', 'primal0', 'primal1']
  assert os.listdir(tmp_path) == []


def test_what_is_there_is_not_planned(run, tmp_path):
  clone = tmp_path / 'learn' / PLACE / 'bc' / '0' / '0'
  clone.mkdir(parents=True)
  (clone / 'agent_behavior.index').write_text('')
  write_data(tmp_path, 1000)
  grid = dict(presets='primal', total_train_steps=100)
  assert planned(run, **grid)[0] == ['primal0']
  # A clone that is half trained is trained first; one that is trained, to whatever step, is taken.
  results.write_progress(str(clone), 20, 50)
  assert planned(run, **grid)[0] == ['bc0', 'primal0']
  results.write_progress(str(clone), 50, 50)
  assert planned(run, **grid)[0] == ['primal0']
  assert planned(run, **{**grid, 'presets': 'bc'})[0] == ['bc0']
  assert planned(run, **{**grid, 'presets': 'bc', 'total_train_steps': 50})[0] == []
  # Of a seed that has a clone of its own, that one is meant.
  own = clone.parent / '1'
  own.mkdir()
  (own / 'agent_behavior.index').write_text('')
  results.write_progress(str(own), 20, 50)
  assert planned(run, **grid, seeds='0,1')[0] == ['primal0', 'bc1', 'primal1']


def test_a_finished_clone_without_its_weights_is_said(run, tmp_path):
  clone = tmp_path / 'learn' / PLACE / 'bc' / '0' / '0'
  clone.mkdir(parents=True)
  results.write_progress(str(clone), 50, 50)
  done = run(presets='bc,primal', total_train_steps=50, dry_run=True)
  assert done.status == 1 and 'its agent_behavior is gone' in done.stderr


@pytest.mark.parametrize('n, used', [(2000, 'the first 1000'), (500, 'all')])
def test_data_of_another_size_is_said(run, tmp_path, n, used):
  write_data(tmp_path, n)
  done = run(presets='sac', dry_run=True)
  assert done.status == 0
  path = tmp_path / 'data' / 'Pendulum-v1' / 'randwalk' / '0' / 'data'
  assert done.stderr == f'{path} has {n} transitions: {used} of them are used\n'


def test_a_folder_of_data_configs_need_not_have_the_presets(run, configs, tmp_path):
  (tmp_path / 'dcfg_randwalk.py').write_text(textwrap.dedent(RANDWALK))
  _, (_, training) = planned(run, config_dir=tmp_path, presets='w_vp')
  assert f'--gin_file={project_folder("configs")}/w_vp.gin' in training


def test_a_clone_of_other_data_is_said(run, configs, tmp_path):
  write_data(tmp_path, 1000)
  clone = tmp_path / 'learn' / PLACE / 'bc' / '0' / '0' / 'agent_behavior'
  checkpoints.save(str(clone), data=Dataset(Transitions.zeros(1, 3, 1)))
  rows = stored.load(str(tmp_path / DATA), 3, 1)
  own, other = transitions.fingerprint(rows), '1000 transitions, crc32 00000001'
  for theirs in (own, other, None):
    origin = {'data': theirs, 'mean_log_likelihood': 0.0}
    clone.with_name('agent_behavior.json').write_text(json.dumps(origin))
    done = run(presets='primal', dry_run=True)
    said = f'{clone} was cloned from other data than {tmp_path / DATA}\n'
    assert done.status == 0 and done.stderr == (said if theirs == other else '')


def test_what_is_bound_of_the_environment_is_bound_of_the_collection(run, configs, tmp_path):
  bindings = ['physics.ant_contact_forces=True', 'train_eval_offline.batch_size=8']
  names, commands = planned(run, presets='sac', gin_bindings=bindings[0])
  assert names == ['collection', 'sac0']
  assert all(f'--gin_bindings={bindings[0]}' in command for command in commands)
  _, commands = planned(run, presets='sac', gin_bindings=bindings[1])
  assert [f'--gin_bindings={bindings[1]}' in command for command in commands] == [False, True]


def test_a_macro_is_bound_in_the_presets_that_have_it(start, configs, tmp_path):
  mine = tmp_path / 'mine'
  shutil.copytree(configs, mine)
  with open(mine / 'primal.gin', 'a', encoding='utf-8') as f:
    f.write('ALPHA = 1.0\nbrac_primal_agent.Agent.alpha = %ALPHA\n')
  bindings = ['--gin_bindings=ALPHA=3.0', '--gin_bindings=train_eval_offline.batch_size=8']
  for presets in ('bc,primal', 'primal'):  # the clone is trained either way
    flags = flags_of(mine, tmp_path, presets=presets, dry_run=True)
    done = start('run_paper', *flags, *bindings)
    done.wait()
    clone, primal = (x.split() for x in done.stdout.splitlines() if '.train_offline' in x)
    assert f'--gin_file={mine}/bc.gin' in clone and f'--gin_file={mine}/primal.gin' in primal
    assert [x for x in clone if 'bindings' in x] == bindings[1:]
    assert [x for x in primal if 'bindings' in x] == bindings


def test_a_folder_of_presets_need_not_have_the_data_configs(run, configs, tmp_path):
  mine = tmp_path / 'mine'
  mine.mkdir()
  shutil.copy(configs / 'primal.gin', mine)
  grid = dict(data_names='eps1', env_names='Hopper-v2', n_train=1000000)
  names, commands = planned(run, config_dir=mine, presets='primal', **grid)
  assert '--config_file=dcfg_eps1' in commands[0]
  assert not any(word.startswith('--config_dir') for word in commands[0])
  # The shipped clone is of the shipped policies' data, which these are.
  assert names == ['collection', 'primal0']


def test_the_shipped_settings_are_taken_under_whatever_name_their_folder_has(run, tmp_path):
  (tmp_path / 'link').symlink_to(project_folder('configs'))
  grid = dict(data_names='eps1', env_names='Hopper-v2', n_train=1000000, presets='kl_vp')
  for name in (project_folder('configs') + '/.', tmp_path / 'link'):
    done = run(config_dir=name, dry_run=True, **grid)
    assert 'tuned for Hopper-v2: kl_vp' in done.stderr
    assert '/bc.gin' not in done.stdout  # the shipped clone does


def test_a_tuned_preset_takes_the_place_of_the_plain_one(run, configs, tmp_path):
  mine = tmp_path / 'mine'
  shutil.copytree(configs, mine)
  tuned = mine / 'tuned' / 'Pendulum-v1' / 'sac.gin'
  tuned.parent.mkdir(parents=True)
  tuned.write_text("include 'sac.gin'\n" + SMALL)
  for flags, path in ((dict(), tuned), (dict(tuned='false'), mine / 'sac.gin')):
    done = run(config_dir=mine, presets='sac,dual', dry_run=True, **flags)
    assert f' --gin_file={path} ' in done.stdout and f'{mine}/dual.gin' in done.stdout
    said = 'tuned for Pendulum-v1: sac; --notuned takes the plain presets\n'
    assert done.stderr == (said if path == tuned else '')
  tuned.write_text(
    f'# Data eps1, 9 transitions;\n# Seed 0. A whole trial\n# has 90 steps.\n{SMALL}'
  )
  done = run(config_dir=mine, presets='sac', dry_run=True)
  assert 'tuned for Pendulum-v1: sac (eps1, seed 0, 90 steps); --notuned' in done.stderr
  # One of ours, tuned in a folder of one's own.
  shutil.copy(tuned, tuned.parent / 'w_vp.gin')
  done = run(config_dir=mine, presets='w_vp', dry_run=True)
  assert f' --gin_file={tuned.parent}/w_vp.gin ' in done.stdout
  # A run that was finished before there was a tuned preset.
  folder = tmp_path / 'learn' / PLACE / 'sac' / '0' / '0'
  folder.mkdir(parents=True)
  results.write_progress(str(folder), 50, 50)
  (folder / 'operative_config.gin').write_text('train_eval_offline.batch_size = 17\n')
  done = run(config_dir=mine, presets='sac', total_train_steps=50)
  assert done.status == 1 and done.stdout == ''
  assert f'batch_size was 17, is 16; choose another --root_dir, or --notuned: {tuned} is tuned' in (
    done.stderr
  )


@pytest.mark.parametrize(
  'flags, text',
  [
    (dict(presets='prime'), r"there is no .*/prime\.gin; did you mean 'primal'\?"),
    (
      dict(presets='sac', data_names='randwlak'),
      r"/dcfg_randwlak\.py; did you mean 'dcfg_randwalk",
    ),
    (dict(presets='sac', seeds='0,one'), r'--seeds 0,one: seeds are whole numbers'),
    (dict(presets='sac', seeds='²'), r'--seeds ²: seeds are whole numbers up to \d+'),
    (dict(presets='sac', seeds=2**59 + 1), r'--seeds \d+: seeds are whole numbers up to \d+'),
    (dict(presets='my'), r'/my\.gin binds no train_eval_offline\.agent_name'),
    (dict(presets='latin'), r"gin: .*/latin\.gin: 'utf-8' codec"),
    (dict(presets='no_gin'), r'gin: .*/no_gin\.gin: .*line 2'),
    (dict(presets='sac', gin_bindings='sac_agent.Agent.x=1'), r"has no parameter 'x'"),
    (dict(presets='sac,dual', gin_bindings='ALFA=1'), r"gin: 'ALFA' names no parameter"),
    (
      dict(presets='sac', env_names='Pendulum-v1,Hoper-v2'),
      r"unknown environment 'Hoper-v2'; the nearest known is 'Hopper-v",
    ),
    (dict(presets='sac', env_names='CartPole-v1'), 'CartPole-v1 acts in a Discrete'),
    (dict(presets='sac', root_dir='[x]'), r'\[x\]: the signs \* \? \[ \]'),
    (dict(presets='sac', policy_root_dir='$NO_SUCH/x'), r'\$NO_SUCH stands for nothing'),
    (dict(presets=''), r'no run is asked for'),
  ],
)
def test_a_mistake_is_one_line_and_nothing_is_started(run, tmp_path, flags, text):
  done = run(**flags)
  assert done.status == 1 and done.stdout == ''
  assert re.fullmatch(rf'run_paper: .*{text}.*\n', done.stderr)
  assert os.listdir(tmp_path) == []


# --- The jobs -------------------------------------------------------------------------------------

SCHEDULE = """
import json, sys
from brac import runs
from brac.grids.jobs import Job, Local, run_jobs
runs.catch_stops()
jobs = [
  Job(name, ['sh', '-c', script], f'logs/{name}.log', tuple(needs))
  for name, script, needs in json.loads(sys.argv[1])
]
failed = run_jobs(jobs, Local(min(int(sys.argv[2]), len(jobs))))
print(json.dumps(failed))
"""


def schedule(folder, jobs, n_jobs):
  return subprocess.Popen(
    [sys.executable, '-c', SCHEDULE, json.dumps(jobs), str(n_jobs)],
    cwd=folder,
    env={**os.environ, 'TMPDIR': str(folder)},  # where it is noted which cores are taken
    stdout=subprocess.PIPE,
    text=True,
  )


def test_a_job_waits_for_what_it_needs_and_a_failed_one_stops_no_other(tmp_path):
  jobs = [
    ('late', 'cat early', ['early']),
    ('early', 'sleep 1; echo made > early', []),
    ('bad', 'echo the reason >&2; exit 3', []),
    ('silent', r"printf '\377\n\n'; exit 1", []),
    ('after_bad', 'echo > never', ['bad']),
    ('after_that', 'echo > never', ['after_bad']),
  ]
  out, _ = schedule(tmp_path, jobs, 2).communicate()
  assert json.loads(out.splitlines()[-1]) == {
    'bad': 'exit status 3: the reason: logs/bad.log',
    'silent': 'exit status 1: \ufffd: logs/silent.log',
    'after_bad': 'not started, as it needs bad',
    'after_that': 'not started, as it needs after_bad',
  }
  assert (tmp_path / 'logs' / 'late.log').read_text() == 'made\n'
  assert (tmp_path / 'logs' / 'bad.log').read_text() == 'the reason\n'
  assert not (tmp_path / 'never').exists()


def test_so_many_jobs_run_at_a_time(tmp_path):
  # Each waits until as many as are to run at a time have begun, and a moment for one too many.
  waits = 'while [ $(grep -c + log) -lt {} ]; do sleep 0.05; done; sleep 0.5'
  script = f'echo + >> log; {waits}; echo - >> log'
  for n_jobs in (1, 2, 3):
    (tmp_path / 'log').write_text('')
    process = schedule(tmp_path, [(str(k), script.format(n_jobs), []) for k in range(4)], n_jobs)
    assert process.wait() == 0
    process.stdout.close()
    running = [1 if sign == '+' else -1 for sign in (tmp_path / 'log').read_text().split()]
    assert max(sum(running[: k + 1]) for k in range(len(running))) == n_jobs


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='one core cannot be shared out')
def test_each_job_has_cores_of_its_own(tmp_path):
  script = (
    'grep Cpus_allowed_list /proc/self/status > cores_{0}; while [ ! -e cores_{1} ]; do :; done'
  )
  jobs = [(str(k), script.format(k, 1 - k), []) for k in range(2)]
  jobs.append(('alone', script.format(2, 0), ['0', '1']))
  assert schedule(tmp_path, jobs, 2).communicate()[0].splitlines()[-1] == '{}'
  cores = [(tmp_path / f'cores_{k}').read_text() for k in range(3)]
  assert cores[0] != cores[1] and cores[2] in cores[:2]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_jobs_and_waits_for_their_saves(tmp_path, number):
  script = (
    'trap "sleep 1; echo saved > saved_{0}; exit 143" TERM; echo > begun_{0}; sleep 60 & wait'
  )
  jobs = [(str(k), script.format(k), []) for k in range(3)]
  process = schedule(tmp_path, jobs, 2)
  wait_for(lambda: (tmp_path / 'begun_1').exists(), process)
  wait_for(lambda: (tmp_path / 'begun_0').exists(), process)
  process.send_signal(number)
  assert process.wait(120) == 0
  process.stdout.close()
  assert sorted(p.name for p in tmp_path.glob('saved_*')) == ['saved_0', 'saved_1']
  assert not (tmp_path / 'begun_2').exists()


def wait_for(what, process, seconds=600):
  end = time.monotonic() + seconds
  while not what():
    assert process.poll() is None and time.monotonic() < end
    time.sleep(0.05)


def test_where_nothing_was_trained_there_is_no_report(run, tmp_path):
  (tmp_path / 'dcfg_bad.py').write_text('1 / 0')
  (tmp_path / 'sac.gin').write_text(SMALL)
  done = run(config_dir=tmp_path, data_names='bad', presets='sac')
  assert done.status == 1
  failed = done.stderr.splitlines()
  assert len(failed) == 2 and 'dcfg_bad.py:1: 1 / 0: ZeroDivisionError' in failed[0]
  assert failed[1].endswith('not started, as it needs Pendulum-v1 bad collection')
  assert not (tmp_path / 'learn' / 'Pendulum-v1').exists()


# --- Real trainings -------------------------------------------------------------------------------


def test_a_grid_with_a_broken_run_is_stopped_and_goes_on(run, configs, tmp_path):
  grid = dict(presets='sac,broken', n_jobs=2, total_train_steps=200000)
  folder = tmp_path / 'learn' / PLACE / 'sac' / '0' / '0'
  with open(tmp_path / 'out', 'w', encoding='utf-8') as out:
    command = [sys.executable, '-m', 'brac.run_paper', *flags_of(configs, tmp_path, **grid)]
    process = subprocess.Popen(command, stdout=out, stderr=out)
  said = (tmp_path / 'out').read_text
  wait_for(lambda: (folder / 'results.csv').exists() and 'broken 0: exit' in said(), process)
  process.send_signal(signal.SIGTERM)
  assert process.wait() == 128 + signal.SIGTERM
  assert 'stopped by SIGTERM; the runs are saved' in said()
  step, total = results.read_progress(str(folder))
  assert 0 < step < total == 200000
  logs = tmp_path / 'learn' / 'logs'
  log = logs / 'Pendulum-v1_randwalk_sac_0_n1000.log'
  assert f'stopped by SIGTERM; step {step} is saved' in log.read_text()

  grid['total_train_steps'] = (step // 200 + 1) * 200
  done = run(**grid)
  assert done.status == 1
  assert f'going on from step {step} of' in log.read_text()
  about = results.read_about(str(folder))
  assert about[:6] == ('Pendulum-v1', 'randwalk', 1000, 'sac', '0', 0)
  assert f' --gin_file={configs}/sac.gin ' in about.command and ' --seed=0 ' in about.command
  assert about.command in (tmp_path / 'learn' / 'commands.sh').read_text().splitlines()
  assert results.is_finished(str(folder), grid['total_train_steps'])
  broken = logs / 'Pendulum-v1_randwalk_broken_0_n1000.log'
  reason = broken.read_text().splitlines()[-1]
  assert reason.startswith('train_offline: train_eval_offline.batch_size is 1001, more than')
  failed = f'failed: Pendulum-v1 randwalk broken 0: exit status 1: {reason}: {broken}'
  assert done.stderr.splitlines() == [failed]
  assert re.search(r'^sac main +-\d+(\.\d)? \(1\)$', done.stdout, re.M)

  before = (folder / 'results.csv').stat().st_mtime_ns
  grid['presets'] = 'sac'
  done = run(**grid)
  assert done.status == 0 and done.stderr == ''
  assert done.stdout.startswith('0 programs to run, 2 at a time; 1 runs are finished\n')
  assert 'sac main' in done.stdout
  assert (folder / 'results.csv').stat().st_mtime_ns == before

  # What is finished was trained with certain settings, or it is not what is asked for.
  for flags, change in (
    (dict(gin_bindings='train_eval_offline.batch_size=8'), 'batch_size was 16, is 8'),
    (dict(n_eval_episodes=2), '--n_eval_episodes was 1, is 2'),
  ):
    done = run(**grid, **flags)
    assert done.status == 1 and done.stdout == ''
    assert f'{folder} was trained with other settings: ' in done.stderr and change in done.stderr
  same = 'train_eval_offline.batch_size=16'
  assert run(**grid, gin_bindings=same, dry_run=True).status == 0
  n = grid['total_train_steps'] - 1
  done = run(**{**grid, 'total_train_steps': n}, dry_run=True)
  assert done.status == 0 and f'1 of 1 finished runs are of more than {n} steps' in done.stderr

  # A preset that has become another, and data that were collected anew.
  others = tmp_path / 'others'
  shutil.copytree(configs, others)
  (others / 'sac.gin').write_text(SMALL.replace('train_eval_offline.batch_size = 16', ''))
  done = run(**{**grid, 'config_dir': others})
  assert done.status == 1 and 'train_eval_offline.batch_size was 16, is 256; ' in done.stderr
  (others / 'sac.gin').write_text(SMALL.replace("'sac'", "'brac_dual'"))
  done = run(**{**grid, 'config_dir': others})
  assert done.status == 1 and "--agent_name was 'sac', is 'brac_dual'" in done.stderr
  write_data(tmp_path / 'anew', 1000)
  done = run(**{**grid, 'data_root_dir': tmp_path / 'anew' / 'data'})
  assert done.status == 1 and "--data was '1000 transitions, crc32 " in done.stderr

  # Which code trained it is told by the checkpoint, or by that file as well.
  config = folder / 'operative_config.gin'
  config.write_text(config.read_text().replace(' of source ', ' of another source '))
  assert run(**grid, dry_run=True).stderr == ''

  # Without its checkpoint it tells them by operative_config.gin; without that, not at all.
  for agent_file in folder.glob('agent*'):
    agent_file.unlink()
  done = run(**grid, gin_bindings='train_eval_offline.batch_size=8')
  assert done.status == 1 and 'batch_size was 16, is 8' in done.stderr
  done = run(**grid, dry_run=True)
  older = f'1 of 1 finished runs were trained by another version of the code, as {folder}; '
  assert done.status == 0 and older in done.stderr
  (folder / 'operative_config.gin').unlink()
  done = run(**grid, gin_bindings='train_eval_offline.batch_size=8')
  assert done.status == 0
  assert done.stderr == (
    f'1 of 1 finished runs do not tell their settings, as {folder}: they are taken for what is '
    'asked for\n'
  )
