"""Policies, how they mix, what TF-Agents does with them, and how they are loaded."""

import json
import os
import sys

import gin
import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from brac import checkpoints
from brac.agents import frozen
from brac.errors import UserError
from brac.networks import VAE, Actor, Box, Critic, Perturbation
from brac.policies import (
  N_MAX_Q_SAMPLES,
  ActorPolicy,
  BCQPolicy,
  EpsilonPolicy,
  GaussianPolicy,
  MaxQPolicy,
  Policy,
  RandomPolicy,
  best_of,
)
from brac.policy_loader import load_actor, load_clone, load_policy
from brac.rng import ACT, INIT, Rng
from brac.rollouts import compiled
from brac.tf_agents_bridge import BoundedTensorSpec, TimeStep

_PUBLISHED = os.path.join(
  os.path.dirname(os.path.abspath(__file__)), '..', '..', 'shared', 'data', 'published_format'
)
pytestmark = pytest.mark.filterwarnings('ignore:Encoding a StructuredValue')

OBSERVATION = tf.TensorSpec([3], tf.float32, 'observation')
# Two actions in a box that is not around 0.
LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([1.0, 0.5], np.float32)
ACTION = BoundedTensorSpec([2], tf.float32, LOW, HIGH, 'action')
SPECS = OBSERVATION, ACTION


class Constant(Policy):
  """One action, whatever the state."""

  def __init__(self, action, observation_spec=OBSERVATION, action_spec=ACTION):
    super().__init__(observation_spec, action_spec)
    self._constant = tf.constant(action, tf.float32)

  def act(self, s, rng):
    return tf.repeat(self._constant[None], tf.shape(s)[0], 0)


def states(n, seed=0):
  return np.random.default_rng(seed).normal(size=[n, 3]).astype(np.float32)


def make_actor(observation_spec=OBSERVATION, action_spec=ACTION, seed=1):
  n_states, box = observation_spec.shape[0], Box.of(action_spec)
  return Actor(n_states, (8,), box, Rng(seed, INIT))


def make_critic(observation_spec=OBSERVATION, action_spec=ACTION, seed=2):
  return Critic(observation_spec.shape[0], action_spec.shape[0], (8,), Rng(seed, INIT))


def make_bcq(observation_spec=OBSERVATION, action_spec=ACTION, n_samples=10):
  n_states, box = observation_spec.shape[0], Box.of(action_spec)
  vae = VAE(n_states, (8,), box, Rng(3, INIT))
  xi = Perturbation(n_states, (8,), box, 0.2, Rng(4, INIT))
  critic = make_critic(observation_spec, action_spec)
  return BCQPolicy(observation_spec, action_spec, vae, xi, critic, n_samples)


# Each policy by its name, given the specs.
POLICIES = {
  'random': RandomPolicy,
  'mode': lambda *specs: ActorPolicy(*specs, make_actor(*specs), mode=True),
  'sample': lambda *specs: ActorPolicy(*specs, make_actor(*specs)),
  'max_q': lambda *specs: MaxQPolicy(*specs, make_actor(*specs), make_critic(*specs)),
  'bcq': make_bcq,
  'gaussian': lambda *specs: GaussianPolicy(RandomPolicy(*specs), 0.3),
  'eps': lambda *specs: EpsilonPolicy(ActorPolicy(*specs, make_actor(*specs), mode=True), 0.3),
  'gaussianeps': lambda *specs: EpsilonPolicy(
    GaussianPolicy(ActorPolicy(*specs, make_actor(*specs)), 0.3), 0.3
  ),
}
DETERMINISTIC = {
  'mode': POLICIES['mode'],
  'eps 0': lambda *specs: EpsilonPolicy(POLICIES['mode'](*specs), 0.0),
  'gaussian 0': lambda *specs: GaussianPolicy(POLICIES['mode'](*specs), 0.0),
}


def in_box(a, low=LOW, high=HIGH):
  return bool(np.all(a >= low) and np.all(a <= high))


# --- What each does -------------------------------------------------------------------------------


@pytest.mark.parametrize('name', POLICIES)
def test_actions_are_a_batch_in_the_box_and_a_function_of_states_and_rng(name):
  policy = POLICIES[name](*SPECS)
  for n in (1, 5):
    a = policy.act(states(n), Rng(0)).numpy()
    assert a.shape == (n, 2) and a.dtype == np.float32 and in_box(a)
    np.testing.assert_array_equal(policy.act(states(n), Rng(0)).numpy(), a)


@pytest.mark.parametrize('name', [name for name in POLICIES if name not in ('mode', 'bcq')])
def test_another_step_of_the_rng_gives_other_actions(name):
  policy = POLICIES[name](*SPECS)
  a, b = (policy.act(states(50), Rng(0, 0, step)).numpy() for step in (0, 1))
  assert np.any(a != b)


@pytest.mark.parametrize('name', [name for name in POLICIES if name != 'mode'])
def test_rows_of_the_same_state_draw_for_themselves(name):
  a = POLICIES[name](*SPECS).act(np.repeat(states(1), 200, 0), Rng(0)).numpy()
  assert len(np.unique(a, axis=0)) > 20


def test_random_actions_are_uniform_over_the_box():
  n = 20000
  a = RandomPolicy(*SPECS).act(np.zeros([n, 3], np.float32), Rng(5)).numpy()
  u = (a - LOW) / (HIGH - LOW)
  assert in_box(a)
  for i in range(2):
    counts = np.histogram(u[:, i], 10, [0, 1])[0]
    assert np.sum((counts - n / 10) ** 2 / (n / 10)) < 40
  assert abs(np.corrcoef(u.T)[0, 1]) < 0.03


def test_the_mode_is_the_actors_mode_whatever_the_rng():
  actor = make_actor()
  policy = ActorPolicy(*SPECS, actor, mode=True)
  s = states(6)
  np.testing.assert_array_equal(policy.act(s, Rng(0)), actor(s).mode())
  np.testing.assert_array_equal(policy.act(s, Rng(1)), policy.act(s, Rng(0)))


def test_a_sample_has_the_actors_distribution():
  actor = make_actor()
  s = np.repeat(states(1), 20000, 0)
  a = ActorPolicy(*SPECS, actor).act(s, Rng(0)).numpy()
  box, pi = Box.of(ACTION), actor(s[:1])
  z = np.arctanh((a.astype(np.float64) - box.means) / box.mags)
  noise = (z - pi.mean.numpy()) / np.exp(pi.log_std.numpy())
  np.testing.assert_allclose(noise.mean(0), 0, atol=0.03)
  np.testing.assert_allclose(noise.std(0), 1, atol=0.03)


def test_gaussian_noise_has_the_standard_deviation_and_is_clipped():
  n = 20000
  s = np.zeros([n, 3], np.float32)
  inside = GaussianPolicy(Constant([-0.5, 0.25]), 0.02).act(s, Rng(0)).numpy()
  np.testing.assert_allclose(inside.std(0), 0.02, rtol=0.03)
  np.testing.assert_allclose(inside.mean(0), [-0.5, 0.25], atol=1e-3)
  # A standard deviation is in the actions' unit: in the narrow dimension it meets the bounds.
  wide = GaussianPolicy(Constant([-0.5, 0.25]), 0.25).act(s, Rng(0)).numpy()
  assert in_box(wide)
  np.testing.assert_allclose(wide[:, 0].std(), 0.25, rtol=0.03)
  # Beyond one standard deviation on either side, 15.87 % each.
  for bound in (0.0, 0.5):
    np.testing.assert_allclose(np.mean(wide[:, 1] == bound), 0.1587, atol=0.01)


@pytest.mark.parametrize(
  'wrapped',
  [
    lambda policy: GaussianPolicy(policy, 0.1),
    lambda policy: EpsilonPolicy(policy, 0.3),
    lambda policy: EpsilonPolicy(GaussianPolicy(policy, 0.1), 0.3),
  ],
  ids=['gaussian', 'eps', 'gaussianeps'],
)
def test_a_policy_that_leaves_the_box_is_wrapped_as_the_one_at_its_edge(wrapped):
  s = states(300)
  beyond, at_edge = (
    wrapped(Constant(a))(s, Rng(0)).numpy() for a in ([9.0, -9.0], [HIGH[0], LOW[1]])
  )
  np.testing.assert_array_equal(beyond, at_edge)
  # Half of the noise takes it into the box.
  assert np.mean(beyond[:, 0] < HIGH[0]) > 0.2 and np.mean(beyond[:, 1] > LOW[1]) > 0.2


def test_gaussian_noise_is_added_to_a_draw_of_the_policy():
  actor = make_actor()
  s = states(20)
  base = ActorPolicy(*SPECS, actor).act(s, Rng(0)).numpy()
  noisy = GaussianPolicy(ActorPolicy(*SPECS, actor), 1e-4).act(s, Rng(0)).numpy()
  np.testing.assert_allclose(noisy, base, atol=1e-3)
  assert np.all(noisy != base)


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
  epsilon=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
  n=st.integers(1, 300),
  seed=st.integers(0, 1000),
)
def test_epsilon_mixes_row_by_row(epsilon, n, seed):
  s = states(n, seed)
  base = ActorPolicy(*SPECS, make_actor(), mode=True)
  a = EpsilonPolicy(base, epsilon).act(s, Rng(seed)).numpy()
  is_base = a == base.act(s, Rng(0)).numpy()
  # A row is one or the other as a whole.
  assert np.all(is_base[:, 0] == is_base[:, 1])
  assert in_box(a)
  explored = np.count_nonzero(~is_base[:, 0])
  slack = 5 * np.sqrt(n * epsilon * (1 - epsilon)) + (0 < epsilon < 1)
  assert abs(explored - n * epsilon) <= slack


def test_epsilon_draws_each_row_for_itself_and_uniformly_from_the_box():
  n = 20000
  policy = EpsilonPolicy(Constant([0.5, 0.125]), 0.3)
  a = policy.act(np.zeros([n, 3], np.float32), Rng(0)).numpy()
  explores = np.any(a != np.float32([0.5, 0.125]), axis=1)
  assert abs(explores.mean() - 0.3) < 0.02
  # A row says nothing about the next one, in this step or at the next.
  assert abs(np.corrcoef(explores[:-1], explores[1:])[0, 1]) < 0.03
  later = policy.act(np.zeros([n, 3], np.float32), Rng(0, 0, 1)).numpy()
  assert abs(np.corrcoef(explores, np.any(later != np.float32([0.5, 0.125]), 1))[0, 1]) < 0.03
  u = (a[explores] - LOW) / (HIGH - LOW)
  for i in range(2):
    counts = np.histogram(u[:, i], 10, [0, 1])[0]
    assert np.sum((counts - len(u) / 10) ** 2 / (len(u) / 10)) < 40


def test_gaussianeps_explores_or_is_noisy():
  n, epsilon = 20000, 0.4
  policy = EpsilonPolicy(GaussianPolicy(Constant([-0.5, 0.25]), 1e-3), epsilon)
  a = policy.act(np.zeros([n, 3], np.float32), Rng(0)).numpy()
  noisy = np.all(np.abs(a - [-0.5, 0.25]) < 6e-3, axis=1)
  assert abs(noisy.mean() - (1 - epsilon)) < 0.02
  np.testing.assert_allclose(a[noisy].std(0), 1e-3, rtol=0.05)
  assert not np.any(np.all(a == np.float32([-0.5, 0.25]), axis=1))


def test_best_of_takes_the_largest_q_of_each_row():
  critic = make_critic()
  s = states(7)
  a = np.random.default_rng(1).uniform(LOW, HIGH, [7, 5, 2]).astype(np.float32)
  q = np.stack([critic(s, a[:, k]).numpy() for k in range(5)], 1)
  best = best_of(tf.constant(a), tf.constant(s), critic).numpy()
  np.testing.assert_array_equal(best, a[np.arange(7), q.argmax(1)])
  assert len(set(q.argmax(1))) > 1


def test_max_q_takes_the_best_of_ten_samples():
  actor, critic = make_actor(), make_critic()
  s = states(7)
  a = MaxQPolicy(*SPECS, actor, critic).act(s, Rng(9)).numpy()
  candidates = actor(s).sample(Rng(9), 10)[0].numpy()
  assert N_MAX_Q_SAMPLES == 10
  q = np.stack([critic(s, c).numpy() for c in candidates])
  np.testing.assert_array_equal(a, candidates[q.argmax(0), np.arange(7)])
  np.testing.assert_allclose(critic(s, a), q.max(0), rtol=1e-6)


def test_bcq_takes_the_best_of_its_perturbed_samples():
  s = states(7)
  alone = make_bcq(n_samples=1)
  np.testing.assert_array_equal(
    alone.act(s, Rng(9)), alone._xi(s, alone._vae.sample(tf.constant(s), Rng(9)))
  )
  policy = make_bcq(n_samples=6)
  repeated = np.repeat(s, 6, 0)
  candidates = policy._xi(repeated, policy._vae.sample(tf.constant(repeated), Rng(9)))
  q = policy._q(repeated, candidates).numpy().reshape(7, 6)
  best = candidates.numpy().reshape(7, 6, 2)[np.arange(7), q.argmax(1)]
  np.testing.assert_array_equal(policy.act(s, Rng(9)), best)
  assert len(set(q.argmax(1))) > 1


# --- As TF-Agents asks ----------------------------------------------------------------------------


def time_step(s):
  n = len(s)
  return TimeStep(tf.zeros(n, tf.int32), tf.zeros(n), tf.ones(n), tf.constant(s))


@pytest.mark.parametrize('name', POLICIES)
def test_action_takes_a_seed(name):
  policy = POLICIES[name](*SPECS)
  s = states(40)
  a, again = (policy.action(time_step(s), seed=(3, 5)).action.numpy() for _ in range(2))
  np.testing.assert_array_equal(a, again)
  assert a.shape == (40, 2) and in_box(a)
  if name != 'mode':
    assert np.any(policy.action(time_step(s), seed=(3, 6)).action.numpy() != a)
    # Without a seed each call draws anew.
    b, c = (policy.action(time_step(s)).action.numpy() for _ in range(2))
    assert np.any(b != c)


@pytest.mark.parametrize('name', POLICIES)
def test_variables_are_those_of_the_networks(name):
  policy = POLICIES[name](*SPECS)
  kernels = {'random': 0, 'gaussian': 0, 'max_q': 4, 'bcq': 8}.get(name, 2)
  assert sum(len(v.shape) == 2 for v in policy.variables()) == kernels


# --- Loading --------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A checkpoint with a policy of 8 hidden units, and one with none."""
  folder = tmp_path_factory.mktemp('policies')
  actor = make_actor()
  checkpoints.save(str(folder / 'agent'), policy=actor, global_step=tf.Variable(3))
  checkpoints.save(str(folder / 'replay'), data=tf.Module(), more=tf.Variable(0))
  checkpoints.save(
    str(folder / 'part'), policy=actor._layers[0], _layers=actor._layers, step=tf.Variable(0)
  )
  flat = tf.Module()
  flat._layers = [tf.Module()]
  flat._layers[0].kernel = tf.Variable(tf.zeros(5))
  checkpoints.save(str(folder / 'flat'), policy=flat)
  return folder, actor


def test_load_takes_the_policy_of_a_checkpoint(saved):
  folder, actor = saved
  policy = load_policy(['load', str(folder / 'agent'), ['none'], (8,)], *SPECS)
  s = states(5)
  # `none` is a sample of the policy.
  np.testing.assert_array_equal(policy.act(s, Rng(0)), actor(s).sample(Rng(0))[0])


def test_load_actor_takes_the_sizes_that_are_there(saved):
  folder, actor = saved
  loaded = load_actor(str(folder / 'agent'), 3, Box.of(ACTION), 'behavior policy')
  np.testing.assert_array_equal(loaded(states(5)).mode(), actor(states(5)).mode())


def test_randwalk_is_the_uniform_policy():
  policy = load_policy(['randwalk', '', ['none'], ()], *SPECS)
  np.testing.assert_array_equal(
    policy.act(states(5), Rng(0)), RandomPolicy(*SPECS).act(states(5), Rng(0))
  )


def test_randinit_is_an_untrained_actor_of_its_units_and_seed():
  config = ['randinit', '', ['none'], (4, 5)]
  a, b, c = (load_policy(config, *SPECS, seed=seed) for seed in (1, 1, 2))
  shapes = [v.shape.as_list() for v in a.variables() if len(v.shape) == 2]
  assert sorted(shapes) == [[3, 4], [4, 5], [5, 4]]
  s = states(5)
  np.testing.assert_array_equal(a.act(s, Rng(0)), b.act(s, Rng(0)))
  assert np.any(a.act(s, Rng(0)).numpy() != c.act(s, Rng(0)).numpy())


@pytest.fixture
def module(tmp_path, monkeypatch):
  """A module of scripted policies in a folder of its own."""
  (tmp_path / 'scripted_policies.py').write_text("""
import numpy as np

number = 3

def pull(observations):
  observations *= -0.7  # which is a copy
  return observations[:, :2]

def noisy(observations, rng):
  return rng.normal(size=[len(observations), 2])

def narrow(observations, rng):
  return observations[:, :1]

def lost(observations, rng):
  return observations[:, :2] * np.nan

def broken(observations, rng):
  raise KeyError('torso\\nand more')
""")
  yield str(tmp_path)
  sys.modules.pop('scripted_policies', None)
  assert sys.path[0] != str(tmp_path) and os.listdir(tmp_path) == ['scripted_policies.py']


def load_scripted(name, module, wrapper=('none',)):
  return load_policy(['python', name, list(wrapper), ()], *SPECS, folder=module)


def test_a_python_policy_is_a_function_of_the_states_within_the_box(module):
  policy = load_scripted('scripted_policies:pull', module)
  s = states(40)
  a = tf.function(lambda s: policy(s, Rng(0)), autograph=False)(s).numpy()
  np.testing.assert_array_equal(a, np.clip(np.float32(-0.7) * s[:, :2], LOW, HIGH))
  np.testing.assert_array_equal(s, states(40))


def test_a_python_policy_draws_from_the_seed_and_the_step(module):
  policy = load_scripted('scripted_policies:noisy', module)
  s = np.zeros([2000, 3], np.float32)
  a, again = (policy.act(s, Rng(0, 0, 4)).numpy() for _ in range(2))
  np.testing.assert_array_equal(a, again)
  assert abs(a.mean()) < 0.1 and abs(a.std() - 1) < 0.1
  for other in (Rng(1, 0, 4), Rng(0, 0, 5)):
    assert np.all(policy.act(s, other).numpy() != a)


def test_a_python_policy_is_wrapped_as_others_are(module):
  plain = load_scripted('scripted_policies:pull', module)
  policy = load_scripted('scripted_policies:pull', module, ('gaussianeps', 0.1, 0.25))
  s = states(50)
  expected = EpsilonPolicy(GaussianPolicy(plain, 0.1), 0.25).act(s, Rng(4))
  np.testing.assert_array_equal(policy.act(s, Rng(4)), expected)


def test_another_source_is_another_policy(module):
  def variables():
    sys.modules.pop('scripted_policies', None)
    return [int(v) for v in load_scripted('scripted_policies:pull', module).variables()]

  before = variables()
  assert before == variables()
  with open(os.path.join(module, 'scripted_policies.py'), 'a', encoding='utf-8') as f:
    f.write('# another')
  assert before != variables()


@pytest.mark.parametrize(
  'name, error',
  [
    ('scripted_policies', "a python policy is named as 'module:function', not 'scripted_policies'"),
    (None, "a python policy is named as 'module:function', not None"),
    ('scripted:pull', "the policy scripted:pull does not load: .*No module named 'scripted'"),
    ('scripted_policies:push', "scripted_policies:push does not load: .*no attribute 'push'"),
    ('scripted_policies:number', 'scripted_policies:number does not load: .*not a callable'),
  ],
)
def test_a_python_policy_that_is_not_there_is_an_error(module, name, error):
  with pytest.raises(UserError, match=error) as raised:
    load_scripted(name, module)
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
  'name, error',
  [
    ('narrow', r'gave actions of shape \[5, 1\] for states of shape \[5, 3\], not \[5, 2\]$'),
    ('lost', 'gave an action that is not finite$'),
    ('broken', 'failed: KeyError: '),
  ],
)
def test_a_python_policy_that_fails_says_so_in_one_line(module, name, error):
  policy = load_scripted(f'scripted_policies:{name}', module)
  act = compiled([policy], 5, 0, ACT)
  with pytest.raises(UserError, match=f'the policy scripted_policies:{name} {error}') as raised:
    act(states(5), 0)
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize('ptype', ['randwalk', 'randinit', 'load'])
@pytest.mark.parametrize(
  'wrapper, wrapped',
  [
    (['none'], lambda policy: policy),
    (['eps', 0.25], lambda policy: EpsilonPolicy(policy, 0.25)),
    (('eps', 1), lambda policy: EpsilonPolicy(policy, 1.0)),
    (['gaussian', 0.1], lambda policy: GaussianPolicy(policy, 0.1)),
    (['gaussianeps', 0.1, 0.25], lambda policy: EpsilonPolicy(GaussianPolicy(policy, 0.1), 0.25)),
  ],
)
def test_each_wrapper_wraps_each_policy(saved, ptype, wrapper, wrapped):
  path = str(saved[0] / 'agent')
  plain = load_policy([ptype, path, ['none'], (8,)], *SPECS)
  policy = load_policy([ptype, path, wrapper, (8,)], *SPECS)
  s = states(50)
  np.testing.assert_array_equal(policy.act(s, Rng(4)), wrapped(plain).act(s, Rng(4)))


@pytest.mark.parametrize(
  'config, error',
  [
    (['lod', 'agent', ['none'], (8,)], r"unknown ptype 'lod'.*did you mean 'load'\?"),
    (['randwlk', '', ['none'], ()], r"unknown ptype 'randwlk'.*did you mean 'randwalk'\?"),
    (['load', 'agent', ['esp', 0.1], (8,)], r"unknown wrapper 'esp'.*did you mean 'eps'\?"),
    (['load', 'agent', ['gauss', 0.1], (8,)], r"unknown wrapper 'gauss'.*mean 'gaussian'\?"),
    (['load', 'agent', ['eps'], (8,)], r"'eps' takes 1 number"),
    (['load', 'agent', ['eps', 0.1, 0.2], (8,)], r"'eps' takes 1 number"),
    (['load', 'agent', ['none', 0.1], (8,)], r"'none' takes 0 number"),
    (['load', 'agent', ['gaussianeps', 0.1], (8,)], r"'gaussianeps' takes 2 numbers"),
    (['load', 'agent', ['gaussian', -0.1], (8,)], r"'gaussian' takes .* at least 0"),
    (['load', 'agent', ['gaussian', '0.1'], (8,)], r"'gaussian' takes 1 number"),
    (['load', 'agent', ['gaussian', float('nan')], (8,)], r"'gaussian' takes 1 number"),
    (['load', 'agent', ['eps', 1.5], (8,)], r'probability'),
    (['load', 'agent', ['gaussianeps', 0.1, 1.5], (8,)], r'probability'),
    (['load', 'agent', 'none', (8,)], r"a wrapper .* is a list .*, not 'none'"),
    (['load', 'agent', [], (8,)], r"a wrapper .* is a list such as \['none'\] or .*, not \[\]"),
    (['load', 'agent', {'none': 1}, (8,)], r"a wrapper .* is a list .*, not \{'none': 1\}"),
    (['load', 'agent', None, (8,)], r'a wrapper .* is a list .*, not None'),
    (['load', 'agent', ['eps', True], (8,)], r"'eps' takes 1 number"),
    (['load', 'flat', ['none'], (8,)], r'flat is no policy of dense layers: .*0/kernel is \[5\]'),
    (['load', 'agent', ['none']], r'reads \[ptype, checkpoint, wrapper, hidden_units\]'),
    ('randwalk', r'reads \[ptype, checkpoint, wrapper, hidden_units\]'),
    (None, r'reads \[ptype, checkpoint, wrapper, hidden_units\]'),
    (['load', 'agnt', ['none'], (8,)], r'no policy at .*agnt; .* there is: agent, .*train_online'),
    (['load', 'agent', ['none'], (8, 8)], r'3-8-4, asked for are 3-8-8-4'),
    (['load', 'agent', ['none'], (200, 200)], r'3-8-4, asked for are 3-200-200-4'),
    (['load', 'agent', ['none'], ()], r'3-8-4, asked for are 3-4'),
    (['load', 'agent', ['none'], 8], r'hidden_units'),
    (['load', 'agent', ['none'], '8'], r'hidden|asked for'),
    (['load', None, ['none'], (8,)], r'checkpoint'),
    (['load', '', ['none'], (8,)], r"the checkpoint in a policy config is a path, not ''"),
    (['load', 'replay', ['none'], (8,)], r'replay holds no policy'),
    (['load', 'part', ['none'], (8,)], r'part holds no policy'),
    (['randinit', '', ['none'], 8], r'hidden_units'),
    (['randinit', '', ['none'], None], r'hidden_units'),
    (['randinit', '', ['none'], (0,)], r'hidden_units'),
    (['randinit', '', ['none'], (8.5,)], r'hidden_units'),
  ],
)  # fmt: skip
def test_a_policy_config_that_does_not_read_is_an_error(saved, monkeypatch, config, error):
  monkeypatch.chdir(saved[0])
  with pytest.raises(UserError, match=error) as raised:
    load_policy(config, *SPECS)
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
  'n_states, n_actions, error',
  [(4, 2, '3-8-4, asked for are 4-8-4'), (3, 1, '3-8-4, asked for are 3-8-2')],
)
def test_a_policy_of_another_environment_is_an_error(saved, n_states, n_actions, error):
  specs = (
    tf.TensorSpec([n_states], tf.float32),
    BoundedTensorSpec([n_actions], tf.float32, -1, 1),
  )
  with pytest.raises(UserError, match=error):
    load_policy(['load', str(saved[0] / 'agent'), ['none'], (8,)], *specs)


def test_a_policy_of_another_order_of_dict_observations_is_refused(tmp_path):
  loads = [
    lambda path: load_policy(['load', path, ['none'], (8,)], *SPECS),
    lambda path: frozen.load(path, 'sample', *SPECS),
    lambda path: load_clone(path, 3, Box.of(ACTION)),
    lambda path: frozen.load(path, None, *SPECS),
  ]

  def save(name, **settings):
    path = str(tmp_path / name)
    texts = {key: tf.Variable(json.dumps(value)) for key, value in settings.items()}
    checkpoints.save(path, policy=make_actor(), **texts)
    return path

  own = save('own/agent_behavior', settings={'dict_observations.keys': "('goal', 'where')"})
  save('online/agent_final', settings={'dict_observations.keys': "('goal', 'where')"})
  beside = save('online/agent_partial_target')
  usual = save('usual/agent', settings={'dict_observations.keys': '()'})
  flat = save('flat/agent', settings={'--env_name': "'Hopper-v2'"})
  for load in loads:
    load(usual)
    for path in (own, beside):
      with pytest.raises(UserError, match='as goal, where, now they are as their space .*: bind '):
        load(path)
  gin.bind_parameter('dict_observations.keys', ['goal', 'where'])
  for load in loads:
    for path in (own, beside, flat):
      load(path)
    with pytest.raises(UserError, match='as their space orders them, now they are as goal, where'):
      load(usual)


def test_no_path_is_said_of_the_policy_that_it_is_for():
  with pytest.raises(UserError, match="the behavior policy is the path of a checkpoint, not ''"):
    load_actor('', 3, Box.of(ACTION), 'behavior policy')


@pytest.fixture(scope='module')
def published():
  if not os.path.isdir(_PUBLISHED):
    pytest.skip(f'no published checkpoints at {_PUBLISHED}')
  return _PUBLISHED


@pytest.mark.parametrize('name', ['agent_behavior', 'agent'])
def test_a_published_policy_gives_its_published_actions(published, name):
  specs = (
    tf.TensorSpec([17], tf.float32),
    BoundedTensorSpec([6], tf.float32, -1, 1),
  )
  path = os.path.join(published, 'bc', name)
  expect = np.load(os.path.join(published, 'expected.npz'))
  actor = load_actor(path, 17, Box.of(specs[1]), 'behavior policy', (200, 200))
  pi = actor(expect['observations'])
  np.testing.assert_allclose(pi.mode(), expect['bc/mode'], atol=1e-5)
  np.testing.assert_allclose(
    pi.log_prob(tf.constant(expect['actions'])), expect['bc/log_density'], rtol=1e-4
  )
  policy = load_policy(['load', path, ['none'], (200, 200)], *specs)
  np.testing.assert_array_equal(policy.act(expect['observations'], Rng(1)), pi.sample(Rng(1))[0])
  with pytest.raises(UserError, match='17-200-200-12, asked for are 17-300-300-12'):
    load_policy(['load', path, ['none'], (300, 300)], *specs)
