"""A run and its folder: record, settings, lock, and the signals that it waits for."""

import ast
import errno
import fcntl
import glob
import json
import multiprocessing
import os
import signal

import gin
import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from reading import files, results, scalars, unchanged

from brac import checkpoints, runs, training
from brac import files as brac_files
from brac import results as brac_results
from brac.errors import InUse, UserError
from brac.rollouts import Evaluator
from brac.runs import terminal


def test_a_record_that_is_taken_up_drops_what_came_after_and_what_is_half_written(tmp_path):
  record = runs.Record(str(tmp_path), ['main', 'max_q'])
  for step in (10, 20, 30):
    record.summary(step, {'q_loss': step / 8, 'p_loss': step / 4})
    record.evaluation(step, {'main': np.array([step, 3.0]), 'max_q': np.array([0.5])})
  (path,) = glob.glob(str(tmp_path / 'train' / '*'))
  os.truncate(path, os.path.getsize(path) - 5)

  record = runs.Record(str(tmp_path), ['main', 'max_q'], 20)
  train = [('p_loss', 10, 2.5), ('q_loss', 10, 1.25), ('p_loss', 20, 5.0), ('q_loss', 20, 2.5)]
  assert scalars(tmp_path / 'train') == train
  assert scalars(tmp_path / 'eval' / 'max_q') == [
    (*('episode_mean', step), 0.5) for step in (10, 20)
  ]
  rows = [[10, 6.5, 0.5], [20, 11.5, 0.5]]
  assert results(tmp_path) == (['step', 'main', 'max_q'], rows) and record.results == rows

  record.evaluation(40, {'main': np.array([1.0]), 'max_q': np.array([2.0])})
  assert results(tmp_path)[1] == [*rows, [40, 1.0, 2.0]]
  assert scalars(tmp_path / 'eval' / 'main')[-1] == ('episode_mean', 40, 1.0)


def test_a_record_that_was_killed_while_it_was_taken_up_is_taken_up_again(tmp_path, monkeypatch):
  with monkeypatch.context() as killed:
    record = runs.Record(str(tmp_path), ['main'])
    for step in (10, 20, 30):
      record.summary(step, {'q_loss': step / 8})
    record.flush()

    replace = os.replace

    def kill(source, target):
      if 'tfevents' in target:
        raise KeyboardInterrupt
      replace(source, target)

    killed.setattr(os, 'replace', kill)
    with pytest.raises(KeyboardInterrupt):
      runs.Record(str(tmp_path), ['main'], 20)
  left = [('q_loss', 10, 1.25), ('q_loss', 20, 2.5)]
  assert scalars(tmp_path / 'train') == [*left, ('q_loss', 30, 3.75)]
  runs.Record(str(tmp_path), ['main'], 20)
  assert scalars(tmp_path / 'train') == left


def test_a_record_on_a_full_disk_is_an_error(small_disk):
  record = runs.Record(small_disk, ['main'])
  with open(os.path.join(small_disk, 'fill'), 'wb') as f:
    f.write(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - 4096))
  with pytest.raises(UserError) as error:
    for step in range(300):
      record.summary(step, {'q_loss': 1.0})
    record.flush()
  message = str(error.value)
  assert f'cannot write to {small_disk}: ' in message and '\n' not in message
  assert '0 MB free' in message and 'what was saved before is kept' in message
  assert 'function_node' not in message


@pytest.mark.parametrize(
  'content',
  ['', 'step,main\n10,1.5', 'step,main\nabc,1.5\n', 'step,main\n2,x\n', b'\xff\xfe'],
)
def test_a_damaged_results_csv_is_one_line_and_is_not_written_over(tmp_path, content):
  path = tmp_path / 'results.csv'
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  before = files(tmp_path)
  with pytest.raises(UserError, match=rf'{tmp_path}: .*results\.csv .*; put a good copy'):
    runs.Record(str(tmp_path), ['main'], 20)
  assert files(tmp_path) == before


@pytest.mark.parametrize('what', ['lock', 'progress.json'])
def test_what_a_full_disk_does_not_take_is_one_line(small_disk, what):
  write = {
    'lock': lambda: runs.Lock(small_disk),
    'progress.json': lambda: brac_results.write_progress(small_disk, 1, 2),
  }[what]
  if what != 'lock':
    with open(os.path.join(small_disk, what), 'w', encoding='utf-8') as f:
      f.write('the one before')
  with pytest.raises(OSError), open(os.path.join(small_disk, 'fill'), 'wb', 0) as f:
    while True:
      f.write(bytes(4096))
  before = files(small_disk)
  with pytest.raises(UserError) as error, brac_files.writing(small_disk):
    write()
  message = str(error.value)
  assert message.startswith(f'cannot write to {small_disk}: No space left on device (0 MB free)')
  assert unchanged(before, files(small_disk), 'lock$|unfinished$')


def test_a_number_that_stands_still_for_long_is_warned_of_once():
  watch, said = training.Watch(['alpha', 'div_mean']), {}
  for step in range(100, 40_000, 100):
    # α is at its bound from step 5,000 on, but for one summary; D moves.
    alpha = 500.0 if step >= 5000 and step != 12_000 else step / 100
    for line in watch.look(step, {'alpha': alpha, 'div_mean': step * 1.0, 'q_loss': 1.0}):
      said[step] = line
  assert list(said) == [22_100]
  assert said[22_100].startswith(
    'alpha has been 500 in every summary from step 12100 to step 22100'
  )


@pytest.mark.parametrize('value', [np.nan, -np.inf])
def test_a_weight_that_is_not_finite_stops_the_run_at_the_next_summary(make_agent, tmp_path, value):
  # A bias of -inf is nothing that a loss tells of: behind the ReLU its unit is 0.
  agent, saves = make_agent('bc', model_params=((8, 8),)), []
  schedule = training.Schedule(100, 10, 10, 1000, 5, 10.0)
  evaluator = Evaluator('Pendulum-v1', agent.policies(), 0, 0)

  def save(step):
    saves.append(step)
    if step == 25:
      agent.pi.variables[0].assign(tf.fill(agent.pi.variables[0].shape, np.float32(value)))

  with runs.RunFolder(str(tmp_path), runs.Settings()) as run:
    with pytest.raises(UserError, match='at step 30; the last finite values were .*p_loss'):
      training.train('bc', agent.loop, schedule, evaluator, run, runs.Clock(), save)
  assert saves == [5, 10, 15, 20, 25]


# --- Evaluations that there are not ---------------------------------------------------------------


def test_an_evaluation_without_returns_is_an_empty_cell_that_every_reader_takes(tmp_path):
  folder = tmp_path / 'Env-v0' / 'd' / 'n30' / 'bc' / '0' / '0'
  record = runs.Record(str(folder), ['main', 'max_q'])
  record.evaluation(10, {'main': np.array([1.0, 2.0]), 'max_q': np.array([np.inf])})
  record.evaluation(20, {})
  assert files(folder)['results.csv'] == b'step,main,max_q\n10,1.5,\n20,,\n'
  record = runs.Record(str(folder), ['main', 'max_q'], 20)
  np.testing.assert_equal(record.results, [[10, 1.5, np.nan], [20, np.nan, np.nan]])
  np.testing.assert_equal(record.mean_returns('main'), [1.5, np.nan])
  assert files(folder)['results.csv'] == b'step,main,max_q\n10,1.5,\n20,,\n'

  brac_results.write_progress(str(folder), 20, 20)
  (run,) = brac_results.read_runs(str(tmp_path))
  assert (run.status, run.steps) == ('finished', (10, 20))
  np.testing.assert_equal(run.returns['main'], [1.5, np.nan])


def test_a_run_that_was_never_evaluated_is_told_as_such(tmp_path):
  folder = tmp_path / 'Env-v0' / 'd' / 'n30' / 'bc' / '0' / '0'
  runs.Record(str(folder), ['main']).evaluation(20, {})
  brac_results.write_progress(str(folder), 20, 20)
  (run,) = brac_results.read_runs(str(tmp_path))
  assert (run.status, run.fault) == ('broken', 'it has no evaluation')


def test_another_list_of_policies_keeps_the_returns_that_are_there(tmp_path):
  runs.Record(str(tmp_path), ['main', 'mean']).evaluation(
    10, {'main': np.array([1.0]), 'mean': np.array([2.0])}
  )
  record = runs.Record(str(tmp_path), ['main', 'max_q'], 10)
  record.evaluation(20, {'main': np.array([3.0]), 'max_q': np.array([4.0])})
  text = files(tmp_path)['results.csv'].decode()
  assert text == 'step,main,mean,max_q\n10,1.0,2.0,\n20,3.0,,4.0\n'


# --- What a run is --------------------------------------------------------------------------------

# What a version kept that knew no other entries; the values are those of `settings` below.
OLDER = {
  '--agent_name': "'sac'",
  '--data': "'30 transitions, crc32 00000000'",
  '--env_name': "'Pendulum-v1'",
  '--n_eval_episodes': '20',
  '--seed': '0',
  'ALPHA': '3.0',
  'brac_primal_agent.Agent.behavior_ckpt_file': "'/a/tree/that/was/moved/agent_behavior'",
  'experiment.batch_size': '64',
  'experiment.model_params': '(((200, 200),), 2)',
  'version': runs.version(),
}


@gin.configurable
def experiment(batch_size=64, model_params=(((200, 200),), 2)):
  """Has the parameters that gin is asked for in these tests."""


def settings(**flags):
  """Those of a run that is made as gin is bound now."""
  gin.config._OPERATIVE_CONFIG.clear()
  experiment()
  usual = dict(agent_name='sac', env_name='Pendulum-v1', seed=0, n_eval_episodes=20)
  return runs.Settings(**{**usual, 'data': '30 transitions, crc32 00000000', **flags})


def kept(path, entries=None, **changes):
  """Saves settings as a run does; returns the path."""
  if entries is None:
    entries = {**json.loads(settings().variable.numpy()), **changes}
  text = tf.Variable(json.dumps({k: v for k, v in entries.items() if v is not None}))
  checkpoints.save(str(path), settings=text, global_step=tf.Variable(7))
  return str(path)


def test_a_run_goes_on_as_it_was_and_with_what_older_versions_kept(tmp_path, caplog):
  for path in (kept(tmp_path / 'new'), kept(tmp_path / 'old', OLDER)):
    assert settings().changes(path) == ([], [], [])
    settings().check(path, allow_changes=False)
  assert not caplog.records


@pytest.mark.parametrize(
  'name, was', [('seed', 1), ('agent_name', 'bc'), ('env_name', 'Other-v0'), ('n_samples', 5)]
)
def test_another_run_is_refused_whatever_is_allowed(tmp_path, name, was):
  path, now = kept(tmp_path / 'agent', **{f'--{name}': repr(was)}), settings(n_samples=6)
  for allowed in (False, True):
    with pytest.raises(UserError) as error:
      now.check(path, allowed)
    assert f'--{name} was {was!r}, is ' in str(error.value)
    assert str(error.value).endswith('choose another --sub_dir')


def test_other_parameters_are_refused_unless_they_are_allowed(tmp_path, caplog):
  path = kept(tmp_path / 'agent', **{'experiment.batch_size': '32', '--data': "'others'"})
  now = settings()
  with pytest.raises(UserError, match=r'batch_size was 32, is 64; .*, or go on .* by --allow_ch'):
    now.check(path, allow_changes=False)
  now.check(path, allow_changes=True)
  assert [r.levelname for r in caplog.records] == ['WARNING'] * 2
  assert 'experiment.batch_size was 32, is 64' in caplog.text


@pytest.mark.parametrize(
  'changes, said',
  [
    ({'Python': '3.9.2', 'tensorflow': '2.11.0'}, ['Python was 3.9.2, is 3.', 'was 2.11.0, is 2.']),
    (
      {'version': '0.1.0 of source 12345678'},
      ['version was 0.1.0 of source 12345678, is 0.1.0 of'],
    ),
    ({'$ONEDNN_MAX_CPU_ISA': 'AVX2'}, ['$ONEDNN_MAX_CPU_ISA was AVX2, is not set']),
    ({'--evaluated': "['main']"}, ["--evaluated was ['main'], is ['main', 'max_q']"]),
  ],
)
def test_other_surroundings_are_one_warning_that_is_written_into_the_record(
  tmp_path, caplog, monkeypatch, changes, said
):
  monkeypatch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)
  now = settings(evaluated=['main', 'max_q'])
  now.check(kept(tmp_path / 'agent', **changes), allow_changes=False)
  (warning,) = [r.getMessage() for r in caplog.records]
  now.write(str(tmp_path))
  later = settings(evaluated=['main', 'max_q'])
  checkpoints.save(str(tmp_path / 'later'), settings=now.variable)
  later.check(str(tmp_path / 'later'), allow_changes=False)
  later.write(str(tmp_path))
  record = (tmp_path / 'operative_config.gin').read_text()
  for text in said:
    assert text in warning
    assert '\n# at step 7: ' in record and text in record
  assert len(caplog.records) == 1
  assert 'experiment.batch_size = 64\n' in record


@pytest.mark.parametrize(
  'binding',
  ['model_params = [[[200, 200]], 2.0]', 'batch_size = 64.0', 'batch_size = 64'],
)
def test_another_way_to_write_a_value_is_no_other_value(tmp_path, binding):
  path = kept(tmp_path / 'agent')
  gin.parse_config(f'experiment.{binding}')
  assert settings().changes(path) == ([], [], [])


@pytest.mark.parametrize(
  'binding', ['model_params = (((200, 201),), 2)', 'batch_size = 64.5', 'batch_size = True']
)
def test_another_value_is_another_value(tmp_path, binding):
  path = kept(tmp_path / 'agent', **{'experiment.batch_size': '1'})
  gin.parse_config(f'experiment.{binding}')
  assert len(settings().changes(path).asked) >= 1


def test_a_parameter_that_an_older_version_did_not_have_is_compared_where_it_is_set(tmp_path):
  older = {k: v for k, v in OLDER.items() if not k.endswith('batch_size')}
  path = kept(tmp_path / 'agent', {**older, 'version': '0.0.1'})
  assert settings().changes(path).asked == []
  gin.parse_config('experiment.batch_size = 32')
  assert settings().changes(path).asked == ['experiment.batch_size was not there, is 32']


def test_settings_that_are_taken_too_early_are_refused(tmp_path):
  path = kept(tmp_path / 'agent')
  gin.config._OPERATIVE_CONFIG.clear()
  early = runs.Settings(**{k[2:]: ast.literal_eval(v) for k, v in OLDER.items() if k[:2] == '--'})
  with pytest.raises(UserError, match='batch_size was 64, is not there'):
    early.check(path, allow_changes=False)


# --- The folder -----------------------------------------------------------------------------------


def test_a_folder_is_given_back_however_the_run_ends(tmp_path):
  with runs.RunFolder(str(tmp_path / 'a'), runs.Settings()):
    with pytest.raises(UserError, match=rf'a is in use by process {os.getpid()} on '):
      runs.RunFolder(str(tmp_path / 'a'), runs.Settings())
    with runs.RunFolder(str(tmp_path / 'b'), runs.Settings()):
      pass
  with pytest.raises(ZeroDivisionError):
    with runs.RunFolder(str(tmp_path / 'a'), runs.Settings()):
      raise ZeroDivisionError
  with runs.RunFolder(str(tmp_path / 'a'), runs.Settings()):
    pass
  assert files(tmp_path) == {'a/lock': b'', 'b/lock': b''}


def test_the_first_saves_that_are_whole_are_found(tmp_path):
  with runs.RunFolder(str(tmp_path), runs.Settings()) as run:
    groups = ['state'], ['agent_final', 'replay_final']
    assert run.find(*groups) is None
    run.save('agent_final', x=tf.Variable(1.0))
    with pytest.raises(
      UserError, match='replay_final is damaged or not there, and the run goes on from'
    ):
      run.find(*groups)
    run.save('replay_final', x=tf.Variable(1.0))
    assert run.find(*groups) == groups[1]
    run.save('state', x=tf.Variable(1.0))
    assert run.find(*groups) == groups[0]
    os.truncate(tmp_path / 'state.data-00000-of-00001', 3)
    assert run.find(*groups) == groups[1]
    with pytest.raises(UserError, match='state is damaged'):
      run.find(groups[0])


def take(pipe, folder, error, kinds):
  """Takes a folder on a file system without some kinds of locks; gives it back when told to."""

  def refuse(*_):
    raise OSError(error, os.strerror(error))

  said = []
  logging.warning = lambda text, *values: said.append(text % values)
  for kind in kinds:
    setattr(fcntl, kind, refuse)
  try:
    lock = runs.Lock(folder)
  except UserError as refused:
    pipe.send((str(refused), said))
    return
  pipe.send(('taken', said))
  pipe.recv()
  lock.release()
  pipe.send('given back')


@pytest.fixture
def taker(tmp_path):
  """`taker(error, *kinds)`: a process that takes a folder, how that went, and its warnings."""
  started = []

  def start(error, *kinds):
    ours, theirs = multiprocessing.Pipe()
    args = theirs, str(tmp_path / 'run'), error, kinds
    process = multiprocessing.get_context('fork').Process(target=take, args=args)
    process.start()
    started.append(process)
    return process, ours, *ours.recv()

  yield start
  for process in started:
    process.kill()
    process.join()


@pytest.mark.parametrize('kinds', [(), ('flock',), ('flock', 'lockf')], ids=len)
def test_a_folder_is_for_one_process_whatever_the_file_system_can_lock(taker, tmp_path, kinds):
  first, _, how, _ = taker(errno.ENOSYS, *kinds)
  assert how == 'taken'
  _, _, how, _ = taker(errno.ENOSYS, *kinds)
  assert how.startswith(f'{tmp_path}/run is in use by process {first.pid} on ')
  # A kill leaves nothing that keeps others out.
  first.kill()
  first.join()
  _, pipe, how, said = taker(errno.ENOLCK, *kinds)
  assert how == 'taken'
  assert [line.split(' (')[0] for line in said] == [
    f'this file system cannot lock by {kind}' for kind in kinds
  ]
  pipe.send('give it back')
  assert pipe.recv() == 'given back'
  assert files(tmp_path) == {'run/lock': b''}


def take_and_give_back(folder, counter, n):
  """Takes a folder again and again without locks, and counts those who have it with this one."""

  def refuse(*_):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

  fcntl.flock = fcntl.lockf = refuse
  logging.warning = lambda *_: None
  taken = 0
  while taken < n:
    try:
      lock = runs.Lock(folder)
    except InUse:
      continue
    taken += 1
    with open(counter, 'x', encoding='utf-8'):  # FileExistsError where another has it too
      pass
    os.remove(counter)
    if taken % 3:
      lock.release()
    else:  # as a process that is killed leaves it
      pid = os.fork()
      if not pid:
        os._exit(0)
      os.waitpid(pid, 0)
      os.rename(lock._held, lock._held.replace(f'-{os.getpid()}-', f'-{pid}-'))


def test_no_two_processes_have_a_folder_by_name(tmp_path):
  args = str(tmp_path / 'run'), str(tmp_path / 'counter'), 60
  fork = multiprocessing.get_context('fork')
  takers = [fork.Process(target=take_and_give_back, args=args) for _ in range(4)]
  for taker in takers:
    taker.start()
  for taker in takers:
    taker.join()
  assert [taker.exitcode for taker in takers] == [0] * 4
  assert all(name in ('lock', 'lock.held') for name in os.listdir(tmp_path / 'run'))


def test_a_process_of_another_machine_counts_until_a_person_says_otherwise(taker, tmp_path):
  (tmp_path / 'run').mkdir()
  held = tmp_path / 'run' / 'lock.held'
  held.write_text('process 1 on a machine far away')
  _, _, how, _ = taker(errno.ENOSYS, 'flock', 'lockf')
  assert 'is in use by process 1 on a machine far away' in how and f'remove {held}' in how
  held.unlink()
  assert taker(errno.ENOSYS, 'flock', 'lockf')[2] == 'taken'


# --- Signals --------------------------------------------------------------------------------------


@pytest.fixture
def signals(monkeypatch):
  """Handlers and signals of a test's own."""
  monkeypatch.setattr(terminal, '_stop_signals', [])
  numbers = [getattr(signal, name) for name in terminal._SIGNALS]
  before = {number: signal.getsignal(number) for number in numbers}
  yield
  for number, handler in before.items():
    signal.signal(number, handler)


def test_a_second_signal_does_not_wait(signals):
  runs.catch_stops()
  os.kill(os.getpid(), signal.SIGINT)
  assert runs.stop_requested()
  with pytest.raises(KeyboardInterrupt) as second:
    os.kill(os.getpid(), signal.SIGTERM)
  assert second.value.args == (signal.SIGTERM,)


@pytest.mark.parametrize('name', ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU'])
def test_what_schedulers_and_terminals_send_waits_however_often_it_comes(signals, name):
  signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores, and then so do the programs
  runs.catch_stops()
  for _ in range(3):
    os.kill(os.getpid(), getattr(signal, name))
  os.kill(os.getpid(), signal.SIGTERM)  # which a warning comes before
  assert runs.stop_requested()
  with pytest.raises(runs.Stopped, match=name) as stopped:
    runs.stop('all is saved')
  assert stopped.value.exit_status == 128 + getattr(signal, name)


def test_what_nohup_ignores_stays_ignored(signals):
  signal.signal(signal.SIGHUP, signal.SIG_IGN)
  runs.catch_stops()
  os.kill(os.getpid(), signal.SIGHUP)
  assert not runs.stop_requested()
