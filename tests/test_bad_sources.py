"""Sources that cannot be imported: one line each, and nothing is written."""

import json
import os
import re
import zipfile

import h5py
import numpy as np
import pytest

from brac import exchange
from brac.data import provenance, stored
from brac.data.formats import FORMATS
from brac.data.source import Options
from brac.errors import UserError

N = 12


def arrays(**changes):
  """What a good file holds; None takes an array out."""
  random = np.random.default_rng(0)
  good = {
    'observations': random.normal(size=[N, 3]).astype(np.float32),
    'actions': random.uniform(-2, 2, [N, 1]).astype(np.float32),
    'rewards': random.normal(size=N).astype(np.float32),
    'terminals': np.zeros(N, bool),
    'timeouts': np.arange(N) % 4 == 3,
    'next_observations': random.normal(size=[N, 3]).astype(np.float32),
  }
  good['next_observations'][:-1] = good['observations'][1:]
  return {name: x for name, x in {**good, **changes}.items() if x is not None}


def put(name, value, row=5):
  values = arrays()[name].astype(np.float64)
  values[row] = value
  return {name: values}


def hdf5(path, values):
  with h5py.File(path, 'w') as f:
    for name, x in values.items():
      f[name] = x


def text(path, content=b'observations, actions\n1, 2\n'):
  with open(path, 'wb') as f:
    f.write(content)


def cut(path):
  hdf5(path, arrays())
  with open(path, 'rb+') as f:
    f.truncate(os.path.getsize(path) // 2)


def of_text(path):
  hdf5(path, arrays(rewards=None))
  with h5py.File(path, 'a') as f:
    f.create_dataset('rewards', data=['a'] * N, dtype=h5py.string_dtype())


def of_lists(path):
  hdf5(path, arrays(observations=None))
  with h5py.File(path, 'a') as f:
    f.create_dataset('observations', [N], h5py.vlen_dtype(np.float32))


def of_nothing(path):
  hdf5(path, arrays(rewards=None))
  with h5py.File(path, 'a') as f:
    f['rewards'] = h5py.Empty('f')


def _parts(path):
  """The observations in a file of their own."""
  with h5py.File(os.path.join(os.path.dirname(path), 'part.hdf5'), 'w') as f:
    f['x'] = arrays()['observations']
  hdf5(path, arrays(observations=None))


def virtual(path):
  _parts(path)
  layout = h5py.VirtualLayout((N, 3), np.float32)
  layout[:] = h5py.VirtualSource('part.hdf5', 'x', (N, 3))
  with h5py.File(path, 'a') as f:
    f.create_virtual_dataset('observations', layout)


def linked(path):
  _parts(path)
  with h5py.File(path, 'a') as f:
    f['observations'] = h5py.ExternalLink('part.hdf5', '/x')


def without_its_part(write):
  def written(path):
    write(path)
    os.remove(os.path.join(os.path.dirname(path), 'part.hdf5'))

  return written


def damaged(path):
  with open(path, 'wb') as f:
    np.savez_compressed(f, **arrays())
  with zipfile.ZipFile(path) as f:
    info = f.getinfo('observations.npy')
  with open(path, 'rb+') as f:
    f.seek(info.header_offset + 80)
    f.write(b'\xff' * 20)


def pickled(path):
  values = arrays(rewards=np.array([{}] * N, object))
  with open(path, 'wb') as f:
    np.savez(f, **values)


def single(path):
  with open(path, 'wb') as f:
    np.save(f, np.zeros([N, 3]))


def zipped(path):
  with zipfile.ZipFile(path, 'w') as f:
    for name in arrays():
      f.writestr(f'{name}.npy', 'no array')


NO_ENDS = dict(timeouts=None, next_observations=None)
ALONE = dict(timeouts=np.ones(N, bool), next_observations=None)
IN_GROUP = {'observations': None, 'observations/a': np.zeros([N, 3])}

# What is written at the path, the flags, and what the error says.
FILES = [
  (arrays(actions=np.zeros(N, np.int64)), {}, r'actions is of type int64: discrete actions'),
  (arrays(actions=np.zeros([N, 1], np.int32)), {}, 'discrete actions'),
  (arrays(actions=np.zeros(N, np.float32)), {}, r'actions is of shape \[12\], not \[N, numbers\]'),
  (arrays(actions=np.zeros([N, 0], np.float32)), {}, r'actions is of shape \[12, 0\], not'),
  (arrays(observations=np.zeros([N, 4, 4, 3], np.uint8)), {}, r'\[12, 4, 4, 3\]: images'),
  (arrays(observations=np.float32(1)), {}, r'observations is of shape \[\], not'),
  (arrays(), dict(observation_keys=('x',)), '--observation_keys are of Dict observations'),
  (arrays(observations=None), {}, 'has no observations; it has actions, next_observations'),
  (arrays(actions=None), {}, 'has no actions; it has'),
  (arrays(rewards=None), {}, 'has no rewards; it has'),
  (arrays(terminals=None), {}, 'has no terminals; it has'),
  ({}, {}, 'has no observations; it has nothing'),
  (arrays(actions=np.zeros([N - 1, 1], np.float32)), {}, 'actions has 11 rows where 12 are needed'),
  (arrays(rewards=np.zeros(N + 1)), {}, 'rewards has 13 rows where 12 are needed'),
  (arrays(terminals=np.zeros(3, bool)), {}, 'terminals has 3 rows where 12 are needed'),
  (arrays(timeouts=np.zeros(3, bool)), {}, 'timeouts has 3 rows where 12 are needed'),
  (arrays(next_observations=np.zeros([3, 3])), {}, 'next_observations has 3 rows where 12 are'),
  (arrays(next_observations=np.zeros([N, 4])), {}, 'next_observations is 4 numbers wide, not 3'),
  (arrays(rewards=np.zeros([N, 2])), {}, r'rewards is of shape \[12, 2\], not \[N\]'),
  (arrays(**put('observations', np.nan)), {}, 'observations holds nan in row 5'),
  (arrays(**put('actions', np.inf)), {}, 'actions holds inf in row 5'),
  (arrays(**put('rewards', 1e300, 11)), {}, r'rewards holds 1e\+300 in row 11'),
  (arrays(**put('next_observations', -np.inf)), {}, 'next_observations holds -inf in row 5'),
  (arrays(**put('terminals', 0.5)), {}, 'terminals holds 0.5 in row 5; it tells what is true by 0'),
  (arrays(**put('timeouts', np.nan)), {}, 'timeouts holds nan in row 5'),
  (arrays(**IN_GROUP), {}, 'observations is no array, but a Group'),
  ({name: x[:0] for name, x in arrays().items()}, {}, 'is empty: observations has no row'),
  (arrays(observations=np.zeros([N, 3], bool)), {}, 'type bool: needed are floats'),
  (arrays(timeouts=np.zeros(N, bool), next_observations=None), {}, 'timeouts that are true'),
  (without_its_part(virtual), {}, 'in other files, of which .*/part.hdf5 is not there'),
  (without_its_part(linked), {}, 'in other files, of which .*/part.hdf5 is not there'),
  (of_nothing, {}, 'rewards is no array, but a Dataset without'),
  (of_text, {}, 'rewards holds no numbers'),
  (of_lists, {}, 'observations holds no numbers'),
  (text, {}, 'cannot be read as HDF5: .*signature'),
  (lambda path: text(path, b''), {}, 'cannot be read as HDF5'),
  (cut, {}, 'cannot be read as HDF5: .*truncated'),
  (os.mkdir, {}, 'a folder'),
  (lambda path: None, {}, 'no file is there'),
  (arrays(**NO_ENDS), {}, 'does not tell where its episodes end: .*--episode_ends=NAME .*--max'),
  (arrays(**NO_ENDS), dict(episode_ends='dones'), '--episode_ends dones: .* has actions, observat'),
  (arrays(**NO_ENDS), dict(episode_ends='actions'), 'actions is of type|actions holds'),
  (arrays(**NO_ENDS), dict(episode_ends='observations'), r'observations is of shape \[12, 3\]'),
  (arrays(**ALONE), {}, 'no row is left of 12 steps: .*--keep_last'),
  (arrays(), dict(env_name='HalfCheetah-v2'), '3 numbers and actions of 1; HalfCheetah-v2 has 17'),
  (arrays(), dict(env_name='Pendulum-v7'), "unknown environment 'Pendulum-v7'; .*Pendulum-v1"),
  (arrays(), dict(env_name=None), 'does not tell its environment: --env_name names it'),
  (arrays(), dict(data_file='hopper_medium-v2.hdf5'), 'is of Hopper-v2, --env_name is Pendulum-v1'),
  ({'episode_0/observations': np.zeros([3, 3])}, {}, 'is a file of Minari: --format=minari'),
  (arrays(**{'infos/brac/discounts': np.full(N, 2.0)}), {}, r'discounts are not all in \[0, 1\]'),
  (arrays(**{'infos/brac/ends': np.full(N, 9)}), {}, 'infos/brac/ends holds codes that are not'),
  (damaged, dict(form='npz'), 'cannot be read as .npz'),
  (pickled, dict(form='npz'), 'cannot be read as .npz: .*allow_pickle'),
  (single, dict(form='npz'), 'cannot be read as .npz'),
  (zipped, dict(form='npz'), 'observations is no array'),
  (text, dict(form='npz'), 'cannot be read as .npz'),
  (lambda path: text(path, b''), dict(form='npz'), 'cannot be read as .npz'),
]  # fmt: skip


def fails(tmp_path, source, error, form='d4rl', env_name='Pendulum-v1', data_name='x', **options):
  with pytest.raises(UserError, match=error) as raised:
    exchange.import_data(
      str(tmp_path / 'root'), env_name, data_name, '0', FORMATS[form], source, Options(**options),
      False, False,
    )  # fmt: skip
  assert '\n' not in str(raised.value)
  assert not (tmp_path / 'root').exists()


@pytest.mark.parametrize('written, flags, error', FILES)
def test_a_file_that_cannot_be_imported_is_one_line(written, flags, error, tmp_path):
  flags = dict(flags)
  path = str(tmp_path / flags.pop('data_file', 'file.hdf5'))
  if callable(written):
    written(path)
  else:
    hdf5(path, written)
  fails(tmp_path, path, error, **flags)


BOX = {'type': 'Box', 'dtype': 'float32', 'shape': [3], 'low': [-9] * 3, 'high': [9] * 3}
ONE = {'type': 'Box', 'dtype': 'float32', 'shape': [1], 'low': [-2], 'high': [2]}
DICT = {'type': 'Dict', 'subspaces': {'a': {**BOX, 'shape': [1]}, 'b': {**BOX, 'shape': [2]}}}
IMAGE = {'type': 'Box', 'dtype': 'uint8', 'shape': [64, 64, 3], 'low': 0, 'high': 255}


def episode(**changes):
  """What a good episode of 4 steps holds."""
  good = {
    'observations': np.zeros([5, 3], np.float32), 'actions': np.zeros([4, 1], np.float32),
    'rewards': np.zeros(4), 'terminations': np.zeros(4, bool), 'truncations': np.arange(4) == 3,
  }  # fmt: skip
  return {name: x for name, x in {**good, **changes}.items() if x is not None}


def minari(folder, *episodes, observation_space=BOX, action_space=ONE, spec=None, **more):
  os.makedirs(folder)
  with h5py.File(os.path.join(folder, 'main_data.hdf5'), 'w') as f:
    for k, values in enumerate(episodes):
      for name, x in values.items():
        f[f'episode_{k}/{name}'] = x
  spaces = {'observation_space': observation_space, 'action_space': action_space}
  metadata = {name: json.dumps(x) for name, x in spaces.items()}
  metadata.update({'data_format': 'hdf5', **more})
  if spec:
    metadata['env_spec'] = json.dumps({'id': spec})
  with open(os.path.join(folder, 'metadata.json'), 'w', encoding='utf-8') as f:
    json.dump(metadata, f)


def good(**more):
  return lambda folder: minari(folder, episode(), episode(), **more)


def bad(**changes):
  return lambda folder: minari(folder, episode(), episode(**changes))


def without(name):
  def write(folder):
    minari(folder, episode())
    os.remove(os.path.join(folder, name))

  return write


def spoilt(name):
  def write(folder):
    minari(folder, episode())
    text(os.path.join(folder, name))

  return write


def own(**changes):
  """As an export has it, with what other programs do not know."""
  infos = {'next_actions': np.zeros([5, 1]), 'ends': np.zeros(5, int), 'discounts': np.ones(5)}
  infos = {f'infos/brac/{name}': values for name, values in {**infos, **changes}.items()}
  return lambda folder: minari(folder, episode(**infos))


DATASETS = [
  (lambda folder: None, {}, 'no Minari dataset a/b-v0 at .*/a/b-v0/data'),
  (without('metadata.json'), {}, 'metadata.json cannot be read: .*No such file'),
  (spoilt('metadata.json'), {}, 'metadata.json cannot be read'),
  (without('main_data.hdf5'), {}, 'there is no .*main_data.hdf5'),
  (spoilt('main_data.hdf5'), {}, 'main_data.hdf5 cannot be read as HDF5'),
  (lambda folder: minari(folder), {}, 'is empty: .* has no episode_0'),
  (good(data_format='arrow'), {}, 'is stored as arrow; .*create_dataset_from_buffers'),
  (good(action_space={'type': 'Discrete', 'n': 4}), {}, 'actions of a Discrete: discrete'),
  (good(observation_space=IMAGE), {}, r'a Box of shape \[64, 64, 3\]; needed is a flat Box'),
  (good(observation_space={'type': 'Dict', 'subspaces': {'i': IMAGE}}), {}, 'images of shape'),
  (good(observation_space={'type': 'Text'}), {}, 'are a Text; needed is a flat Box'),
  (good(observation_space={'type': 'Dict'}), {}, 'are a Dict, whose subspaces metadata.json does'),
  (good(observation_space={'type': 'Tuple', 'subspaces': None}), {}, 'a Tuple, whose'),
  (good(observation_space={**BOX, 'shape': None}), {}, r'are of shape \[None\] in metadata.json'),
  (good(observation_space=DICT), {}, 'episode_0 has no array observations/a'),
  (bad(observations=np.zeros([4, 3])), {}, r'episode_1/observations is of shape \[4, 3\]; 4 act'),
  (bad(observations=np.zeros([5, 2])), {}, r'episode_1/observations is of shape \[5, 2\]; 4 act'),
  (bad(observations=np.full([5, 3], np.nan)), {}, 'episode_1/observations holds nan in row 0'),
  (bad(actions=np.zeros([3, 1])), {}, 'episode_1/rewards has 4 rows where 3 are needed'),
  (bad(actions=np.zeros([4, 2])), {}, 'episode_1/actions are 2 numbers, not 1'),
  (bad(rewards=None), {}, 'episode_1 has no rewards; it has actions, observations'),
  (bad(truncations=None), {}, 'episode_1 has no truncations'),
  (bad(terminations=np.full(4, 7)), {}, 'episode_1/terminations holds 7 in row 0'),
  (own(ends=np.full(5, 256)), {}, r'a/b-v0: its ends hold codes that are not in \[0, 4\]'),
  (own(discounts=np.full(5, 2.0)), {}, r'a/b-v0: its discounts are not all in \[0, 1\]'),
  (good(), dict(observation_keys=('a', 'b')), '--observation_keys a,b: .* are of one part'),
  (good(), dict(max_episode_steps=9), '--max_episode_steps is for arrays'),
  (good(spec='HalfCheetah-v5'), dict(env_name='HalfCheetah-v2'),
   'a/b-v0 is of HalfCheetah-v5, --env_name is HalfCheetah-v2, .*--allow_other_env'),
]  # fmt: skip


@pytest.mark.parametrize('written, flags, error', DATASETS)
def test_a_dataset_of_minari_that_cannot_be_imported_is_one_line(
  written, flags, error, tmp_path, monkeypatch
):
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path / 'minari'))
  written(str(tmp_path / 'minari' / 'a' / 'b-v0' / 'data'))
  fails(tmp_path, 'a/b-v0', error, 'minari', **flags)


@pytest.mark.parametrize('write', [virtual, linked])
def test_arrays_in_other_files_are_read_and_belong_to_what_a_source_is_known_by(write, tmp_path):
  def do_import(sub_dir):
    options = ('Pendulum-v1', 'x', sub_dir, FORMATS['d4rl'], path, Options(), False, False)
    return exchange.import_data(str(tmp_path / 'root'), *options)

  path = str(tmp_path / 'file.hdf5')
  write(path)
  parts = do_import('0')
  hdf5(str(tmp_path / 'whole.hdf5'), arrays())
  whole = ('1', FORMATS['d4rl'], str(tmp_path / 'whole.hdf5'), Options(), False, False)
  whole = exchange.import_data(str(tmp_path / 'root'), 'Pendulum-v1', 'x', *whole)
  for got, want in zip(*(stored.load(data, 3, 1) for data in (parts, whole))):
    np.testing.assert_array_equal(got, want)
  (part,) = tmp_path.glob('part.hdf5')
  content = bytearray(part.read_bytes())
  content[-1] ^= 1
  part.write_bytes(content)
  with pytest.raises(UserError, match='is there already, of another source'):
    do_import('0')


@pytest.mark.parametrize(
  'odd',
  [
    {'metadata/algorithm': np.void(b'abc'), 'metadata/iteration': np.complex64(1j)},
    {'infos/action_log_probs': np.zeros(3)},
    {'infos/action_log_probs/a': np.zeros(3)},
    {'metadata/policy': np.zeros(3)},
  ],
)
def test_what_a_file_says_besides_in_another_way_is_passed_over(odd, tmp_path):
  path = str(tmp_path / 'file.hdf5')
  hdf5(path, arrays(**odd))
  options = ('Pendulum-v1', 'x', '0', FORMATS['d4rl'], path, Options(), False, False)
  data = exchange.import_data(str(tmp_path / 'root'), *options)
  facts = provenance.read(data)
  assert 'algorithm' not in facts and 'behavior_policy' not in facts


@pytest.mark.parametrize(
  'word, is_one', [(b'Pendulum-v1', True), ('Pendulum-v1', True), (7, False), ([1.0, 2.0], False)]
)
def test_an_environments_name_is_a_text_of_whatever_kind(word, is_one, tmp_path):
  path = str(tmp_path / 'file.hdf5')
  hdf5(path, arrays())
  with h5py.File(path, 'a') as f:
    f.attrs['env_name'] = np.bytes_(word) if isinstance(word, bytes) else word
  options = (None, 'x', '0', FORMATS['d4rl'], path, Options(), False, False)
  if is_one:
    assert '/Pendulum-v1/' in exchange.import_data(str(tmp_path / 'root'), *options)
  else:
    fails(tmp_path, path, 'does not tell its environment', env_name=None)


def test_scores_that_are_no_numbers_are_none(tmp_path, monkeypatch):
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path))
  scores = dict(ref_min_score='low', ref_max_score='high', env_spec='{"kwargs": {"a": 1}}')
  good(**scores)(str(tmp_path / 'a' / 'b-v0' / 'data'))
  options = ('Pendulum-v1', 'x', '0', FORMATS['minari'], 'a/b-v0', Options(), False, False)
  data = exchange.import_data(str(tmp_path / 'root'), *options)
  assert 'reference_scores' not in provenance.read(data)


def test_an_export_to_what_no_dataset_of_minari_is_called_is_an_error(tmp_path):
  from brac.data import minari as own

  for name in ('a b-v0', 'eps1', '../x-v0', '/x-v0'):
    with pytest.raises(UserError, match=f'--target {re.escape(name)}: the id of a Minari dataset'):
      own.place(name)
