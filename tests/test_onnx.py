"""Policies in ONNX: ours that go out, run by onnxruntime alone, and others that come in."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from brac import checkpoints, environments, policies
from brac.agents import frozen
from brac.errors import UserError
from brac.networks import VAE, Actor, Box, Critic, Perturbation
from brac.policy_loader import load_policy
from brac.rng import INIT, Rng
from brac.tf_agents_bridge import BoundedTensorSpec

onnxruntime = pytest.importorskip('onnxruntime', reason='pip install brac[onnx]')
onnx = pytest.importorskip('onnx', reason='pip install brac[onnx]')

from brac import onnx_model  # noqa: E402
from brac.onnx_policy import OnnxPolicy  # noqa: E402

_TESTS = os.path.dirname(os.path.abspath(__file__))
N = 1000
# Two actions in a box that is not around 0.
SPECS = (
  BoundedTensorSpec([3], tf.float32, [-1, -1, -8], [1, 1, np.inf], 'observation'),
  BoundedTensorSpec([2], tf.float32, [-2.0, 0.0], [1.0, 0.5], 'action'),
)


def states(n):
  return np.random.default_rng(0).normal(size=[n, 3]).astype(np.float32)


def moved(*networks):
  for network in networks:  # biases start at 0
    for i, v in enumerate(network.trainable_variables):
      v.assign(v + 0.2 * Rng(3, INIT, i).normal(v.shape))
  return networks


def of_actor(units, log_std_clip=None, critic=True, specs=SPECS):
  n_states, box = specs[0].shape[0], Box.of(specs[1])
  actor, q = moved(
    Actor(n_states, units, box, Rng(1, INIT), log_std_clip),
    Critic(n_states, box.n_actions, units or (8,), Rng(2, INIT)),
  )
  found = {'mode': policies.ActorPolicy(*specs, actor, mode=True)}
  found['sample'] = policies.ActorPolicy(*specs, actor)
  return {**found, 'max_q': policies.MaxQPolicy(*specs, actor, q)} if critic else found


def of_bcq(units, specs=SPECS):
  n_states, box = specs[0].shape[0], Box.of(specs[1])
  nets = moved(
    VAE(n_states, units, box, Rng(1, INIT)),
    Perturbation(n_states, units, box, 0.15, Rng(2, INIT)),
    Critic(n_states, box.n_actions, units or (8,), Rng(3, INIT)),
  )
  return {'main': policies.BCQPolicy(*specs, *nets, 7)}


def drawn(draws, shape, rows_last=False):
  """The noise of a policy, `[N, ...]`: it is the first draw of its generator."""
  *outer, width = shape
  if rows_last:
    return tf.transpose(draws.normal([*outer, N, width]), [1, 0, 2])
  return tf.reshape(draws.normal([N * int(np.prod(outer)), width]), [N, *shape])


@pytest.mark.parametrize(
  'made, noises',
  [
    (lambda: of_actor((32, 16)), {'sample': [2], 'max_q': [10, 2]}),
    (lambda: of_actor(()), {'sample': [2], 'max_q': [10, 2]}),
    (lambda: of_actor((16,), (-1.5, 0.5)), {'sample': [2], 'max_q': [10, 2]}),
    (lambda: of_bcq((32, 16)), {'main': [7, 4]}),
    (lambda: of_bcq(()), {'main': [7, 4]}),
  ],
  ids=['actor', 'linear', 'clipped', 'bcq', 'linear bcq'],
)
def test_exported_policies_act_as_ours_where_onnxruntime_is_alone(made, noises, tmp_path):
  ours = made()
  (tmp_path / 'out').mkdir()
  onnx_model.save('Some-v0', ours, str(tmp_path / 'out'))
  s = states(N)
  np.savez(tmp_path / 'in.npz', **{
    'observation': s,
    **{
      f'noise of {name}': drawn(Rng(5), shape, name == 'max_q') for name, shape in noises.items()
    },
  })  # fmt: skip
  script = [os.path.join(_TESTS, 'run_onnx.py'), tmp_path / 'out', tmp_path / 'in.npz']
  env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  done = subprocess.run(
    [sys.executable, *script, tmp_path / 'actions.npz'], env=env, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  there = np.load(tmp_path / 'actions.npz')
  assert set(there) == set(ours)
  low, high = SPECS[1].minimum, SPECS[1].maximum
  for name, policy in ours.items():
    a, clear = there[name], np.ones(N, bool)
    assert (a >= low).all() and (a <= high).all() and a.std(0).min() > 0.01, name
    if name in ('max_q', 'main'):
      # Of two samples whose Q differ by rounding alone either may be taken.
      two = np.sort(q_of_samples(policy, s), 1)[:, -2:]
      clear = two[:, 1] - two[:, 0] > 1e-5
      assert clear.sum() > 0.95 * N
    own = policy(s, Rng(5)).numpy()
    np.testing.assert_allclose(a[clear], own[clear], rtol=1e-5, atol=2e-6, err_msg=name)
  if 'max_q' in ours:
    assert np.any(there['max_q'] != there['sample'])


def q_of_samples(policy, s):
  """Q of the samples that a policy chooses from, `[N, n]`."""
  *nets, q = policy.networks
  if isinstance(policy, policies.MaxQPolicy):
    a, n = tf.transpose(nets[0](s).sample(Rng(5), 10)[0], [1, 0, 2]), 10
  else:
    (vae, xi), n = nets, policy.n_samples
    repeated = tf.repeat(s, n, 0)
    a = xi(repeated, vae.sample(repeated, Rng(5)))
  return tf.reshape(q(tf.repeat(s, n, 0), tf.reshape(a, [-1, 2])), [N, n]).numpy()


def test_policies_of_other_kinds_are_known_as_such():
  class Bold(policies.ActorPolicy):
    def act(self, s, rng):
      return 2 * super().act(s, rng)

  (actor,) = of_actor((8,))['mode'].networks
  assert all(map(onnx_model.knows, [*of_actor((8,)).values(), *of_bcq((8,)).values()]))
  assert not any(map(onnx_model.knows, [policies.RandomPolicy(*SPECS), Bold(*SPECS, actor)]))


def test_the_json_says_what_a_consumer_has_to_respect(tmp_path):
  parts = {'where': 1, 'goal': 2}
  onnx_model.save('Some-v0', of_actor((8,), critic=False), str(tmp_path), parts)
  assert sorted(os.listdir(tmp_path)) == ['mode.onnx', 'policy.json', 'sample.onnx']
  about = json.loads((tmp_path / 'policy.json').read_text('utf-8'))
  assert about['env_name'] == 'Some-v0'
  observation, action = about['observation'], about['action']
  assert list(observation['parts'].items()) == list(parts.items())
  assert observation['shape'] == ['batch', 3] and action['shape'] == ['batch', 2]
  assert observation['minimum'] == [-1, -1, -8] and observation['maximum'] == [1, 1, None]
  assert action['minimum'] == [-2, 0] and action['maximum'] == [1, 0.5]
  assert observation['normalisation'].startswith('none: as the environment gives them')
  assert about['policies']['sample'] == {
    'file': 'sample.onnx',
    'inputs': {'observation': ['batch', 3], 'noise': ['batch', 2]},
    'outputs': {'action': ['batch', 2]},
  }


def test_an_exported_policy_plays_in_gymnasium_as_ours_does(tmp_path):
  gymnasium = pytest.importorskip('gymnasium', reason='pip install brac[gymnasium]')
  with environments.make_batch('gymnasium:Pendulum-v1', 1, [7]) as batch:
    specs = batch.observation_spec, batch.action_spec
    found = of_actor((32, 16), specs=specs)
    policy, s, ended = found['mode'], batch.reset(), False
    ours = []
    while not ended:
      action = policy(s, Rng(0)).numpy()
      s, reward, (ended,) = batch.step(action)
      ours.append((action[0, 0], reward[0]))
  onnx_model.save('gymnasium:Pendulum-v1', found, str(tmp_path))
  session = onnxruntime.InferenceSession(str(tmp_path / 'mode.onnx'))
  env = gymnasium.make('Pendulum-v1')
  (s, _), ended, there = env.reset(seed=7), False, []
  while not ended:
    (action,) = session.run(['action'], {'observation': s[np.newaxis]})
    s, reward, terminated, truncated, _ = env.step(action[0])
    ended = terminated or truncated
    there.append((action[0, 0], reward))
  assert len(there) == len(ours) == 200
  np.testing.assert_allclose(there, ours, rtol=1e-3, atol=1e-3)
  assert np.std(there, axis=0).min() > 0.01
  np.testing.assert_allclose(np.sum(there, axis=0)[1], np.sum(ours, axis=0)[1], rtol=1e-5)


def test_a_file_is_the_same_bytes_each_time(tmp_path):
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
    onnx_model.save('Some-v0', {**of_actor((8,)), **of_bcq((8,))}, str(tmp_path / name))
  for name in ('max_q.onnx', 'main.onnx', 'policy.json'):
    assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()


# --- Policies from elsewhere ----------------------------------------------------------------------


def write(path, inputs, outputs, nodes, opset=11):
  """A model as others write them; weights are of ones."""
  kinds = {np.float32: onnx.TensorProto.FLOAT, np.float64: onnx.TensorProto.DOUBLE}
  sides = (
    [onnx.helper.make_tensor_value_info(k, kinds[t], shape) for k, (t, shape) in side.items()]
    for side in (inputs, outputs)
  )
  kind = next(iter(inputs.values()))[0]
  weight = onnx.numpy_helper.from_array(np.arange(6, dtype=kind).reshape(3, 2) / 10, 'W')
  nodes = [onnx.helper.make_node(op, names, [output]) for op, names, output in nodes]
  graph = onnx.helper.make_graph(nodes, 'g', *sides, [weight])
  opsets = [onnx.helper.make_opsetid('', opset)]
  onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=7), path)


LINEAR = [('MatMul', ['input_0', 'W'], 'x'), ('Tanh', ['x'], 'output_0')]
KINDS = {
  # As d3rlpy writes them: for one state at a time.
  'd3rlpy': (dict(input_0=(np.float32, [1, 3])), dict(output_0=(np.float32, [1, 2])), LINEAR),
  'any number': (
    dict(input_0=(np.float32, ['n', 3])), dict(output_0=(np.float32, ['n', 2])), LINEAR
  ),
  'no batch': (dict(input_0=(np.float32, [3])), dict(output_0=(np.float32, [2])), LINEAR),
  'doubles': (
    dict(input_0=(np.float64, ['n', 3])), dict(output_0=(np.float64, ['n', 2])), LINEAR
  ),
  'more outputs': (
    dict(input_0=(np.float32, ['n', 3])),
    dict(value=(np.float32, ['n', 3]), action=(np.float32, ['n', 2])),
    [('Neg', ['input_0'], 'value'), *LINEAR[:1], ('Tanh', ['x'], 'action')],
  ),
}  # fmt: skip


@pytest.mark.parametrize('kind', KINDS)
def test_a_policy_of_another_library_acts(kind, tmp_path):
  path = str(tmp_path / 'policy.onnx')
  write(path, *KINDS[kind])
  s = states(7)
  expected = np.clip(
    np.tanh(s @ (np.arange(6, dtype=np.float32).reshape(3, 2) / 10)), [-2, 0], [1, 0.5]
  )
  policy = load_policy(['onnx', path, ['none'], ()], *SPECS)
  np.testing.assert_allclose(policy(s, Rng(0)), expected, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(frozen.load(path, 'main', *SPECS)(s, Rng(0)), expected, atol=1e-6)
  noisy = load_policy(['onnx', path, ['gaussian', 0.1], ()], *SPECS)(s, Rng(0))
  assert 0 < np.abs(noisy - expected).mean() < 0.3
  with pytest.raises(UserError, match="has no 'max_q'; there is 'main'"):
    frozen.load(path, 'max_q', *SPECS)


def test_our_own_sample_comes_back_with_noise_of_the_seed(tmp_path):
  ours = {**of_actor((8,)), **of_bcq((8,))}
  onnx_model.save('Some-v0', ours, str(tmp_path))
  s = np.repeat(states(1), 20_000, 0)
  for name in ('sample', 'max_q', 'main'):
    policy = load_policy(['onnx', str(tmp_path / f'{name}.onnx'), ['none'], ()], *SPECS)
    a, again, other = (policy(s, Rng(seed)).numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, again)
    assert np.any(a != other)
    own = ours[name](s, Rng(1)).numpy()
    np.testing.assert_allclose(a.mean(0), own.mean(0), atol=0.02)
    np.testing.assert_allclose(a.std(0), own.std(0), atol=0.02)


def test_what_a_policy_is_shows_in_its_checksum(tmp_path):
  path = str(tmp_path / 'policy.onnx')
  seen = []
  for nodes in (LINEAR, [LINEAR[0], ('Sin', ['x'], 'output_0')]):
    write(path, *KINDS['any number'][:2], nodes)
    seen.append(OnnxPolicy(path, 3, 2).content)
  (tmp_path / 'policy.onnx.data').write_bytes(b'weights')
  seen.append(OnnxPolicy(path, 3, 2).content)
  assert len(set(seen)) == 3 and seen[2] == seen[1] + b'weights'


FLOAT = np.float32
FOUR = dict(input_0=(FLOAT, ['n', 4]))
UNFIT = {
  'states': (FOUR, {}, [], r'takes input_0 \[n, 4\]; states are \[B, 3\]'),
  'pictures': (dict(input_0=(FLOAT, [1, 3, 8])), {}, [], r'takes input_0 \[1, 3, 8\]; states are'),
  'many': (dict(input_0=(FLOAT, [5, 3])), {}, [], 'takes 5 states at once, and no other number'),
  'inputs': (
    dict(input_0=(FLOAT, ['n', 3]), h=(FLOAT, ['n', 8])), {}, [],
    r'takes input_0 \[n, 3\], h \[n, 8\]; needed is one input, of states',
  ),
  'actions': (
    dict(input_0=(FLOAT, ['n', 3])), dict(output_0=(FLOAT, ['n', 3])),
    [('Tanh', ['input_0'], 'output_0')],
    r'does not fit: for states \[2, 3\] its output_0 is \[2, 3\], not \[2, 2\]',
  ),
}  # fmt: skip


@pytest.mark.parametrize('what', UNFIT)
def test_a_file_of_another_shape_is_an_error_of_one_line(what, tmp_path):
  inputs, outputs, nodes, error = UNFIT[what]
  path = str(tmp_path / 'policy.onnx')
  if not nodes:
    outputs, nodes = dict(output_0=inputs['input_0']), [('Tanh', ['input_0'], 'output_0')]
  write(path, inputs, outputs, nodes)
  with pytest.raises(UserError, match=error) as raised:
    load_policy(['onnx', path, ['none'], ()], *SPECS)
  assert '\n' not in str(raised.value)


def test_no_file_or_another_or_no_extra_is_an_error_of_one_line(tmp_path, monkeypatch):
  path = str(tmp_path / 'policy.onnx')
  for content, error in (
    (None, f'no onnx policy at {path}'),
    (b'', f'the onnx policy {path} does not load: '),
    (b'not a model', f'the onnx policy {path} does not load: '),
  ):
    if content is not None:
      (tmp_path / 'policy.onnx').write_bytes(content)
    with pytest.raises(UserError, match=error) as raised:
      load_policy(['onnx', path, ['none'], ()], *SPECS)
    assert '\n' not in str(raised.value)
  with pytest.raises(UserError, match="the checkpoint in a policy config is a path, not ''"):
    load_policy(['onnx', '', ['none'], ()], *SPECS)
  monkeypatch.setitem(sys.modules, 'onnxruntime', None)
  with pytest.raises(UserError, match=r'takes pip install brac\[onnx\]'):
    load_policy(['onnx', path, ['none'], ()], *SPECS)


# --- The programs ---------------------------------------------------------------------------------


def test_an_exported_policy_collects_data(tmp_path, start):
  def run(program, *args):
    run = start(program, '--env_name=Pendulum-v1', *args, cwd=tmp_path)
    run.wait()
    return run

  env = environments.described('Pendulum-v1')
  actor = Actor(3, (8,), Box.of(env.action_spec), Rng(1, INIT))
  agent = tf.Module()
  agent._q_nets = [[Critic(3, 1, (8,), Rng(2, INIT))]]
  checkpoints.save(str(tmp_path / 'agent'), policy=actor, agent=agent)
  export = (f'--checkpoint={tmp_path}/agent', f'--output_dir={tmp_path}/out', '--format=onnx')
  done = run('export_policy', *export, '--sample')
  assert done.status == 1 and done.stderr.startswith('export_policy: --sample: ')
  done = run('export_policy', *export)
  assert done.status == 0, done.stderr
  files = ['max_q.onnx', 'mode.onnx', 'policy.json', 'sample.onnx']
  assert sorted(os.listdir(tmp_path / 'out')) == files
  (tmp_path / 'dcfg_onnx.py').write_text(
    'def get_data_config(env_name, policy_root_dir=None):\n'
    "  path = policy_root_dir + '/max_q.onnx'\n"
    "  return [['p', ['onnx', path, ['none'], ()], 1.0]]\n"
  )
  done = run(
    *('collect_data', f'--root_dir={tmp_path}/data', f'--config_dir={tmp_path}'),
    *('--config_file=dcfg_onnx', f'--policy_root_dir={tmp_path}/out', '--n_samples=400'),
    *('--n_eval_episodes=0', '--data_name=d'),
  )
  assert done.status == 0, done.stderr
  reader = checkpoints.Reader(str(tmp_path / 'data/Pendulum-v1/d/0/data'))
  s, a = reader.read('data/_s1'), reader.read('data/_a1')
  assert len(a) == 400 and len(np.unique(a)) > 300 and np.abs(a).max() <= 2
  assert np.corrcoef(a[:, 0], actor(s).mode().numpy()[:, 0])[0, 1] > 0.1
