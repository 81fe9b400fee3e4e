"""Which clone a run compares with, and what is said of one that does not fit its data."""

import json
import os
import shlex

import gin
import numpy as np
import pytest
import tensorflow as tf

from brac import behavior, checkpoints, clones, results, rng
from brac.data.transitions import Transitions
from brac.data_config import project_folder
from brac.errors import UserError
from brac.networks import Actor, Box
from brac.rng import Rng

PARAMETER = 'brac_primal_agent.Agent.behavior_ckpt_file'
BOX = Box(np.full(1, -2, np.float32), np.full(1, 2, np.float32))
PLACE = 'Pendulum-v1/d/n300'


def actor(seed=0, mean=0.0):
  """An actor whose actions are about `2 tanh(mean)` in every state, with a σ of 0.08."""
  b = Actor(3, (8,), BOX, rng.Rng(seed))
  kernel, bias = b.variables[-1], b.variables[-2]
  if kernel.shape.rank == 1:
    kernel, bias = bias, kernel
  kernel.assign(kernel / 100)
  bias.assign([mean, 0.0])
  return b


def data_of(b, n=3000, seed=1):
  """Transitions whose actions are drawn from an actor."""
  rows = Transitions.zeros(n, 3, 1)
  rows.s1[:] = np.random.default_rng(seed).normal(size=rows.s1.shape)
  rows.a1[:] = b(tf.constant(rows.s1)).sample(Rng(seed))[0]
  return clones.Data.of(rows)


def save_clone(folder, b=None, data=None):
  path = os.path.join(folder, 'agent_behavior')
  if data is None:
    checkpoints.save(path, policy=b or actor())
  else:
    clones.save(path, data, policy=b)
  return path


def bind(own=(), places=(), data=None, command=''):
  """Binds as a run does; returns what is bound then."""
  clones.bind(PARAMETER, 3, BOX, [str(path) for path in own], clones.Lookup(places, command), data)
  return gin.query_parameter(PARAMETER)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
  """A folder that stands for `trained_policies`."""
  folder = tmp_path / 'trained_policies'
  monkeypatch.setattr(clones, 'project_folder', lambda name: str(tmp_path / name))
  return folder


# --- Where it is looked for -----------------------------------------------------------------------


def test_a_clone_is_taken_from_the_nearest_place(tmp_path):
  root = tmp_path / 'learn'
  paths = clones.places('bc', str(root), PLACE, 'mine', 7)
  shipped = project_folder('trained_policies')
  assert paths == [
    os.path.join(folder, PLACE, 'bc', place, 'agent_behavior')
    for folder in (str(root), shipped)
    for place in ('mine/7', 'mine/0', '0/7', '0/0')
  ]
  for path in (paths[3], paths[2], paths[1], paths[0]):
    save_clone(os.path.dirname(path))
    assert bind(places=paths) == path
    with pytest.raises(RuntimeError):  # the lock on the configuration is back
      gin.finalize()
      gin.bind_parameter(PARAMETER, 'another')
    gin.clear_config()


def test_a_second_run_in_a_process_looks_for_a_clone_of_its_own(tmp_path):
  first, second = (save_clone(tmp_path / name) for name in ('first', 'second'))
  assert bind(places=[first]) == first
  assert bind(places=[second]) == second


def test_a_clone_that_is_half_trained_is_named(tmp_path, caplog):
  for step, warned in ((2, True), (5, False)):
    gin.clear_config()
    caplog.clear()
    results.write_progress(str(tmp_path), step, 5)
    bind(places=[save_clone(tmp_path)])
    assert ('has not come to its end' in caplog.text) == warned


def test_equal_places_are_looked_at_once(tmp_path):
  paths = clones.places('bc', str(tmp_path), PLACE, '0', 0)
  assert len(paths) == len(set(paths)) == 2


def test_a_clone_that_the_user_names_stays(tmp_path):
  gin.bind_parameter(PARAMETER, 'mine')
  assert bind(places=[save_clone(tmp_path)]) == 'mine'


def test_without_a_clone_the_error_has_the_command(tmp_path):
  command = shlex.join(['python', '-m', 'brac.train_offline', '--gin_file=bc.gin'])
  with pytest.raises(UserError) as error:
    bind(places=[str(tmp_path / 'a'), str(tmp_path / 'b')], command=command)
  for text in (PARAMETER, str(tmp_path / 'a'), str(tmp_path / 'b'), command):
    assert text in str(error.value)


# --- Of which data it is --------------------------------------------------------------------------


def test_the_likelihood_is_that_of_the_density(tmp_path):
  b = actor(mean=0.5)
  data = data_of(b)
  data.a[::7], data.a[1::7] = 2.0, -2.0  # the edges, where it would be infinite
  pi = b(tf.constant(data.s))
  z = np.arctanh(np.clip(data.a / 2, -0.999, 0.999))
  sigma = np.exp(pi.log_std)
  log_density = -0.5 * ((z - pi.mean) / sigma) ** 2 - np.log(np.sqrt(2 * np.pi) * sigma)
  log_density -= np.log(2 * (1 - np.tanh(z) ** 2))
  assert data.mean_log_likelihood(b) == pytest.approx(np.mean(log_density), rel=1e-4)


def test_a_clone_of_the_data_is_taken_without_a_warning(tmp_path, caplog):
  caplog.set_level('INFO', 'absl')
  b = actor()
  data = data_of(b)
  path = save_clone(tmp_path, b, data)
  assert clones.origin(path).data == data.fingerprint
  assert bind(places=[path], data=data) == path
  assert not [r for r in caplog.records if r.levelname == 'WARNING']
  assert f'log b(a|s) is {data.mean_log_likelihood(b):.2f} here' in caplog.text


@pytest.mark.parametrize('mean, far', [(0.0, False), (1.5, True)])
def test_a_users_clone_of_other_data_is_taken_with_both_numbers(tmp_path, caplog, mean, far):
  b = actor()
  own, data = data_of(b), data_of(actor(mean=mean), seed=2)
  path = save_clone(tmp_path, b, own)
  assert bind(places=[path], data=data) == path
  (warning,) = [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']
  here, its_own = (d.mean_log_likelihood(b) for d in (data, own))
  assert f'{path} was cloned from other data' in warning
  assert f'is {here:.2f} here, {its_own:.2f} on its own data' in warning
  assert ('for uniform actions' in warning) == far == (here < -10)


def test_a_clone_that_is_named_is_compared_with_the_data_too(tmp_path, caplog, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  b = actor()
  save_clone(tmp_path, b, data_of(b))
  gin.bind_parameter(PARAMETER, '~/agent_behavior')
  assert bind(data=data_of(actor(mean=1.5))) == '~/agent_behavior'
  assert 'was cloned from other data' in caplog.text


def test_a_clone_that_tells_nothing_is_compared_with_uniform_actions(tmp_path, caplog):
  path = save_clone(tmp_path)  # as the published ones are
  bind(places=[path], data=data_of(actor()))
  assert not caplog.records
  bind(places=[path], data=data_of(actor(mean=1.5)))
  assert f'{path} does not fit these data: the mean of log b(a|s) is -' in caplog.text
  assert '-1.39 for uniform actions' in caplog.text  # the box is 4 wide


def test_the_likelihood_is_of_rows_from_everywhere(monkeypatch):
  monkeypatch.setattr(clones, '_N_ROWS', 5)
  rows = Transitions.zeros(41, 3, 1)
  rows.s1[:, 0] = rows.a1[:, 0] = np.arange(41)
  data = clones.Data.of(rows)
  assert data.s[:, 0].tolist() == data.a[:, 0].tolist() == [0, 10, 20, 30, 40]


def test_in_a_narrow_box_far_from_zero_the_likelihood_is_a_number():
  low, high = (np.full(1, x, np.float32) for x in (1000, 1000.01))
  b = Actor(3, (8,), Box(low, high), rng.Rng(0))
  s = np.random.default_rng(0).normal(size=[50, 3]).astype(np.float32)
  a = np.where(np.arange(50)[:, None] % 7, np.float32(1000.005), high)
  here = clones.Data('', s, a).mean_log_likelihood(b)
  assert np.isfinite(here)
  assert behavior.log_densities(b, s, a).mean() == pytest.approx(here, rel=1e-5)


# The tolerance is 0.2 nats for each number of an action, to either side.
@pytest.mark.parametrize('n_actions', [1, 2])
@pytest.mark.parametrize('sign', [-1, 1])
@pytest.mark.parametrize('nats, taken', [(0.15, True), (0.25, False)])
def test_how_far_a_likelihood_may_be_grows_with_the_actions(
  n_actions, sign, nats, taken, tmp_path, shipped
):
  box = Box(np.full(n_actions, -2, np.float32), np.full(n_actions, 2, np.float32))
  b = Actor(3, (8,), box, rng.Rng(0))
  rows = Transitions.zeros(3000, 3, n_actions)
  rows.a1[:] = b(tf.constant(rows.s1)).sample(Rng(1))[0]
  data = clones.Data.of(rows)
  path = save_clone(shipped / PLACE, b)
  entry = {'data': 'another', 'mean_log_likelihood': data.mean_log_likelihood(b)}
  entry['mean_log_likelihood'] += sign * nats * n_actions
  listed = {f'{PLACE}/agent_behavior': {'command': 'python', 'origin': entry}}
  (shipped / 'MANIFEST.json').write_text(json.dumps({'policies': listed}))
  parameters = (PARAMETER, 3, box, [], clones.Lookup([path], ''), data)
  if taken:
    clones.bind(*parameters)
  else:
    with pytest.raises(UserError, match='being of other data'):
      clones.bind(*parameters)


def test_a_shipped_clone_that_tells_nothing_is_not_taken_for_data_below_uniform(tmp_path, shipped):
  path = save_clone(shipped / PLACE, actor())
  with pytest.raises(UserError, match='being of other data'):
    bind(places=[path], data=data_of(actor(mean=1.5)))


@pytest.mark.parametrize(
  'fingerprint, mean, taken',
  [
    ('the same', 0.0, True),
    ('another', 0.0, True),  # the same policy's, from another seed or machine
    (None, 0.0, True),
    ('another', 0.3, False),
    ('another', 1.5, False),
    (None, 1.5, False),
  ],
)
def test_a_shipped_clone_is_taken_for_data_that_it_fits(
  tmp_path, shipped, caplog, fingerprint, mean, taken
):
  b = actor()
  path = save_clone(shipped / PLACE, b)
  data, own = data_of(actor(mean=mean), seed=2), data_of(b)
  entry = {
    'data': data.fingerprint if fingerprint == 'the same' else fingerprint,
    'mean_log_likelihood': own.mean_log_likelihood(b),
  }
  listed = {f'{PLACE}/agent_behavior': {'command': 'python', 'origin': entry}}
  (shipped / 'MANIFEST.json').write_text(json.dumps({'policies': listed}))
  if taken:
    assert bind(places=[path], data=data) == path
  else:
    with pytest.raises(UserError, match=f'that fits, {path} being of other data; this makes one'):
      bind(places=[path], data=data)
    assert f'is {data.mean_log_likelihood(b):.2f} here' in caplog.text


def test_every_shipped_clone_tells_how_likely_its_data_are():
  root = project_folder('trained_policies')
  with open(os.path.join(root, 'MANIFEST.json'), encoding='utf-8') as f:
    places = [place for place in json.load(f)['policies'] if place.endswith('agent_behavior')]
  origins = {place: clones.origin(os.path.join(root, place)) for place in places}
  assert len(places) == 20
  for place, origin in origins.items():
    assert origin.mean_log_likelihood is not None, place
    assert ('/eps1/' not in place) or origin.data.startswith('1000000 transitions, crc32 '), place


# --- Going on -------------------------------------------------------------------------------------


def saved_run(folder, b, name='agent'):
  """A save of a run that has the clone b."""
  held = tf.Module()
  held._b_net = b
  checkpoints.save(str(folder / name), keep=True, policy=actor(9), agent=held)
  return str(folder / name)


def test_a_run_that_goes_on_keeps_its_clone_whatever_is_nearer(tmp_path):
  own = saved_run(tmp_path / 'run', actor(5))
  assert bind([own], [save_clone(tmp_path / 'nearer', actor(6))]) == own


def test_a_run_that_goes_on_has_its_clone_where_that_is_gone(tmp_path, caplog):
  own = saved_run(tmp_path / 'run', actor(5))
  gin.bind_parameter(PARAMETER, str(tmp_path / 'gone'))
  assert bind([own]) == own
  assert f'{tmp_path}/gone is gone' in caplog.text


def test_a_damaged_save_gives_way_to_the_one_before(tmp_path):
  for _ in range(2):
    own = saved_run(tmp_path / 'run', actor(5))
  os.truncate(own + '.data-00000-of-00001', 10)
  assert bind([own]) == own + '.old'


def test_a_clone_that_is_named_is_the_one_that_the_run_was_begun_with(tmp_path):
  own = saved_run(tmp_path / 'run', actor(5))
  moved = save_clone(tmp_path / 'moved', actor(5))
  gin.bind_parameter(PARAMETER, moved)
  assert bind([own]) == moved
  gin.bind_parameter(PARAMETER, save_clone(tmp_path / 'other', actor(6)))
  with pytest.raises(UserError, match=f'{own} .* begun with another clone than .*/other/'):
    bind([own])
