"""Saves that are complete or absent, and restores that change everything or nothing."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import tensorflow as tf

from brac import checkpoints, rng
from brac.checkpoints import Reader, restore, save, variables
from brac.data.replay import Dataset
from brac.data.transitions import Transitions
from brac.errors import UserError
from brac.networks import Actor, Box
from brac.optimizers import Adam

# Forks a process for each save, so that one can be killed without the next paying for TensorFlow's
# import. A line is (path, number to save, moment); the answer is what `waitpid` says.
_SAVER = """
import json, os, resource, signal, sys
import tensorflow as tf
from brac import checkpoints

sys.path.append(sys.argv[1])
import poor_disk
if sys.argv[2] == 'poor':
  poor_disk.mount()

def kill_before(moment):
  count = 0
  def hook(event, args):
    nonlocal count
    if event in ('os.rename', 'os.link', 'os.remove', 'shutil.copyfile'):
      count += 1
      if count == moment:
        os.kill(os.getpid(), signal.SIGKILL)
  sys.addaudithook(hook)

for line in sys.stdin:
  path, value, moment = json.loads(line)
  pid = os.fork()
  if not pid:
    x, y = tf.Variable(tf.fill([3000], value)), tf.Variable(value)
    if moment > 0:
      kill_before(moment)  # a change of the folder's names
    elif moment < 0:
      signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
      resource.setrlimit(resource.RLIMIT_FSIZE, (-moment, -moment))  # a byte of a file
    checkpoints.save(path, x=x, y=y)
    os._exit(0)
  print(os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.fixture(scope='module', params=['good', 'poor'])
def saver(request):
  """`saver(path, value, moment)` saves in another process, which is killed at that moment.

  It does so on a good file system, and on a poor one.

  Returns whether it was killed. Moment k > 0 is before the k-th change of a name in the folder,
  k < 0 is when a file has grown to -k bytes, 0 is never.
  """
  process = subprocess.Popen(
    [sys.executable, '-c', _SAVER, os.path.dirname(__file__), request.param],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )

  def run(path, value, moment=0):
    process.stdin.write(json.dumps([path, value, moment]) + '\n')
    process.stdin.flush()
    status = int(process.stdout.readline())
    assert status in (0, signal.SIGKILL, signal.SIGXFSZ)
    return status != 0

  with process:
    yield run
    process.stdin.close()


def save_number(path, value):
  """Saves in this process what `saver` saves in another."""
  save(path, x=tf.Variable(tf.fill([3000], value)), y=tf.Variable(value))


def saved_number(path):
  """The number that was saved at a path, where all of it belongs together."""
  x, y = tf.Variable(tf.zeros([3000])), tf.Variable(0.0)
  restore(path, x=x, y=y)
  assert np.all(x.numpy() == y.numpy())
  return float(y)


def files(folder):
  """The contents of a folder's files by their relative paths; folders too, with None."""
  found = {}
  for root, folders, names in os.walk(folder):
    for name in folders:
      found[os.path.relpath(os.path.join(root, name), folder)] = None
    for name in names:
      with open(os.path.join(root, name), 'rb') as f:
        found[os.path.relpath(f.name, folder)] = f.read()
  return found


def data_file(path):
  return path + '.data-00000-of-00001'


def one_line(error):
  message = str(error.value)
  assert message and '\n' not in message
  return message


def module(**children):
  result = tf.Module()
  for name, child in children.items():
    setattr(result, name, child)
  return result


# --- Round trips ----------------------------------------------------------------------------------


def test_restore_gives_back_what_save_took(tmp_path):
  def make(k):
    return dict(
      net=module(
        layers=[tf.Variable(tf.fill([2, 3], 1.5 * k)), tf.Variable(tf.fill([3], -1.0 * k))]
      ),
      step=tf.Variable(k, dtype=tf.int64),
      end=tf.Variable(np.full([4], k, np.int8)),
      blob=tf.Variable(b'\0\n\xff' * k),
    )

  old, new = make(7), make(0)
  path = str(tmp_path / 'folder' / 'run')
  save(path, **old)
  assert restore(path, **new) == []
  for key, variable in variables(**new).items():
    np.testing.assert_array_equal(variable.numpy(), variables(**old)[key].numpy())
    assert variable.dtype == variables(**old)[key].dtype
  assert sorted(files(tmp_path / 'folder')) == ['run.data-00000-of-00001', 'run.index']


def test_a_save_replaces_the_one_before(tmp_path):
  path = str(tmp_path / 'x')
  for value in (1.0, 2.0):
    save(path, y=tf.Variable(value), **({'gone': tf.Variable(0)} if value == 1 else {}))
  assert Reader(path).read('y') == 2 and list(Reader(path).shapes) == ['y']
  assert sorted(files(tmp_path)) == ['x.data-00000-of-00001', 'x.index']


@pytest.mark.parametrize('sign', '*?[]\\\r\n\0')
def test_a_path_with_the_signs_of_glob_patterns_is_refused(tmp_path, sign):
  # TensorFlow's reader takes the path for a pattern; and a '\r' is of a script from Windows.
  path = str(tmp_path / f'lr={sign}1e-3' / 'run')
  with pytest.raises(UserError, match='cannot be in its path'):
    save(path, y=tf.Variable(1.0))
  with pytest.raises(UserError, match='cannot be in its path'):
    Reader(path)
  assert not files(tmp_path)


def test_a_relative_path(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  save('run', y=tf.Variable(3.0))
  assert Reader('run').read('y') == 3
  with pytest.raises(UserError, match='in that folder there is: run$'):
    Reader('ruin')


def keys_that_tensorflow_writes(folder, **objects):
  path = tf.train.Checkpoint(**objects).write(os.path.join(folder, 'plain'))
  names = [name for name, _ in tf.train.list_variables(path)]
  names.remove('_CHECKPOINTABLE_OBJECT_GRAPH')
  return {name[: -len('/.ATTRIBUTES/VARIABLE_VALUE')] for name in names}


def test_variables_have_the_keys_that_tensorflow_writes(tmp_path):
  shared = tf.Variable(1.0)
  actor = Actor(3, (4, 5), Box(np.zeros(2, np.float32), np.ones(2, np.float32)), rng.Rng(0))
  objects = dict(
    policy=actor,
    agent=module(
      _nets=[[module(w=tf.Variable(1.0)), module(w=tf.Variable(2.0))], [tf.Variable(3.0)]],
      _by_name={'a': tf.Variable(4.0), 'b': {'c': tf.Variable(5.0)}},
      _pair=(tf.Variable(6.0), tf.Variable(7.0)),
      deep=module(deeper=module(shared=shared)),
      nothing=None,
    ),
    optimizers=module(p=Adam(1e-3, actor.trainable_variables).slots),
    data=Dataset(Transitions.zeros(2, 3, 2)),
    # Found by way of `agent` too, but that way is longer.
    near=module(shared=shared),
    step=tf.Variable(0),
  )
  found = variables(**objects)
  assert set(found) == keys_that_tensorflow_writes(tmp_path, **objects)
  assert 'near/shared' in found and 'policy/_layers/2/bias' in found
  assert len({id(v) for v in found.values()}) == len(found)


def test_tensorflow_itself_restores_a_save(tmp_path):
  path = str(tmp_path / 'x')
  save(path, net=module(layers=[tf.Variable([1.0, 2.0])]), step=tf.Variable(5))
  net, step = module(layers=[tf.Variable([0.0, 0.0])]), tf.Variable(0)
  tf.train.Checkpoint(net=net, step=step).read(path).assert_consumed()
  assert net.layers[0].numpy().tolist() == [1, 2] and int(step) == 5


def test_layers_are_the_kernel_shapes_in_order(tmp_path):
  actor = Actor(3, (4, 5), Box(np.zeros(2, np.float32), np.ones(2, np.float32)), rng.Rng(0))
  save(str(tmp_path / 'x'), policy=actor)
  assert Reader(str(tmp_path / 'x')).layers('policy/_layers') == [[3, 4], [4, 5], [5, 4]]
  assert Reader(str(tmp_path / 'x')).layers('policy/_b_net') == []


# --- Checkpoints that cannot be read --------------------------------------------------------------


def test_a_missing_checkpoint_is_named_with_those_that_are_there(tmp_path):
  for name in ('agent_final', 'agent_partial_target'):
    save(str(tmp_path / name), y=tf.Variable(1.0))
  path = str(tmp_path / 'agent_partial')
  with pytest.raises(UserError) as error:
    Reader(path, 'policy')
  message = one_line(error)
  assert message.startswith(f'no policy at {path};')
  assert 'agent_final, agent_partial_target' in message
  with pytest.raises(UserError, match=r'no policy at .*/nowhere/x$'):
    Reader(str(tmp_path / 'nowhere' / 'x'), 'policy')


def test_a_key_that_is_not_there_is_named(tmp_path):
  save(str(tmp_path / 'x'), y=tf.Variable(1.0))
  with pytest.raises(UserError, match=r'^dataset .*/x has no data/_s1$'):
    Reader(str(tmp_path / 'x'), 'dataset').read('data/_s1')


def flip(path, position):
  with open(path, 'r+b') as f:
    f.seek(position)
    byte = f.read(1)[0]
    f.seek(position)
    f.write(bytes([byte ^ 0xFF]))


def half(path):
  os.truncate(path, os.path.getsize(path) // 2)


def test_what_is_saved_while_it_is_read_is_one_save_or_the_other(tmp_path, monkeypatch):
  path, real, numbers = str(tmp_path / 'x'), tf.train.load_checkpoint, [2.0, 3.0]
  save_number(path, 1.0)

  def load_checkpoint(found):
    reader = real(found)  # which has the index of one save
    if numbers:
      save_number(path, numbers.pop(0))  # and would open the numbers of the next
    return reader

  monkeypatch.setattr(tf.train, 'load_checkpoint', load_checkpoint)
  assert saved_number(path) == 3 and not numbers
  numbers.append(4.0)
  reader = checkpoints.Reader(path)
  assert float(reader.read('y')) == 4
  save_number(path, 5.0)  # after the file is open
  assert np.all(reader.read('x') == 4) and saved_number(path) == 5
  half(data_file(path))
  with pytest.raises(UserError, match='is damaged'):
    saved_number(path)


def test_what_gets_its_name_while_it_is_read_is_not_damaged(tmp_path, monkeypatch):
  path, real, moved = str(tmp_path / 'x'), tf.train.load_checkpoint, []
  save_number(path, 1.0)
  for ending in ('.index', '.data-00000-of-00001'):
    os.rename(path + ending, path + '.new' + ending)

  def load_checkpoint(found):
    if not moved:
      moved.append(found)
      checkpoints._settle(path)  # as its run does
    return real(found)

  monkeypatch.setattr(tf.train, 'load_checkpoint', load_checkpoint)
  assert saved_number(path) == 1 and moved == [path + '.new']


def test_a_first_save_that_was_killed_before_its_last_step_has_a_stamp(tmp_path):
  path = str(tmp_path / 'x')
  assert checkpoints.stamp(path) is None
  save_number(path, 1.0)
  for ending in ('.index', '.data-00000-of-00001'):
    os.rename(path + ending, path + '.new' + ending)
  first = checkpoints.stamp(path)
  assert checkpoints.exists(path) and first is not None
  save_number(path, 2.0)
  assert checkpoints.stamp(path) not in (None, first)


def test_whether_a_checkpoint_is_whole_is_seen_without_a_change(tmp_path):
  path = str(tmp_path / 'x')
  assert not checkpoints.is_whole(path)
  save_number(path, 1.0)
  for ending in ('.index', '.data-00000-of-00001'):  # as a kill leaves a save
    shutil.copy(path + ending, path + '.new' + ending)
  assert checkpoints.is_whole(path)
  half(data_file(path + '.new'))
  before = files(tmp_path)
  assert not checkpoints.is_whole(path) and files(tmp_path) == before


@pytest.mark.parametrize('damage', [half, os.remove], ids=['half of it', 'none of it'])
@pytest.mark.parametrize('ending', ['.index', '.data-00000-of-00001'])
def test_a_file_that_is_not_whole_is_an_error(tmp_path, ending, damage):
  path = str(tmp_path / 'x')
  save(path, x=tf.Variable(tf.ones([3000])), y=tf.Variable(1.0))
  damage(path + ending)
  y = tf.Variable(-1.0)
  with pytest.raises(UserError) as error:
    restore(path, 'policy', x=tf.Variable(tf.zeros([3000])), y=y)
  assert path in one_line(error) and 'policy' in one_line(error)
  assert float(y) == -1


@pytest.mark.parametrize('ending', ['.index', '.data-00000-of-00001'])
def test_a_flipped_byte_never_gives_other_numbers(tmp_path, ending):
  path, damaged = str(tmp_path / 'x'), str(tmp_path / 'damaged')
  save(path, a=tf.Variable([1.0, 2.0]), b=tf.Variable(b'text'), c=tf.Variable(7, dtype=tf.int64))
  size, found = os.path.getsize(path + ending), 0
  for position in range(0, size, 3):
    for end in ('.index', '.data-00000-of-00001'):
      shutil.copy(path + end, damaged + end)
    flip(damaged + ending, position)
    a, b, c = tf.Variable([0.0, 0.0]), tf.Variable(b''), tf.Variable(0, dtype=tf.int64)
    try:
      restore(damaged, a=a, b=b, c=c)
    except UserError as error:
      found += 1
      assert '\n' not in str(error) and damaged in str(error) and 'is damaged' in str(error)
      assert (a.numpy().tolist(), b.numpy(), int(c)) == ([0, 0], b'', 0)
    else:
      # Neither padding nor the object graph, which is TensorFlow's own, say what is restored.
      assert (a.numpy().tolist(), b.numpy(), int(c)) == ([1, 2], b'text', 7)
  assert found


def test_each_flipped_byte_of_a_tensor_is_found(tmp_path):
  path = str(tmp_path / 'x')
  value = np.frombuffer(b'needle in the data', np.uint8)
  save(path, a=tf.Variable(value))
  with open(data_file(path), 'rb') as f:
    start = f.read().index(value.tobytes())
  for position in range(start, start + len(value)):
    flip(data_file(path), position)
    with pytest.raises(UserError, match='is damaged'):
      Reader(path).read('a')
    flip(data_file(path), position)
  assert Reader(path).read('a').tolist() == value.tolist()


def test_a_file_of_something_else_is_an_error(tmp_path):
  for ending in ('.index', '.data-00000-of-00001'):
    (tmp_path / ('x' + ending)).write_text('not a checkpoint at all\n' * 10)
  with pytest.raises(UserError) as error:
    Reader(str(tmp_path / 'x'), 'policy')
  assert f'policy {tmp_path / "x"} is damaged' in one_line(error)


# --- Restores that do not fit ---------------------------------------------------------------------


def two(first, last):
  return dict(first=tf.Variable(first), last=tf.Variable(last))


@pytest.mark.parametrize(
  'last, what',
  [
    ([0.0, 0.0, 0.0], r'does not fit .*: last is \[2\] there and \[3\] here'),
    (0.0, r'does not fit .*: last is \[2\] there and \[\] here'),
    ([[0.0, 0.0]], r'does not fit .*: last is \[2\] there and \[1, 2\] here'),
  ],
)
def test_other_shapes_are_an_error_and_change_nothing(tmp_path, last, what):
  path = str(tmp_path / 'x')
  save(path, **two(1.0, [2.0, 3.0]))
  mine = two(-1.0, last)
  with pytest.raises(UserError, match=what) as error:
    restore(path, 'agent', **mine)
  assert one_line(error).startswith(f'agent {path} ')
  assert (
    float(mine['first']) == -1 and mine['last'].numpy().tolist() == np.zeros_like(last).tolist()
  )


def test_lacking_keys_are_an_error_and_change_nothing(tmp_path):
  path = str(tmp_path / 'x')
  save(path, **two(1.0, 2.0))
  mine = dict(**two(-1.0, -1.0), more=tf.Variable(-1.0), and_more=tf.Variable(-1.0))
  with pytest.raises(UserError, match=r'holds only a part .*: it lacks \w*more and 1 more$') as e:
    restore(path, 'agent', **mine)
  assert one_line(e).startswith(f'agent {path} ')
  assert all(float(x) == -1 for x in mine.values())


def test_a_damaged_last_tensor_changes_nothing_of_the_first(tmp_path):
  path = str(tmp_path / 'x')
  save(path, **two(1.0, np.frombuffer(b'needle', np.uint8)))
  with open(data_file(path), 'rb') as f:
    flip(path=data_file(path), position=f.read().index(b'needle'))
  mine = two(-1.0, np.zeros(6, np.uint8))
  with pytest.raises(UserError, match='is damaged'):
    restore(path, **mine)
  assert float(mine['first']) == -1


def test_a_network_of_another_size_is_named_before_its_optimizer(tmp_path):
  path = str(tmp_path / 'x')
  save(path, m=tf.Variable([1.0]), z=module(layers=[tf.Variable([1.0])]))
  mine = dict(m=tf.Variable([1.0, 2.0]), z=module(layers=[tf.Variable([1.0, 2.0])]))
  with pytest.raises(UserError, match='asked for: z/layers/0 is'):
    restore(path, optional=('m',), **mine)


def test_only_what_is_optional_may_be_lacking(tmp_path):
  path = str(tmp_path / 'x')
  save(path, **two(1.0, 2.0))
  mine = dict(**two(-1.0, -1.0), slots=module(m=tf.Variable(5.0)), step=tf.Variable(6))
  with pytest.raises(UserError, match='it lacks step'):
    restore(path, optional=('slots/',), **mine)
  lacking = restore(path, optional=('slots/', 'step'), **mine)
  assert sorted(lacking) == ['slots/m', 'step']
  assert [float(mine[k]) for k in ('first', 'last', 'step')] == [1, 2, 6]


# --- Saves that are killed ------------------------------------------------------------------------


def test_a_kill_at_any_change_of_names_leaves_the_old_or_the_new_whole(saver, tmp_path):
  seen, moment, killed = [], 1, True
  while killed:
    path = str(tmp_path / f'{moment}' / 'x')
    save_number(path, 1.0)
    killed = saver(path, 2.0, moment)
    seen.append(saved_number(path))
    save_number(path, 3.0)
    assert saved_number(path) == 3
    assert sorted(files(os.path.dirname(path))) == ['x.data-00000-of-00001', 'x.index']
    moment += 1
  # Up to some moment the old one, from there on the new one.
  assert seen == sorted(seen) and set(seen) == {1.0, 2.0} and len(seen) > 4


@pytest.mark.parametrize('size', [1, 100, 8000])
def test_a_kill_while_a_file_is_written_leaves_the_old_whole(saver, tmp_path, size):
  path = str(tmp_path / 'x')
  save_number(path, 1.0)
  assert saver(path, 2.0, -size)
  assert saved_number(path) == 1
  save_number(path, 3.0)
  assert saved_number(path) == 3
  assert sorted(files(tmp_path)) == ['x.data-00000-of-00001', 'x.index']


def test_a_first_save_that_is_killed_is_absent(saver, tmp_path):
  path = str(tmp_path / 'x')
  assert saver(path, 1.0, 1)
  assert not checkpoints.exists(path)
  with pytest.raises(UserError, match=r'no checkpoint at [^;]*$'):
    Reader(path)


@pytest.mark.parametrize('first', [3, 5])
def test_a_kill_after_a_kill_leaves_one_of_them_whole(saver, tmp_path, first):
  killed, moment, seen = True, 1, []
  while killed:
    path = str(tmp_path / f'{moment}' / 'x')
    save_number(path, 1.0)
    assert saver(path, 2.0, first)
    before = saved_number(path)
    killed = saver(path, 3.0, moment)
    assert saved_number(path) in (before, 3.0), f'killed before change {moment}'
    seen.append(saved_number(path))
    moment += 1
  assert seen == sorted(seen) and seen[-1] == 3


def between_two_renames(folder):
  """The state on disk where the new data stands in its place and the new index does not yet."""
  path, other = os.path.join(folder, 'x'), os.path.join(folder, 'other')
  save(path, y=tf.Variable(1.0))
  save(other, y=tf.Variable(2.0))
  shutil.copy(data_file(other), data_file(path))
  os.replace(data_file(other), data_file(path + '.new'))
  os.replace(other + '.index', path + '.new.index')
  return path


@pytest.mark.parametrize('value', [1e300, -1e39, np.inf, np.nan])
def test_what_is_not_finite_in_the_type_asked_for_is_refused(value, tmp_path):
  path, wanted = str(tmp_path / 'a'), tf.Variable([1.0, 2.0])
  checkpoints.save(path, x=tf.Variable([0.0, value], dtype=tf.float64))
  with pytest.raises(UserError, match='NaN or infinity: x'):
    checkpoints.restore(path, x=wanted)
  np.testing.assert_array_equal(wanted, [1, 2])
  checkpoints.save(path, x=tf.Variable([0.0, 1e30], dtype=tf.float64))
  checkpoints.restore(path, x=wanted)
  np.testing.assert_array_equal(wanted, np.float32([0, 1e30]))


def test_reader_takes_a_complete_new_one_first(tmp_path):
  path = between_two_renames(tmp_path)
  assert Reader(path).read('y') == 2
  y = tf.Variable(0.0)
  restore(path, y=y)
  assert float(y) == 2


def test_reader_leaves_an_incomplete_new_one_alone(tmp_path):
  path = str(tmp_path / 'x')
  save(path, y=tf.Variable(1.0))
  shutil.copy(data_file(path), data_file(path + '.new'))
  assert Reader(path).read('y') == 1


def test_a_checkpoint_of_which_only_the_new_files_are_there_exists(tmp_path):
  path = between_two_renames(tmp_path)
  os.remove(path + '.index')
  os.remove(data_file(path))
  assert checkpoints.exists(path) and Reader(path).read('y') == 2


def test_remove_leaves_nothing_of_a_save_that_was_killed(tmp_path):
  path = between_two_renames(tmp_path)
  checkpoints.remove(path)
  assert not checkpoints.exists(path)
  assert not files(tmp_path)


def test_remove_takes_one_checkpoint_alone(tmp_path):
  for name in ('x', 'x2', 'x-1'):
    save(str(tmp_path / name), y=tf.Variable(1.0))
  checkpoints.remove(str(tmp_path / 'x'))
  checkpoints.remove(str(tmp_path / 'x'))
  assert not checkpoints.exists(str(tmp_path / 'x'))
  assert checkpoints.exists(str(tmp_path / 'x2')) and checkpoints.exists(str(tmp_path / 'x-1'))


def test_what_is_there_is_not_named_by_the_files_of_a_killed_save(tmp_path):
  between_two_renames(tmp_path)
  with pytest.raises(UserError, match='in that folder there is: x$'):
    Reader(str(tmp_path / 'y'))


# --- Going on from the save before ----------------------------------------------------------------


def kept(folder):
  path = str(folder / 'x')
  for value in (1.0, 2.0):
    save(path, keep=True, x=tf.Variable(tf.fill([300], value)), y=tf.Variable(value))
  return path


def saved(path):
  x, y = tf.Variable(tf.zeros([300])), tf.Variable(0.0)
  restore(path, x=x, y=y)
  assert np.all(x.numpy() == y.numpy())
  return float(y)


def test_no_more_than_one_save_is_kept(tmp_path):
  path = kept(tmp_path)
  save(path, keep=True, y=tf.Variable(3.0))
  assert len(files(tmp_path)) == 4
  assert Reader(path).read('y') == 3 and Reader(path + '.old').read('y') == 2
  checkpoints.remove(path)
  assert not files(tmp_path)


@pytest.mark.parametrize('ending', ['.index', '.data-00000-of-00001'])
def test_whatever_region_is_damaged_the_run_goes_on_from_a_whole_save(tmp_path, ending):
  size, seen = os.path.getsize(kept(tmp_path / 'first') + ending), set()
  damages = [lambda path, at=at: flip(path, at) for at in range(0, size, 7)]
  damages += [lambda path, n=n: os.truncate(path, n) for n in (0, 1, size // 2, size - 1)]
  for k, damage in enumerate([*damages, os.remove]):
    path = str(shutil.copytree(tmp_path / 'first', tmp_path / str(k)) / 'x')
    damage(path + ending)
    assert checkpoints.recover(path)
    # What no reader reads may be damaged: there it is the last save still.
    seen.add(saved(path))
    if saved(path) == 1:
      assert sorted(files(tmp_path / str(k))) == ['x.data-00000-of-00001', 'x.index']
    save(path, keep=True, x=tf.Variable(tf.fill([300], 3.0)), y=tf.Variable(3.0))
    assert saved(path) == 3
  assert 1.0 in seen and seen <= {1.0, 2.0}


@pytest.mark.parametrize('ending', ['.index', '.data-00000-of-00001'])
def test_a_damaged_save_with_none_before_it_says_what_to_do(tmp_path, ending):
  path = str(tmp_path / 'x')
  assert not checkpoints.recover(path)
  save_number(path, 1.0)
  os.remove(path + ending)
  before = files(tmp_path)
  with pytest.raises(UserError) as error:
    checkpoints.recover(path)
  message = one_line(error)
  assert f'{path} is damaged' in message and f'remove {path}.* to begin again' in message
  assert files(tmp_path) == before
  assert not checkpoints.recover(path, needed=False)


def test_a_damaged_new_save_gives_way_to_the_one_in_place(tmp_path):
  path = kept(tmp_path)
  for end in ('.index', '.data-00000-of-00001'):
    shutil.copy(path + end, path + '.new' + end)
  os.truncate(path + '.new.data-00000-of-00001', 10)
  assert checkpoints.recover(path) and saved(path) == 2


def test_a_save_that_fails_leaves_the_last_whole(small_disk):
  path = os.path.join(small_disk, 'x')
  for value in (1.0, 2.0):
    save(path, keep=True, y=tf.Variable(tf.fill([20_000], value)))
  with pytest.raises(UserError, match='the save before it is kept'):
    save(path, keep=True, y=tf.Variable(tf.zeros([60_000])))
  assert checkpoints.recover(path) and Reader(path).read('y')[0] == 2


# --- Saves on a poor file system ------------------------------------------------------------------


def test_a_poor_file_system_saves_and_recovers_and_is_told_of_once(tmp_path, poor, caplog):
  path = kept(tmp_path)
  save(path, keep=True, x=tf.Variable(tf.fill([300], 3.0)), y=tf.Variable(3.0))
  assert saved(path) == 3 and saved(path + '.old') == 2
  assert len(files(tmp_path)) == 4
  os.truncate(data_file(path), 100)
  assert checkpoints.recover(path) and saved(path) == 2
  assert sorted(files(tmp_path)) == ['x.data-00000-of-00001', 'x.index']
  said = [record.getMessage().split(' (')[0] for record in caplog.records][:2]
  assert sorted(said) == [
    'this file system cannot give a file a second name',
    'this file system cannot sync a folder',
  ]


def test_a_folder_that_nobody_can_remove_is_used_again(tmp_path, monkeypatch):
  monkeypatch.setattr(shutil, 'rmtree', lambda *_, **__: None)
  assert saved(kept(tmp_path)) == 2


@pytest.mark.parametrize('name', ['link', 'fsync'])
@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_is_none_that_cannot(tmp_path, monkeypatch, name, number):
  path = kept(tmp_path / 'before')

  def fail(*_):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(os, name, fail)
  with pytest.raises(UserError, match=r'; the save before it is kept$'):
    save(path, keep=True, x=tf.Variable(tf.zeros([300])), y=tf.Variable(0.0))
  with pytest.raises(UserError, match=r' MB free\)$'):
    save(str(tmp_path / 'first'), y=tf.Variable(0.0))


# --- Saves that cannot be written -----------------------------------------------------------------


@contextlib.contextmanager
def not_root():
  """Nobody's rights, for root may write anywhere."""
  uid = os.geteuid()
  if uid == 0:
    os.seteuid(65534)
  try:
    yield
  finally:
    if uid == 0:
      os.seteuid(uid)


@pytest.fixture
def open_folder():
  """A folder that everybody may look into, unlike pytest's."""
  with tempfile.TemporaryDirectory() as folder:
    os.chmod(folder, 0o755)
    yield folder


def test_a_read_only_folder_is_an_error_and_the_save_before_is_kept(open_folder):
  path = os.path.join(open_folder, 'x')
  save(path, y=tf.Variable(1.0))
  os.chmod(open_folder, 0o555)
  before = files(open_folder)
  with not_root(), pytest.raises(UserError) as error:
    save(path, y=tf.Variable(2.0))
  message = one_line(error)
  assert path in message and 'ermission denied' in message and 'MB free' in message
  assert 'the save before it is kept' in message
  assert files(open_folder) == before and Reader(path).read('y') == 1


def test_a_folder_that_cannot_be_made_is_an_error(open_folder):
  path = os.path.join(open_folder, 'deep', 'er', 'x')
  with not_root(), pytest.raises(UserError) as error:
    save(path, y=tf.Variable(2.0))
  assert path in one_line(error) and 'ermission denied' in one_line(error)
  assert not files(open_folder)


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path):
  (tmp_path / 'file').write_text('mine')
  with pytest.raises(UserError) as error:
    save(str(tmp_path / 'file' / 'x'), y=tf.Variable(1.0))
  assert str(tmp_path / 'file' / 'x') in one_line(error)
  assert files(tmp_path) == {'file': b'mine'}


@pytest.mark.parametrize('n', [30_000, 60_000, 1_000_000])
def test_a_full_disk_is_an_error_and_the_save_before_is_kept(small_disk, n):
  path = os.path.join(small_disk, 'run', 'x')
  save(path, y=tf.Variable(tf.ones([40_000])))
  before = files(small_disk)
  with pytest.raises(UserError) as error:
    save(path, y=tf.Variable(tf.zeros([n])))
  message = one_line(error)
  assert path in message and '0 MB free' in message and 'the save before it is kept' in message
  assert 'No space left on device (0' in message  # without what TensorFlow says of its operations
  assert files(small_disk) == before
  assert Reader(path).read('y').tolist() == [1] * 40_000
  with pytest.raises(UserError, match=r' MB free\)$'):
    save(os.path.join(small_disk, 'run', 'first'), y=tf.Variable(tf.zeros([n])))
  # What is small enough can still be saved there.
  save(path, y=tf.Variable(tf.zeros([100])))
  assert Reader(path).read('y').tolist() == [0] * 100
