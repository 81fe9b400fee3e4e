"""Other people's data in, and ours out: row by row against a slow reference written here."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import types

import gin
import h5py
import numpy as np
import odd_environments as odd_environments  # which registers them
import pytest
import tensorflow as tf
from reading import shared_data

from brac import agents, behavior, checkpoints, environments, exchange, files, policy_loader
from brac.data import d4rl, description, minari, provenance, stored
from brac.data.formats import FORMATS, find
from brac.data.replay import Dataset
from brac.data.source import Options, StoredPolicy
from brac.data.transitions import CUT_OFF, GOES_ON, TERMINAL, TIME_LIMIT, UNKNOWN, Transitions
from brac.errors import UserError
from brac.networks import Actor, Box
from brac.rng import Rng
from brac.train_eval_offline import train_eval_offline

for _name in ('brac_primal', 'brac_dual'):
  agents.load(_name)  # whose gin parameters are bound below

S, A = 3, 1  # Pendulum-v1's
ENV = 'Pendulum-v1'


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
  """Small pieces, so that each source is of many; Minari's folder is the test's own."""
  monkeypatch.setattr(d4rl, 'PIECE', 7)
  monkeypatch.setattr(minari, 'PIECE', 7)
  monkeypatch.setenv('MINARI_DATASETS_PATH', str(tmp_path / 'minari'))


@pytest.fixture
def do_import(tmp_path):
  """`do_import(source, form, ...)`: imports it, and returns where the data is."""

  def do_import(source, form='d4rl', keep_last=False, env_name=ENV, sub_dir='0', **options):
    data_name, allow = options.pop('data_name', 'there'), options.pop('allow_other_env', False)
    return exchange.import_data(
      str(tmp_path / 'root'), env_name, data_name, sub_dir, FORMATS[form], str(source),
      Options(**options), keep_last, allow,
    )  # fmt: skip

  return do_import


def load(path):
  return stored.load(path, *stored.widths(path))


def assert_same_bits(got, want):
  for name, x, y in zip(Transitions._fields, got, want):
    assert x.dtype == y.dtype and x.shape == y.shape, name
    assert x.tobytes() == y.tobytes(), name


# --- A format that somebody adds, as docs/add_a_format.md says ------------------------------------


def read_csv(path, options):
  """Columns s, a, r, and end: 1 at a terminal state, 2 at a time limit."""
  table = np.loadtxt(path, np.float32, delimiter=',')
  arrays = {'observations': table[:, :S], 'actions': table[:, S : S + A], 'rewards': table[:, -2]}
  arrays |= {'terminals': table[:, -1] == 1, 'timeouts': table[:, -1] == 2}
  return d4rl.read_arrays(arrays, path, 'csv', options)


@pytest.fixture
def csv(monkeypatch):
  form = types.SimpleNamespace(__name__='csv', ENDINGS=('.csv',), read=read_csv)
  monkeypatch.setitem(FORMATS, 'csv', form)
  return form


def write_csv(path, episodes):
  ends = [(np.arange(e.n) == e.n - 1) * (2 if e.end == TIME_LIMIT else 1) for e in episodes]
  rows = [np.column_stack([e.o[:-1], e.a, e.r, end]) for e, end in zip(episodes, ends)]
  np.savetxt(path, np.concatenate(rows), '%.9g', delimiter=',')
  return str(path)


def test_an_added_format_is_found_by_its_ending_and_knows_its_files(csv, do_import, tmp_path):
  episodes = [e for e in EPISODES if e.end != CUT_OFF]
  path = write_csv(tmp_path / 'file.CSV', episodes)
  assert find(None, path) is find('csv', path) is csv
  data = do_import(path, 'csv')
  assert_same_bits(load(data), slow_rows(episodes, knows_next=False))
  other = write_csv(tmp_path / 'other.csv', episodes[:3])
  with pytest.raises(UserError, match='is there already, of another source or other flags'):
    do_import(other, 'csv')


@pytest.mark.parametrize(
  'name, form',
  [
    ('a.hdf5', 'd4rl'), ('A.H5', 'd4rl'), ('a.npz', 'npz'), ('plain', 'd4rl'), ('a.dat', 'd4rl'),
    ('none', 'minari'), ('D4RL/door/human-v2', 'minari'), ('a.b/c-v0', 'minari'),
  ],
)  # fmt: skip
def test_a_format_is_told_by_its_ending(name, form, tmp_path):
  for there in ('plain', 'a.dat', 'a.npz'):
    (tmp_path / there).write_text('')
  assert find(None, str(tmp_path / name)) is FORMATS[form]


@pytest.mark.parametrize('fact', ['format', 'source', 'checksum'])
def test_a_format_without_what_an_import_knows_it_by_is_no_format(fact, csv, do_import, tmp_path):
  def read(path, options):
    source = read_csv(path, options)
    return source._replace(facts={k: v for k, v in source.facts.items() if k != fact})

  csv.read = read
  with pytest.raises(TypeError, match=f'csv.read: its facts lack {fact}'):
    do_import(write_csv(tmp_path / 'file.csv', EPISODES[:3]), 'csv')
  assert not (tmp_path / 'root').exists()


# --- Sources, and what becomes of them ------------------------------------------------------------


class Episode:
  """T + 1 observations, T actions and rewards, and how it ended."""

  def __init__(self, random, n, end, n_states=S, n_actions=A):
    self.o = random.normal(size=[n + 1, n_states]).astype(np.float32)
    self.a = random.uniform(-2, 2, [n, n_actions]).astype(np.float32)
    self.r = random.normal(size=n).astype(np.float32)
    self.n, self.end = n, end


def make_episodes(*lengths_and_ends):
  random = np.random.default_rng(len(lengths_and_ends))
  return [Episode(random, n, end) for n, end in lengths_and_ends]


EPISODES = make_episodes(
  (10, TIME_LIMIT), (3, TERMINAL), (1, TERMINAL), (10, TIME_LIMIT), (8, TERMINAL),
  (10, TIME_LIMIT), (10, TIME_LIMIT), (2, TERMINAL), (4, CUT_OFF),
)  # fmt: skip


def slow_rows(episodes, keep_last=False, knows_next=True):
  """The rows of episodes, a step at a time, by the table of the spec."""
  rows = []
  for e in episodes:
    first = len(rows)
    for t in range(e.n):
      last = t == e.n - 1
      if not last:
        rows.append([e.o[t], e.a[t], e.o[t + 1], e.a[t + 1], e.r[t], 1.0, GOES_ON])
      elif e.end == TERMINAL:
        s2 = e.o[t + 1] if knows_next else e.o[t]
        rows.append([e.o[t], e.a[t], s2, e.a[t], e.r[t], 0.0, TERMINAL])
      elif keep_last and knows_next:
        rows.append([e.o[t], e.a[t], e.o[t + 1], e.a[t], e.r[t], 1.0, e.end])
      elif len(rows) > first:
        rows[-1][-1] = e.end
  dtypes = [np.float32] * 6 + [np.int8]
  return Transitions(*(np.array(x, dtype) for x, dtype in zip(zip(*rows), dtypes)))


def d4rl_arrays(episodes, timeouts=True, next_observations=True, **more):
  """What D4RL stores of episodes."""
  lasts = [np.arange(e.n) == e.n - 1 for e in episodes]
  arrays = {
    'observations': np.concatenate([e.o[:-1] for e in episodes]),
    'actions': np.concatenate([e.a for e in episodes]),
    'rewards': np.concatenate([e.r for e in episodes]),
    'terminals': np.concatenate([x & (e.end == TERMINAL) for x, e in zip(lasts, episodes)]),
  }
  if timeouts:
    late = [x & (e.end == TIME_LIMIT) for x, e in zip(lasts, episodes)]
    arrays['timeouts'] = np.concatenate(late)
  if next_observations:
    arrays['next_observations'] = np.concatenate([e.o[1:] for e in episodes])
  return {**arrays, **more}


def write_hdf5(path, arrays):
  with h5py.File(path, 'w') as f:
    for name, values in arrays.items():
      f.create_dataset(name, data=values, compression='gzip' if np.ndim(values) else None)
  return path


METADATA = {'metadata/algorithm': np.bytes_('SAC'), 'metadata/iteration': np.int32(3)}
ENDS = np.concatenate([(np.arange(e.n) == e.n - 1) & (e.end != CUT_OFF) for e in EPISODES])
NO_TELLING = dict(timeouts=False, next_observations=False)


@pytest.mark.parametrize('form', ['d4rl', 'npz'])
@pytest.mark.parametrize('keep_last', [False, True])
@pytest.mark.parametrize(
  'written, options',
  [
    (dict(METADATA), {}),
    (dict(next_observations=False), {}),
    (dict(timeouts=False), {}),
    (dict(timeouts=False, never='timeouts'), {}),
    (dict(NO_TELLING, my_ends=ENDS.astype(np.float32)), dict(episode_ends='my_ends')),
    (NO_TELLING, dict(max_episode_steps=10)),
    (dict(observations=np.float64, rewards=np.float64, next_observations=np.float64), {}),
    (dict(terminals=np.float32, timeouts=np.uint8, column_rewards=True), {}),
  ],
  ids=['v2', 'no next', 'no timeouts', 'timeouts that tell nothing', 'a key', 'a length', 'float64',
       'columns'],
)  # fmt: skip
def test_rows_are_those_of_the_slow_reference(
  written, options, form, keep_last, do_import, tmp_path
):
  written = dict(written)
  types = {k: written.pop(k) for k in list(written) if isinstance(written[k], type)}
  column, never = written.pop('column_rewards', False), written.pop('never', None)
  arrays = d4rl_arrays(EPISODES, **written)
  for name, dtype in types.items():
    arrays[name] = arrays[name].astype(dtype)
  if never:
    arrays[never] = np.zeros(len(ENDS), bool)
  if column:
    for name in ('rewards', 'terminals'):
      arrays[name] = arrays[name][:, None]
  path = tmp_path / ('file.npz' if form == 'npz' else 'file.hdf5')
  if form == 'npz':
    np.savez(path, **arrays)
  else:
    write_hdf5(path, arrays)
  data = do_import(path, form, keep_last, **options)
  knows_next = 'next_observations' in arrays
  # Of an episode that a boundary in next_observations alone ends, a time limit is the reason.
  assert_same_bits(load(data), slow_rows(EPISODES, keep_last, knows_next))

  returns, lengths = stored.episodes(data)
  whole = [e for e in EPISODES if e.end != CUT_OFF]
  np.testing.assert_allclose(returns, [e.r.sum(dtype=np.float64) for e in whole])
  assert lengths.tolist() == [e.n for e in whole]
  facts = provenance.read(data)
  assert facts['episodes'] == {'terminal': 4, 'time_limit': 4, 'cut_off': 1}
  n_lost = 0 if keep_last and knows_next else 5
  assert sum(facts['dropped'].values()) == n_lost
  assert facts['made_up_next_actions'] == (5 - n_lost if keep_last else 0)
  assert facts['steps'] == 58 and facts['rows'] == 58 - n_lost
  if METADATA.keys() <= arrays.keys() and form == 'd4rl':
    assert facts['algorithm'] == 'SAC' and facts['iteration'] == 3


def test_the_ends_that_a_user_names_go_before_a_length(do_import, tmp_path, caplog):
  arrays = d4rl_arrays(EPISODES, **NO_TELLING, my_ends=ENDS)
  file = write_hdf5(tmp_path / 'file.hdf5', arrays)
  with caplog.at_level(logging.WARNING, 'absl'):
    both = do_import(file, episode_ends='my_ends', max_episode_steps=4)
  assert '--max_episode_steps is not used' in caplog.text
  assert_same_bits(load(both), load(do_import(file, episode_ends='my_ends', sub_dir='1')))


def test_an_episode_that_no_flag_ends_is_cut_off(do_import, tmp_path, caplog):
  arrays = d4rl_arrays(EPISODES)
  arrays['timeouts'][9] = False
  episodes = [*EPISODES]
  episodes[0] = make_episodes((1, CUT_OFF))[0]
  episodes[0].__dict__.update(EPISODES[0].__dict__, end=CUT_OFF)
  with caplog.at_level(logging.WARNING, 'absl'):
    data = do_import(write_hdf5(tmp_path / 'file.hdf5', arrays))
  assert_same_bits(load(data), slow_rows(episodes))
  assert '1 episodes end without a flag' in caplog.text


def test_a_fall_at_the_time_limit_is_no_terminal_and_both_flags_are_one(do_import, tmp_path):
  arrays = d4rl_arrays(EPISODES)
  arrays['timeouts'][12] = True  # where the second episode falls
  data = do_import(write_hdf5(tmp_path / 'file.hdf5', arrays))
  assert_same_bits(load(data), slow_rows(EPISODES))


def test_an_episode_of_one_step_that_is_dropped_marks_no_other_row(do_import, tmp_path):
  episodes = make_episodes((4, TERMINAL), (1, TIME_LIMIT), (1, TIME_LIMIT), (5, CUT_OFF))
  data = do_import(write_hdf5(tmp_path / 'file.hdf5', d4rl_arrays(episodes)))
  assert load(data).end.tolist() == [GOES_ON] * 3 + [TERMINAL] + [GOES_ON] * 3 + [CUT_OFF]
  assert_same_bits(load(data), slow_rows(episodes))


@pytest.mark.parametrize('knows_next', [True, False])
def test_actions_that_a_user_knows_are_taken_where_the_next_observation_is_known(
  knows_next, do_import, tmp_path
):
  a_next = np.random.default_rng(2).normal(size=[58, A]).astype(np.float32)
  arrays = d4rl_arrays(EPISODES, next_observations=knows_next)
  np.savez(tmp_path / 'file.npz', **arrays, **{'infos/brac/next_actions': a_next})
  rows = load(do_import(tmp_path / 'file.npz', 'npz'))
  want = slow_rows(EPISODES, keep_last=knows_next, knows_next=knows_next)
  kept = np.ones(58, bool)
  if not knows_next:
    lasts = np.cumsum([e.n for e in EPISODES]) - 1
    kept[lasts[[e.end != TERMINAL for e in EPISODES]]] = False
  assert_same_bits(rows, want._replace(a2=a_next[kept]))


def test_what_a_file_says_goes_before_what_the_user_says(do_import, tmp_path, caplog):
  with caplog.at_level(logging.WARNING, 'absl'):
    data = do_import(write_hdf5(tmp_path / 'file.hdf5', d4rl_arrays(EPISODES)), max_episode_steps=4)
  assert_same_bits(load(data), slow_rows(EPISODES))
  assert '--max_episode_steps is not used' in caplog.text


def test_a_second_import_gives_the_same_bits_and_a_third_has_nothing_to_do(
  do_import, tmp_path, caplog
):
  path = write_hdf5(tmp_path / 'file.hdf5', d4rl_arrays(EPISODES))
  data, again = do_import(path), do_import(path, sub_dir='1')
  for ending in ('.data-00000-of-00001', '.source.json'):
    with open(data + ending, 'rb') as f, open(again + ending, 'rb') as g:
      assert f.read() == g.read()
  with caplog.at_level(logging.INFO, 'absl'):
    do_import(path)
  assert 'nothing to do' in caplog.text
  with pytest.raises(UserError, match='is there already, of another source or other flags'):
    do_import(path, keep_last=True)


def test_the_log_says_what_was_read_and_what_was_dropped(do_import, tmp_path, caplog):
  with caplog.at_level(logging.INFO, 'absl'):
    do_import(write_hdf5(tmp_path / 'file.hdf5', d4rl_arrays(EPISODES, next_observations=False)))
  for words in (
    '58 steps; episodes by their end: 4 terminal, 4 time limit, 1 cut off',
    '5 last steps are no rows', '4 at a time limit, 1 where',
    '4 terminal states are not in the source', '8 whole episodes; return', '53 rows are at',
  ):  # fmt: skip
    assert words in caplog.text


@pytest.mark.parametrize(
  'name, env_name, data_name',
  [
    ('halfcheetah_medium-v2', 'HalfCheetah-v2', 'halfcheetah-medium-v2'),
    ('halfcheetah-medium-v2', 'HalfCheetah-v2', 'halfcheetah-medium-v2'),
    ('hopper_medium_replay-v2', 'Hopper-v2', 'hopper-medium-replay-v2'),
    ('walker2d_medium-expert-v1', 'Walker2d-v2', 'walker2d-medium-expert-v1'),
    ('ant_random', 'Ant-v2', 'ant-random-v0'),
    ('antmaze-umaze-v2', None, 'antmaze-umaze-v2'),
    ('my_data', None, 'my_data'),
  ],
)
def test_names_of_d4rl_are_understood(name, env_name, data_name):
  assert d4rl.understand(name) == (env_name, data_name)


# --- Minari ---------------------------------------------------------------------------------------


def box(width, dtype='float64', low=-np.inf, high=np.inf):
  return {
    'type': 'Box', 'dtype': dtype, 'shape': [width], 'low': [low] * width, 'high': [high] * width
  }  # fmt: skip


def write_minari(root, dataset_id, episodes, split=None, spec=None, order=None, **metadata):
  """A dataset in the layout of Minari 0.5; `split` are the widths of the parts of observations."""
  folder = root / 'minari' / dataset_id / 'data'
  os.makedirs(folder)
  with h5py.File(folder / 'main_data.hdf5', 'w') as f:
    for i, e in enumerate(episodes):
      group = f.create_group(f'episode_{i}')
      if split is None:
        group['observations'] = e.o.astype(np.float64)
      else:
        parts = np.split(e.o.astype(np.float64), np.cumsum(list(split.values()))[:-1], axis=1)
        for name, part in zip(split, parts):
          group[f'observations/{name}'] = part
      last = np.arange(e.n) == e.n - 1
      group['actions'], group['rewards'] = e.a, e.r
      group['terminations'] = last & (e.end == TERMINAL)
      group['truncations'] = last & (e.end == TIME_LIMIT)
      group['infos/success'] = np.zeros(e.n + 1, bool)
  space = box(S)
  if split is not None:
    space = {'type': 'Dict', 'subspaces': {name: box(split[name]) for name in order or split}}
  told = {
    'dataset_id': dataset_id, 'data_format': 'hdf5', 'minari_version': '0.5.3',
    'total_episodes': len(episodes), 'total_steps': sum(e.n for e in episodes),
    'observation_space': json.dumps(space), 'action_space': json.dumps(box(A, 'float32', -2, 2)),
    **metadata,
  }  # fmt: skip
  if spec:
    told['env_spec'] = json.dumps({'id': spec, 'kwargs': {}})
  with open(folder / 'metadata.json', 'w', encoding='utf-8') as f:
    json.dump(told, f)
  return dataset_id


MANY = make_episodes(*[(n, (TERMINAL, TIME_LIMIT, CUT_OFF)[n % 3]) for n in range(1, 15)])


def test_a_fall_at_the_time_limit_is_a_terminal_state_in_minari_too(do_import, tmp_path):
  source = write_minari(tmp_path, 'my/data/mixed-v3', MANY)
  (path,) = tmp_path.rglob('main_data.hdf5')
  with h5py.File(path, 'a') as f:
    for i, e in enumerate(MANY):
      if e.end == TERMINAL:
        f[f'episode_{i}/truncations'][-1] = True
  assert_same_bits(load(do_import(source, 'minari')), slow_rows(MANY))


@pytest.mark.parametrize('keep_last', [False, True])
def test_the_episodes_of_minari_come_in_the_order_of_their_numbers(keep_last, do_import, tmp_path):
  scores = dict(ref_min_score=-1600.0, ref_max_score=-150.0)
  source = write_minari(tmp_path, 'my/data/mixed-v3', MANY, **scores)
  data = do_import(source, 'minari', keep_last)
  assert_same_bits(load(data), slow_rows(MANY, keep_last))
  facts = provenance.read(data)
  assert facts['reference_scores'] == {'min': -1600.0, 'max': -150.0, 'whose': 'Minari'}
  assert facts['source'] == source and facts['checksum'].startswith('sha256 ')


@pytest.mark.parametrize(
  'order, asked, columns',
  [
    (['achieved', 'desired'], (), [0, 1, 2]),
    (['desired', 'achieved'], (), [1, 2, 0]),
    (['achieved', 'desired'], ('desired', 'achieved'), [1, 2, 0]),
  ],
)
def test_dict_observations_are_concatenated_in_an_order_that_is_kept(
  order, asked, columns, do_import, tmp_path
):
  split = {'achieved': 1, 'desired': 2}
  source = write_minari(tmp_path, 'goals-v0', MANY, split=split, order=order)
  data = do_import(source, 'minari', observation_keys=asked)
  want = slow_rows(MANY)
  assert_same_bits(load(data), want._replace(s1=want.s1[:, columns], s2=want.s2[:, columns]))
  kept = provenance.read(data)['observation_keys']
  assert list(kept.items()) == [(name, split[name]) for name in asked or order]


@pytest.mark.parametrize(
  'asked, env_name, texts',
  [
    ((), 'Goal-v0', None),
    (
      ('desired', 'achieved'),
      'Goal-v0',
      ['Goal-v0 concatenates its', "dict_observations.keys=('desired', 'achieved')"],
    ),
    ((), ENV, ['achieved (1), desired (2); Pendulum-v1 does not tell its order']),
  ],
)
def test_the_order_is_compared_with_the_environments(
  asked, env_name, texts, do_import, tmp_path, caplog
):
  split = {'achieved': 1, 'desired': 2}
  source = write_minari(tmp_path, 'goals-v0', MANY, split=split)
  with caplog.at_level(logging.WARNING, 'absl'):
    do_import(source, 'minari', env_name=env_name, observation_keys=asked)
  about = [message for message in caplog.messages if 'order' in message]
  assert len(about) == (texts is not None)
  for text in texts or ():
    assert text in about[0]


def test_other_parts_of_one_width_are_refused(do_import, tmp_path):
  source = write_minari(tmp_path, 'goals-v0', MANY, split={'achieved': 1, 'desired': 2})
  parts = r'of achieved \(1\), desired \(2\), those of OtherGoal-v0 of achieved \(2\), desired'
  with pytest.raises(UserError, match=parts):
    do_import(source, 'minari', env_name='OtherGoal-v0')


def test_a_real_dataset_of_minari(do_import, monkeypatch):
  shared = shared_data()
  if shared is None:
    pytest.skip('no ../shared/data with a Minari dataset')
  cache = os.path.join(shared, 'minari_cache')
  monkeypatch.setenv('MINARI_DATASETS_PATH', cache)
  monkeypatch.setattr(minari, 'PIECE', 100)
  source = 'D4RL/door/human-v2'
  data = do_import(source, 'minari', env_name=None)
  assert '/AdroitHandDoor-v1/' in data
  episodes = []
  with h5py.File(os.path.join(cache, source, 'data', 'main_data.hdf5')) as f:
    for i in range(25):
      e, group = Episode.__new__(Episode), f[f'episode_{i}']
      e.o, e.a = group['observations'][:].astype(np.float32), group['actions'][:]
      e.r, e.n, e.end = group['rewards'][:], len(group['rewards']), TIME_LIMIT
      episodes.append(e)
  assert_same_bits(load(data), slow_rows(episodes))
  returns, lengths = stored.episodes(data)
  np.testing.assert_allclose(returns, [e.r.sum() for e in episodes], rtol=1e-12)
  assert lengths.sum() == 6729 and len(load(data).reward) == 6729 - 25


# --- Ours out and in again ------------------------------------------------------------------------


def own_rows(published=False):
  """Rows as a collection leaves them, or as published data have them, which tell no ends."""
  rows = slow_rows(MANY, keep_last=True)
  random = np.random.default_rng(1)
  lasts = rows.end != GOES_ON
  rows.a2[lasts] = random.uniform(-2, 2, [lasts.sum(), A])
  rows.s1[5] = rows.s2[4] = [-0.0, 0.0, 1e-40]
  return rows._replace(end=np.full_like(rows.end, UNKNOWN)) if published else rows


@pytest.fixture
def own_data(tmp_path):
  def save(rows):
    path = str(tmp_path / 'own' / ENV / 'mine' / '0' / 'data')
    os.makedirs(os.path.dirname(path), exist_ok=True)
    checkpoints.save(path, data=Dataset(rows))
    return path

  return save


def export(path, form, tmp_path):
  target = 'ours/mine-v0' if form == 'minari' else str(tmp_path / f'mine.{form}')
  exchange.export_data(path, ENV, 'mine', FORMATS[form], target)
  return target


@pytest.mark.parametrize('published', [False, True])
@pytest.mark.parametrize('form', ['d4rl', 'minari', 'npz'])
def test_what_is_exported_comes_back_bit_for_bit(form, published, own_data, do_import, tmp_path):
  path = own_data(own_rows(published))
  target = export(path, form, tmp_path)
  data = do_import(target, form, env_name=None)
  assert f'/{ENV}/' in data
  assert_same_bits(load(data), own_rows(published))
  for got, want in zip(stored.episodes(data), stored.episodes(path)):
    np.testing.assert_array_equal(got, want)
  with pytest.raises(UserError, match='is there already'):
    export(path, form, tmp_path)


@pytest.mark.parametrize('form', ['d4rl', 'minari'])
def test_without_what_only_we_read_the_last_steps_are_lost(form, own_data, do_import, tmp_path):
  target = export(own_data(own_rows()), form, tmp_path)
  file = tmp_path / 'minari' / target / 'data' / 'main_data.hdf5' if form == 'minari' else target
  with h5py.File(file, 'a') as f:
    for group in list(f.values()) if form == 'minari' else [f]:
      del group['infos']
  rows = own_rows()
  kept = np.isin(rows.end, (GOES_ON, TERMINAL))
  got = load(do_import(target, form))
  for name in ('s1', 'a1', 's2', 'reward', 'discount'):
    np.testing.assert_array_equal(getattr(got, name), getattr(rows, name)[kept])
  inside = got.end == GOES_ON
  np.testing.assert_array_equal(got.a2[inside], rows.a2[kept][inside])


def test_what_d4rl_reads_of_an_export(own_data, tmp_path):
  rows = own_rows()
  with h5py.File(export(own_data(rows), 'd4rl', tmp_path)) as f:
    np.testing.assert_array_equal(f['terminals'][:], rows.end == TERMINAL)
    np.testing.assert_array_equal(f['timeouts'][:], np.isin(rows.end, (TIME_LIMIT, CUT_OFF)))
    np.testing.assert_array_equal(f['next_observations'][:], rows.s2)
    assert f['terminals'].dtype == f['timeouts'].dtype == bool


_READ_BY_MINARI = """
import sys, numpy as np, gymnasium, minari
from minari.data_collector import EpisodeBuffer
d = minari.load_dataset(sys.argv[1])
assert d.env_spec is None
out = {}
for k, e in enumerate(d.iterate_episodes()):
  for name in ('observations', 'actions', 'rewards', 'terminations', 'truncations'):
    out[f'{k}/{name}'] = getattr(e, name)
out['space'] = np.stack([d.action_space.low, d.action_space.high])
np.savez(sys.argv[2], **out)
random = np.random.default_rng(0)
observations = gymnasium.spaces.Dict(
  {n: gymnasium.spaces.Box(-9, 9, [k]) for n, k in (('observation', 2), ('goal', 1))}
)
actions = gymnasium.spaces.Box(-2, 2, [1])
buffers, flat = [], []
for n in (3, 4, 12):
  widths = dict(observation=2, goal=1)
  obs = {name: random.normal(size=[n + 1, k]).astype('f') for name, k in widths.items()}
  buffers.append(EpisodeBuffer(
    observations=obs, actions=random.uniform(-2, 2, [n, 1]).astype('f'),
    rewards=random.normal(size=n), terminations=np.arange(n) == (n - 1 if n == 4 else n),
    truncations=np.arange(n) == (n if n == 4 else n - 1), infos={}))
  flat.append(np.stack([gymnasium.spaces.flatten(observations, {k: v[t] for k, v in obs.items()})
                        for t in range(n + 1)]))
minari.create_dataset_from_buffers('made/by-minari-v0', buffers, observation_space=observations,
                                   action_space=actions, data_format='hdf5')
np.savez(sys.argv[3], **{f'{k}/{n}': getattr(b, n) for k, b in enumerate(buffers)
                         for n in ('actions', 'rewards', 'terminations')},
         **{f'{k}/flat': x for k, x in enumerate(flat)})
"""


def test_minari_reads_what_we_write_and_we_read_what_it_writes(own_data, do_import, tmp_path):
  python = os.environ.get('BRAC_MINARI_PYTHON', sys.executable)
  has = subprocess.run([python, '-c', 'import minari, gymnasium'], capture_output=True)
  if has.returncode:
    pytest.skip('no package minari; BRAC_MINARI_PYTHON may name a Python that has it')
  rows = own_rows()
  target = export(own_data(rows), 'minari', tmp_path)
  files = [str(tmp_path / name) for name in ('ours.npz', 'theirs.npz')]
  subprocess.run([python, '-W', 'ignore', '-c', _READ_BY_MINARI, target, *files], check=True)
  ours, theirs = map(np.load, files)
  start = 0
  for k, e in enumerate(MANY):
    part = slice(start, start + e.n)
    observations = np.concatenate([rows.s1[part], rows.s2[part][-1:]])
    np.testing.assert_array_equal(ours[f'{k}/observations'], observations)
    np.testing.assert_array_equal(ours[f'{k}/actions'], rows.a1[part])
    np.testing.assert_array_equal(ours[f'{k}/rewards'], rows.reward[part])
    assert ours[f'{k}/terminations'].tolist() == [False] * (e.n - 1) + [e.end == TERMINAL]
    assert ours[f'{k}/truncations'].tolist() == [False] * (e.n - 1) + [e.end != TERMINAL]
    start += e.n
  assert ours['space'].tolist() == [[-2], [2]]
  data = do_import('made/by-minari-v0', 'minari')
  assert list(provenance.read(data)['observation_keys']) == ['goal', 'observation']
  episodes = []
  for k in range(3):
    e = Episode.__new__(Episode)
    e.o, e.a, e.r = theirs[f'{k}/flat'], theirs[f'{k}/actions'], theirs[f'{k}/rewards']
    e.n, e.end = len(e.r), TERMINAL if theirs[f'{k}/terminations'][-1] else TIME_LIMIT
    episodes.append(e)
  assert_same_bits(load(data), slow_rows(episodes))


def test_training_on_an_imported_copy_gives_the_same_bits(own_data, do_import, tmp_path):
  path = own_data(own_rows())
  copy = do_import(export(path, 'minari', tmp_path), 'minari')
  spec = environments.make_batch(ENV, 1, 0).action_spec
  clone = str(tmp_path / 'agent_behavior')
  checkpoints.save(clone, policy=Actor(S, (8,), Box.of(spec), Rng(0)))
  gin.bind_parameter('brac_primal_agent.Agent.behavior_ckpt_file', clone)
  gin.bind_parameter('brac_primal_agent.Agent.divergence_name', 'kl')
  left = []
  for data_file in (path, copy):
    log_dir = str(tmp_path / f'run{len(left)}')
    train_eval_offline(
      log_dir, data_file, 'brac_primal', ENV, 10**6, 12, 1, seed=0, batch_size=8,
      model_params=(((8, 8),), 2),
    )  # fmt: skip
    reader = checkpoints.Reader(os.path.join(log_dir, 'agent'))
    values = {k: reader.read(k) for k in reader.shapes if k != 'settings'}
    left.append({k: np.asarray(v).tobytes() for k, v in values.items()})
  assert left[0] == left[1] and len(left[0]) > 20


# What an export tells is right for the rows that are left where somebody takes a part of them.
@pytest.mark.parametrize('form', ['d4rl', 'npz'])
def test_of_a_part_of_an_export_episodes_are_cut_off_where_rows_are_missing(
  form, own_data, do_import, tmp_path, caplog
):
  target = export(own_data(own_rows()), form, tmp_path)
  first, second = (np.flatnonzero(own_rows().end != GOES_ON)[[k, k + 1]] for k in (2, 5))
  # From within one episode, the beginning of which is taken, into another, which loses its end.
  taken = np.r_[first[0] + 1 : first[1] - 1, second[0] + 2 : second[1] - 1]
  if form == 'npz':
    arrays = dict(np.load(target))
  else:
    with h5py.File(target) as f:
      arrays = {name: f[name][:] for name in d4rl_arrays(MANY)}
      arrays |= {f'infos/brac/{name}': x[:] for name, x in f['infos/brac'].items()}
  part = {k: x[taken] if np.ndim(x) else x for k, x in arrays.items()}
  file = tmp_path / f'part.{form}'
  if form == 'npz':
    np.savez(file, **part)
  else:
    write_hdf5(file, part)
  with caplog.at_level(logging.WARNING, 'absl'):
    data = do_import(file, form, sub_dir='part')
  ends = own_rows().end[taken]
  ends[[first[1] - first[0] - 3, -1]] = CUT_OFF
  assert load(data).end.tolist() == ends.tolist()
  assert '2 episodes go on by infos/brac/ends, and the next row is none of theirs' in caplog.text


@pytest.mark.parametrize(
  'metadata',
  [
    dict(ref_min_score=-1.0, ref_max_score=2.0),
    dict(order=['desired', 'achieved']),
    dict(env_spec='{"id": "HalfCheetah-v4", "kwargs": {"exclude_positions": false}}'),
  ],
)
def test_a_minari_dataset_whose_metadata_have_changed_is_another_source(
  metadata, do_import, tmp_path
):
  split, flags = {'achieved': 1, 'desired': 2}, dict(allow_other_env=True)
  source = write_minari(tmp_path, 'goals-v0', MANY, split=split)
  do_import(source, 'minari', **flags)
  do_import(source, 'minari', **flags)  # nothing to do
  before = (tmp_path / 'minari' / 'goals-v0' / 'data' / 'main_data.hdf5').read_bytes()
  shutil.rmtree(tmp_path / 'minari')
  write_minari(tmp_path, 'goals-v0', MANY, split=split, **metadata)
  after = (tmp_path / 'minari' / 'goals-v0' / 'data' / 'main_data.hdf5').read_bytes()
  assert before == after
  with pytest.raises(UserError, match='is there already, of another source'):
    do_import(source, 'minari', **flags)


def test_the_first_word_on_a_folder_is_its_imports(own_data, do_import, tmp_path, monkeypatch):
  ours, theirs = (tmp_path / f'{name}.npz' for name in ('ours', 'theirs'))
  np.savez(ours, **d4rl_arrays(EPISODES))
  np.savez(theirs, **d4rl_arrays(MANY))
  real = exchange.make_rows

  def while_another_imports(*args):
    monkeypatch.setattr(exchange, 'make_rows', real)
    do_import(theirs, 'npz')
    return real(*args)

  monkeypatch.setattr(exchange, 'make_rows', while_another_imports)
  with pytest.raises(UserError, match='is there already, of another source'):
    do_import(ours, 'npz')
  assert len(load(do_import(theirs, 'npz')).reward) == len(slow_rows(MANY).reward)


@pytest.mark.parametrize('form', ['d4rl', 'minari', 'npz'])
def test_the_order_of_dict_observations_goes_out_and_comes_back(
  form, own_data, do_import, tmp_path
):
  data, keys = own_data(own_rows()), {'desired': 2, 'achieved': 1}
  provenance.write(data, {'observation_keys': keys})
  target = export(data, form, tmp_path)
  back = do_import(target, form, env_name='Goal-v0', allow_other_env=True)
  assert list(provenance.read(back)['observation_keys'].items()) == list(keys.items())


@pytest.mark.parametrize('fault', ['no room', 'OSError', 'RuntimeError', 'KeyboardInterrupt'])
@pytest.mark.parametrize('form', ['d4rl', 'minari', 'npz'])
def test_an_export_that_fails_leaves_nothing(form, fault, own_data, tmp_path, monkeypatch):
  data = own_data(own_rows())
  if fault == 'no room':
    monkeypatch.setattr(files, 'free', lambda folder: 100.0)
  else:
    error = {'OSError': OSError, 'RuntimeError': RuntimeError}.get(fault, KeyboardInterrupt)

    def fail(*_):
      raise error('of the disk')

    for module, name in ((os, 'replace'), (os, 'rename'), (os, 'link')):
      monkeypatch.setattr(module, name, fail)
  before = sorted(tmp_path.rglob('*'))
  with pytest.raises(KeyboardInterrupt if fault == 'KeyboardInterrupt' else UserError) as raised:
    export(data, form, tmp_path)
  if fault == 'no room':
    assert 'No space left' in str(raised.value) or 'data take up to' in str(raised.value)
  left = [path for path in tmp_path.rglob('*') if path not in before]
  assert not [path for path in left if not path.is_dir()]
  assert not [path for path in left if 'unfinished' in path.name]


@pytest.mark.parametrize('form', ['d4rl', 'minari', 'npz'])
def test_of_two_exports_to_one_target_one_is_there_and_whole(
  form, own_data, do_import, tmp_path, monkeypatch
):
  path, real = own_data(own_rows()), FORMATS[form].write

  def while_another_exports(made, asked):
    monkeypatch.setattr(FORMATS[form], 'write', real)
    others = asked.rows._replace(reward=-asked.rows.reward)
    monkeypatch.setattr(exchange, 'Export', lambda *args, **kw: asked._replace(rows=others))
    export(path, form, tmp_path)
    real(made, asked)

  monkeypatch.setattr(FORMATS[form], 'write', while_another_exports)
  with pytest.raises(UserError, match='is there already, and was not when this began'):
    export(path, form, tmp_path)
  target = 'ours/mine-v0' if form == 'minari' else str(tmp_path / f'mine.{form}')
  data = do_import(target, form, env_name=None)
  assert_same_bits(load(data), own_rows()._replace(reward=-own_rows().reward))
  assert not list(tmp_path.rglob('unfinished*'))


# --- The policy that collected the data -----------------------------------------------------------


def numpy_policy(n_states=17, n_actions=6, units=(9, 8), seed=0):
  """The arrays of a policy as D4RL stores it, and `(s) -> mean, log σ` of it."""
  random = np.random.default_rng(seed)
  arrays, n_in = {}, n_states
  for name, n_out in (
    ('fc0', units[0]), ('fc1', units[1]), ('last_fc', n_actions), ('last_fc_log_std', n_actions)
  ):  # fmt: skip
    arrays[f'{name}/weight'] = random.normal(size=[n_out, n_in]).astype(np.float32) / 3
    arrays[f'{name}/bias'] = random.normal(size=n_out).astype(np.float32)
    n_in = n_out if name.startswith('fc') else n_in
  arrays['last_fc_log_std/bias'] += np.linspace(-2, 2, n_actions, dtype=np.float32)

  def layer(name, x):
    return x @ arrays[f'{name}/weight'].T.astype(np.float64) + arrays[f'{name}/bias']

  def policy(s):
    h = np.maximum(layer('fc1', np.maximum(layer('fc0', s), 0)), 0)
    return layer('last_fc', h), np.clip(layer('last_fc_log_std', h), -20, 2)

  return arrays, policy


def numpy_log_density(policy, s, a):
  mean, log_std = policy(s)
  z = np.arctanh(np.clip(a, -0.999, 0.999).astype(np.float64))
  normal = -0.5 * ((z - mean) / np.exp(log_std)) ** 2 - log_std - np.log(2 * np.pi) / 2
  return (normal - np.log(1 - np.tanh(z) ** 2)).sum(-1)


@pytest.fixture(scope='module')
def collected():
  """Episodes of a policy on states that are no cheetah's, and the policy."""
  arrays, policy = numpy_policy()
  random = np.random.default_rng(3)
  episodes = [Episode(random, 40, TIME_LIMIT, 17, 6) for _ in range(5)]
  log_probs = []
  for e in episodes:
    mean, log_std = policy(e.o[:-1])
    z = mean + np.exp(log_std) * random.normal(size=mean.shape)
    e.a = np.tanh(z).astype(np.float32)
    normal = -0.5 * ((z - mean) / np.exp(log_std)) ** 2 - log_std - np.log(2 * np.pi) / 2
    log_probs.append((normal - np.log(1 - np.tanh(z) ** 2 + 1e-6)).sum(-1))
  words = dict(nonlinearity=np.bytes_('relu'), output_distribution=np.bytes_('tanh_gaussian'))
  more = {f'metadata/policy/{name}': x for name, x in {**arrays, **words}.items()}
  more['infos/action_log_probs'] = np.concatenate(log_probs)
  return d4rl_arrays(episodes, **more, **METADATA), policy


CHEETAH = dict(env_name=None, data_name=None)


@pytest.mark.parametrize('transposed', [False, True])
def test_the_policy_of_a_file_is_kept_beside_the_data(
  transposed, collected, do_import, tmp_path, caplog
):
  arrays, policy = collected
  if transposed:
    arrays = {k: x.T if k.endswith('/weight') else x for k, x in arrays.items()}
  file = write_hdf5(tmp_path / 'halfcheetah_medium-v2.hdf5', arrays)
  with caplog.at_level(logging.INFO, 'absl'):
    data = do_import(file, **CHEETAH)
  assert data.endswith('/HalfCheetah-v2/halfcheetah-medium-v2/0/data')
  assert 'its log-densities are' in caplog.text and not [
    r for r in caplog.records if r.levelno >= logging.WARNING
  ]
  box = Box.of(environments.make_batch('HalfCheetah-v2', 1, 0).action_spec)
  path = os.path.join(os.path.dirname(data), 'agent_behavior')
  actor = policy_loader.load_actor(path, 17, box, 'behavior policy')
  rows = load(data)
  want = numpy_log_density(policy, rows.s1, rows.a1)
  np.testing.assert_allclose(behavior.log_densities(actor, rows.s1, rows.a1), want, atol=0.02)
  mean, log_std = policy(rows.s1)
  got = actor(tf.constant(rows.s1))
  np.testing.assert_allclose(got.log_std, log_std, atol=1e-4)
  np.testing.assert_allclose(got.mode(), np.tanh(mean), atol=1e-4)
  assert log_std.max() == 2  # the clip is at work


@pytest.mark.parametrize('transposed', [False, True])
@pytest.mark.parametrize('units', [(9, 8), (8, 8), (17, 8), (17, 17), (8, 6), (6, 6)])
def test_square_layers_are_of_the_order_of_the_others(units, transposed):
  arrays, policy = numpy_policy(units=units)
  if transposed:
    arrays = {k: x.T if k.endswith('/weight') else x for k, x in arrays.items()}
  words = dict(nonlinearity='relu', output_distribution='tanh_gaussian')
  s = np.random.default_rng(5).normal(size=[50, 17]).astype(np.float32)
  mean, _ = policy(s)
  stored = StoredPolicy({**arrays, **words}, s, np.zeros([50, 6], np.float32), None)
  np.testing.assert_allclose(behavior.make_actor(stored)(s).mode(), np.tanh(mean), atol=1e-4)


def test_layers_of_both_orders_are_refused():
  arrays, _ = numpy_policy()
  arrays['fc1/weight'] = arrays['fc1/weight'].T
  words = dict(nonlinearity='relu', output_distribution='tanh_gaussian')
  s, a = np.zeros([50, 17], np.float32), np.zeros([50, 6], np.float32)
  with pytest.raises(UserError, match=r'fc1/weight is \[9, 8\], where 9 numbers go in'):
    behavior.make_actor(StoredPolicy({**arrays, **words}, s, a, None))


def test_what_is_removed_is_forgotten(tmp_path):
  path = str(tmp_path / 'data')
  provenance.write(path, {'environment': {'used': ENV}})
  provenance.remove(path)
  provenance.remove(path)
  assert provenance.read(path) == {} and os.listdir(tmp_path) == []


@pytest.mark.parametrize('tells', [True, False])
def test_the_word_of_the_source_comes_before_a_guess_by_the_datas_name(
  tells, collected, do_import, tmp_path, caplog
):
  arrays = {k: x for k, x in collected[0].items() if not k.startswith(('metadata', 'infos'))}
  if tells:
    arrays['env_name'] = 'HalfCheetah-v4'
  np.savez(tmp_path / 'mine.npz', **arrays)
  names = dict(env_name=None, data_name='halfcheetah-medium')
  data = do_import(tmp_path / 'mine.npz', 'npz', **names)
  there = 'HalfCheetah-v4' if tells else 'HalfCheetah-v2'
  assert data.endswith(f'/{there}/halfcheetah-medium/0/data')
  said = 'does not tell its environment: it is taken for HalfCheetah-v2, as --data_name'
  assert (said in caplog.text) != tells


def test_the_policy_of_data_that_was_here_before_is_not_this_datas(collected, do_import, tmp_path):
  file = write_hdf5(tmp_path / 'halfcheetah_medium-v2.hdf5', collected[0])
  data = do_import(file, **CHEETAH)
  folder = os.path.dirname(data)
  for name in os.listdir(folder):
    if name.startswith('data'):
      os.remove(os.path.join(folder, name))
  arrays = {k: x for k, x in collected[0].items() if not k.startswith(('metadata', 'infos'))}
  with pytest.raises(UserError, match='no dataset'):
    behavior.compare(data, os.path.join(folder, 'agent_behavior'))
  clone = str(tmp_path / 'clone')
  box = Box.of(environments.make_batch('HalfCheetah-v2', 1, 0).action_spec)
  checkpoints.save(clone, policy=Actor(17, (8,), box, Rng(0)))
  assert do_import(write_hdf5(tmp_path / 'halfcheetah_medium-v2.hdf5', arrays), **CHEETAH) == data
  assert not checkpoints.exists(os.path.join(folder, 'agent_behavior'))
  with pytest.raises(UserError, match='does not hold the policy that collected it'):
    behavior.compare(data, clone)


def test_a_clone_is_compared_in_nats_with_the_policy_that_it_is_of(collected, do_import, tmp_path):
  arrays, policy = collected
  data = do_import(write_hdf5(tmp_path / 'halfcheetah_medium-v2.hdf5', arrays), **CHEETAH)
  rows, folder = load(data), os.path.dirname(data)
  true = os.path.join(folder, 'agent_behavior')
  assert '0.000 ± 0.000 nats' in behavior.compare(data, true)
  _, other = numpy_policy(seed=5)
  source = d4rl.read(str(tmp_path / 'halfcheetah_medium-v2.hdf5'), Options())
  clone = str(tmp_path / 'clone')
  checkpoints.save(
    clone, policy=behavior.make_actor(source.policy._replace(arrays={
      **source.policy.arrays, **numpy_policy(seed=5)[0]
    }))
  )  # fmt: skip
  gap = numpy_log_density(policy, rows.s1, rows.a1) - numpy_log_density(other, rows.s1, rows.a1)
  box = Box.of(environments.make_batch('HalfCheetah-v2', 1, 0).action_spec)
  actors = (policy_loader.load_actor(path, 17, box, 'clone') for path in (true, clone))
  found = behavior.clone_error(rows, *actors)
  assert abs(found.error - gap.mean()) < 0.02 * abs(gap.mean())
  assert found.error > 0 and abs(found.error - (found.true - found.clone)) < 1e-6
  assert abs(found.standard_error - gap.std() / np.sqrt(len(gap))) < 0.02 * found.standard_error


def test_brac_primal_takes_the_policy_of_the_data(collected, do_import, tmp_path):
  arrays, _ = collected
  data = do_import(write_hdf5(tmp_path / 'halfcheetah_medium-v2.hdf5', arrays), **CHEETAH)
  true = os.path.join(os.path.dirname(data), 'agent_behavior')
  gin.bind_parameter('brac_primal_agent.Agent.behavior_ckpt_file', true)
  run = dict(seed=0, batch_size=8, model_params=(((8, 8),), 2))
  log_dir = str(tmp_path / 'run')
  train_eval_offline(log_dir, data, 'brac_primal', 'HalfCheetah-v2', 10**6, 4, 1, **run)
  reader = checkpoints.Reader(os.path.join(log_dir, 'agent'))
  assert reader.read('agent/_b_net/_log_std_clip').tolist() == [-20, 2]
  np.testing.assert_array_equal(
    reader.read('agent/_b_net/_layers/0/kernel'), arrays['metadata/policy/fc0/weight'].T
  )
  # As a run that goes on, or an export of it, finds it.
  box = Box.of(environments.described('HalfCheetah-v2').action_spec)
  s = load(data).s1
  both = [policy_loader.load_clone(path, 17, box)(s) for path in (true, reader.path)]
  np.testing.assert_array_equal(both[0].log_std, both[1].log_std)


@pytest.mark.parametrize(
  'change, why',
  [
    (dict(nonlinearity=np.bytes_('tanh')), "'nonlinearity': 'tanh'"),
    (dict(output_distribution=np.bytes_('gaussian')), "'output_distribution': 'gaussian'"),
    ({'last_fc/weight': np.zeros([6, 5], np.float32)}, r'last_fc/weight is \[6, 5\]'),
    ({'fc1/bias': np.zeros([], np.float32)}, 'fc1/weight is'),
    ({'last_fc/bias': np.full([6], np.nan, np.float32)}, 'last_fc/bias are not all finite'),
  ],
)
def test_a_policy_of_another_kind_is_not_kept_and_that_is_said(
  change, why, collected, do_import, tmp_path, caplog
):
  arrays = {**collected[0], **{f'metadata/policy/{k}': x for k, x in change.items()}}
  with caplog.at_level(logging.WARNING, 'absl'):
    data = do_import(write_hdf5(tmp_path / 'halfcheetah_medium-v2.hdf5', arrays), **CHEETAH)
  (record,) = [r.getMessage() for r in caplog.records if 'not kept' in r.getMessage()]
  assert os.listdir(os.path.dirname(data)).count('agent_behavior.index') == 0
  assert re.search(why, record)
  assert provenance.read(data)['behavior_policy'].startswith('not kept: ')


class Arrived(Exception):
  """Ends an experiment where what the test asks about is over."""


def test_an_agent_that_reads_made_up_actions_is_warned_of(do_import, tmp_path, caplog, monkeypatch):
  def arrive(*_):
    raise Arrived

  monkeypatch.setattr('brac.train_eval_offline.Evaluator', arrive)
  path = write_hdf5(tmp_path / 'file.hdf5', d4rl_arrays(EPISODES))
  run = dict(seed=0, batch_size=8, model_params=(((8, 8),), 2))
  for keep_last, penalty in ((True, True), (True, False), (False, True)):
    data = do_import(path, keep_last=keep_last, sub_dir=str(keep_last))
    gin.bind_parameter('brac_dual_agent.Agent.value_penalty', penalty)
    caplog.clear()
    log_dir = str(tmp_path / f'run{keep_last}{penalty}')
    with caplog.at_level(logging.WARNING, 'absl'), pytest.raises(Arrived):
      train_eval_offline(log_dir, data, 'brac_dual', ENV, 10**6, 1, 1, **run)
    assert ('a next action that nobody took' in caplog.text) == (keep_last and penalty)


# --- What is in a dataset -------------------------------------------------------------------------


def test_a_description_tells_and_draws_what_is_in_a_dataset(do_import, tmp_path):
  scores = dict(ref_min_score=-10.0, ref_max_score=10.0)
  data = do_import(write_minari(tmp_path, 'my/mixed-v3', MANY, **scores), 'minari')
  text = description.describe(data, str(tmp_path / 'picture.png'))
  returns = np.array([e.r.sum(dtype=np.float64) for e in MANY if e.end != CUT_OFF])
  low = returns.min()
  for words in (
    f'return: {returns.mean():.1f} ± {returns.std():.1f}, from {low:.1f} over',
    f'score: {(returns.mean() + 10) * 5:.1f} ± {returns.std() * 5:.1f}, from',
    'by Minari', '"my/mixed-v3"', 'sha256', f'{len(returns)}, of 1 to 13 steps',
  ):  # fmt: skip
    assert words in text
  with open(tmp_path / 'picture.png', 'rb') as f:
    assert f.read(8) == b'\x89PNG\r\n\x1a\n'


def test_where_no_picture_can_be_drawn_the_text_says_so(own_data, tmp_path):
  text = description.describe(own_data(own_rows()), str(tmp_path / 'nowhere' / 'picture.png'))
  assert 'whole episodes: ' in text
  assert f'no picture: {tmp_path}/nowhere/picture.png cannot be written: No such file' in text


def test_a_dataset_of_our_own_is_described_too(own_data, tmp_path):
  text = description.describe(own_data(own_rows(published=True)), str(tmp_path / 'picture.png'))
  assert 'it does not tell whole episodes' in text


@pytest.mark.parametrize('knows_box', [True, False])
def test_what_is_drawn_as_the_box_is_the_box(knows_box, own_data, tmp_path, monkeypatch):
  drawn, data = {}, own_data(own_rows(published=True))
  if knows_box:
    provenance.write(data, {'action_box': {'low': [-9.0] * 2, 'high': [9.0] * 2}})
  monkeypatch.setattr(description, '_draw', lambda *args: drawn.update(zip(range(8), args)))
  description.describe(data, str(tmp_path / 'picture.png'))
  rows, _, _, low, high, whose = (drawn[i] for i in range(6))
  assert (whose == 'the box') == knows_box
  np.testing.assert_array_equal(low, [-9] * 2 if knows_box else rows.a1.min(axis=0))
  np.testing.assert_array_equal(high, [9] * 2 if knows_box else rows.a1.max(axis=0))


def test_the_programs_import_describe_and_export(tmp_path, start):
  np.savez(tmp_path / 'mine.npz', **d4rl_arrays(EPISODES))
  root = f'--root_dir={tmp_path / "root"}'

  def run(program, *flags):
    run = start(program, *flags, cwd=tmp_path)
    run.wait()
    return run

  done = run('import_data', '--source=mine.npz', root, f'--env_name={ENV}')
  folder = tmp_path / 'root' / ENV / 'mine' / '0'
  assert done.status == 0 and f'53 rows are at {folder}/data' in done.stderr
  told = run('import_data', f'--describe={folder}')
  assert told.status == 0 and 'whole episodes: 8, of 1 to 10 steps' in told.stdout
  assert (folder / 'data.png').exists()
  names = [root, f'--env_name={ENV}', '--data_name=mine']
  done = run('export_data', '--target=out/mine.hdf5', *names)
  assert done.status == 0 and (tmp_path / 'out' / 'mine.hdf5').exists()
  failed = run('export_data', '--target=mine.hdf5', '--format=d5rl', *names)
  assert failed.status == 1
  near = "there are d4rl, minari, npz; did you mean 'd4rl'?"
  assert failed.stderr == f'export_data: --format d5rl: {near}\n'
  failed = run('import_data', '--source=a.npz', '--source=mine.npz', root)
  assert failed.status == 1
  twice = 'import_data: --source is given more than once; an import is of one source\n'
  assert failed.stderr == twice
  failed = run('import_data', '--source=nosuch.hdf5', root)
  assert failed.status == 1
  assert failed.stderr == 'import_data: --source nosuch.hdf5: no file is there\n'
