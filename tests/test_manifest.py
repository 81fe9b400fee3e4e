"""The manifest of the shipped policies: shipping one, and what the check catches."""

import csv
import json
import os
import re

import pytest
import tensorflow as tf

from brac import checkpoints, environments, rng
from brac.data_config import project_folder
from brac.errors import UserError
from brac.grids import shipped
from brac.networks import Actor, Box
from brac.rng import Rng

PLACE = 'Pendulum-v1/d/n10/bc/0/4/agent_behavior'
COMMAND = 'python -m brac.train_offline --agent_name=bc --seed=4'


def actor(seed=0):
  box = Box.of(environments.make_batch('Pendulum-v1', 1, 0).action_spec)
  return Actor(3, (8,), box, Rng(seed, rng.INIT))


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
  """What a run of bc leaves, as far as shipping reads it."""
  folder = tmp_path_factory.mktemp('learn') / 'Pendulum-v1/d/n10/bc/mine/4'
  policy, seed = actor(), tf.Variable(4, dtype=tf.int64)
  checkpoints.save(str(folder / 'agent_behavior'), policy=policy)
  checkpoints.save(str(folder / 'agent'), policy=policy, seed=seed)
  with open(folder / 'results.csv', 'w', encoding='utf-8', newline='') as f:
    csv.writer(f).writerows([['step', 'main'], [5000, -1000.5]])
  return folder


@pytest.fixture
def root(learned, tmp_path):
  """A folder of shipped policies with that one in it."""
  root = tmp_path / 'shipped'
  shipped.ship(str(learned / 'agent_behavior'), str(root), COMMAND, 'abc1234')
  return root


def faults(root, capsys):
  """The lines of faults that the check prints; it has to fail."""
  capsys.readouterr()
  with pytest.raises(UserError, match=re.escape(str(root))):
    shipped.check(str(root))
  return [x[7:] for x in capsys.readouterr().out.splitlines() if x.startswith('FAULT: ')]


def test_what_is_shipped_is_listed_and_passes(root, learned, capsys):
  entry = shipped.read(str(root))[PLACE]
  assert (entry.command, entry.commit, entry.seed) == (COMMAND, 'abc1234', 4)
  assert set(entry.sha256) == {
    *('agent_behavior.index', 'agent_behavior.data-00000-of-00001', 'results.csv')
  }
  assert entry.returns['mode'] != entry.returns['sample']
  for returns in entry.returns.values():
    assert -2000 < returns['mean'] < 0 < returns['std']
  shipped.check(str(root))
  out = capsys.readouterr().out
  assert 'as listed' in out and '1 policies' in out and 'no faults' in out
  theirs, ours = (checkpoints.Reader(str(x)) for x in (learned / 'agent_behavior', root / PLACE))
  assert theirs.shapes == ours.shapes
  for key in ours.shapes:
    assert (theirs.read(key) == ours.read(key)).all()


def test_a_partial_policy_is_shipped_without_its_optimizers(tmp_path):
  run, root = tmp_path / 'Pendulum-v1/sac/0', tmp_path / 'shipped'
  critic = tf.Module()
  critic._q_nets = [[actor(1), actor(2)]]
  slots = tf.Module()
  slots.m = tf.Variable([1.0, 2.0])
  step, seed = tf.Variable(7, dtype=tf.int64), tf.Variable(0, dtype=tf.int64)
  checkpoints.save(
    str(run / 'agent_partial_target'),
    **dict(policy=actor(), agent=critic, global_step=step, optimizers=slots, seed=seed),
  )
  shipped.ship(str(run / 'agent_partial_target'), str(root), 'python -m brac.train_online', '1a')
  path = str(root / 'Pendulum-v1/agent_partial_target')
  there = checkpoints.Reader(path)
  assert {key.split('/')[0] for key in there.shapes} == {'policy', 'agent', 'global_step'}
  assert there.read('global_step') == 7
  # The keys lead back to the same variables.
  again = tf.Module()
  again._q_nets = [[actor(3), actor(4)]]
  checkpoints.restore(path, agent=again, policy=actor(5))
  for one, other in zip(critic.variables, again.variables):
    assert (one.numpy() == other.numpy()).all()


def test_a_changed_byte_is_a_fault(root, capsys):
  path = root / PLACE.replace('agent_behavior', 'results.csv')
  content = bytearray(path.read_bytes())
  content[-3] ^= 1
  path.write_bytes(content)
  (fault,) = faults(root, capsys)
  assert fault.startswith(PLACE.replace('agent_behavior', 'results.csv') + ' has the checksum ')


def test_a_missing_and_an_unlisted_file_are_faults(root, capsys):
  folder = root / os.path.dirname(PLACE)
  os.rename(folder / 'results.csv', folder / 'other.csv')
  missing, unlisted = faults(root, capsys)
  assert missing == os.path.dirname(PLACE) + '/results.csv is listed and not there'
  assert unlisted == os.path.dirname(PLACE) + '/other.csv is there and not listed'


def test_a_policy_that_does_not_load_is_a_fault(root, capsys):
  os.truncate(root / (PLACE + '.data-00000-of-00001'), 40)
  checksum, load = faults(root, capsys)
  assert 'has the checksum' in checksum
  assert load.startswith(f'{PLACE} does not load: ') and 'damaged' in load


@pytest.mark.parametrize('how', ['mode', 'sample'])
def test_another_return_is_a_fault_but_for_what_chaos_makes(root, capsys, how):
  entry = shipped.read(str(root))[PLACE]
  measured = entry.returns[how]
  returns = {k: dict(v) for k, v in entry.returns.items()}
  returns[how]['mean'] = measured['mean'] - 0.5 * measured['std']
  shipped.write(str(root), {PLACE: entry._replace(returns=returns)})
  capsys.readouterr()
  shipped.check(str(root))
  assert 'in the band' in capsys.readouterr().out

  returns[how]['mean'] = measured['mean'] + 0.4 * abs(measured['mean'])
  shipped.write(str(root), {PLACE: entry._replace(returns=returns)})
  (fault,) = faults(root, capsys)
  assert fault.startswith(f'{PLACE} returns {measured["mean"]:.1f} ({how}), listed is ')


ENTRY = {
  **dict(command='', commit='', seed=0, sha256={}),
  'returns': {how: {'mean': 1.0, 'std': 1.0} for how in ('mode', 'sample')},
}


@pytest.mark.parametrize(
  'text',
  [
    *('{', '[]', '{"policies": {"a": {"command": ""}}}', '{"policies": {"a": 1}}'),
    *(
      json.dumps({'policies': {'a': {**ENTRY, **change}}})
      for change in (
        {'sha256': []},
        {'returns': {how: {'mean': '1', 'std': '1'} for how in ('mode', 'sample')}},
        {'returns': 'x'},
      )
    ),
  ],
)
def test_what_is_no_manifest_is_one_line(tmp_path, text):
  (tmp_path / shipped.MANIFEST).write_text(text)
  with pytest.raises(UserError, match='does not read as a manifest'):
    shipped.check(str(tmp_path))


def test_a_folder_without_a_manifest_is_one_line(tmp_path):
  with pytest.raises(UserError, match='there is no such manifest'):
    shipped.check(str(tmp_path))


def test_nothing_is_shipped_over_what_is_there(root, learned):
  before = (root / shipped.MANIFEST).read_bytes()
  with pytest.raises(UserError, match='is there already'):
    shipped.ship(str(learned / 'agent_behavior'), str(root), COMMAND, 'abc1234')
  assert (root / shipped.MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
  'source, command, text',
  [
    ('agent_behavior', COMMAND.replace('4', '5'), 'has the seed 4, the command 5'),
    ('agent', COMMAND, 'neither .*agent_partial_target nor '),
    ('none/Pendulum-v1/d/n10/bc/0/4/agent_behavior', COMMAND, 'results.csv'),
  ],
)
def test_what_cannot_be_shipped_leaves_nothing(learned, tmp_path, source, command, text):
  with pytest.raises(UserError, match=text):
    shipped.ship(str(learned / source), str(tmp_path / 'shipped'), command, 'abc1234')
  assert not os.path.exists(tmp_path / 'shipped')


def test_a_damaged_manifest_is_read_before_anything_is_shipped(learned, tmp_path):
  (tmp_path / shipped.MANIFEST).write_text('{')
  with pytest.raises(UserError, match='does not read as a manifest'):
    shipped.ship(str(learned / 'agent_behavior'), str(tmp_path), COMMAND, 'abc1234')
  assert os.listdir(tmp_path) == [shipped.MANIFEST]


def test_the_shipped_files_are_those_of_the_manifest():
  root = project_folder('trained_policies')
  entries = shipped.read(root)
  assert entries and shipped.file_faults(root, entries) == []


def test_a_shipped_policy_returns_what_the_manifest_says():
  root, place = project_folder('trained_policies'), 'HalfCheetah-v2/agent_partial_target'
  entry = shipped.read(root)[place]
  measured = shipped.measure(os.path.join(root, place), 'HalfCheetah-v2')
  assert shipped.return_faults(place, entry, measured) == []


def test_the_manifest_is_json_with_its_meaning(root):
  with open(root / shipped.MANIFEST, encoding='utf-8') as f:
    content = json.load(f)
  assert '20 episodes' in content['about'] and list(content['policies']) == [PLACE]
