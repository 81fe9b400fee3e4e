"""What any agent has to do, of the table or from elsewhere.

An agent that stands in `AGENTS` is tested by this file as it is: what is asked about comes from its
class, its parameters from its signature, its updates, targets and policies from itself.
"""

import functools
import inspect
import itertools
import math
import subprocess
import sys
from typing import NamedTuple

import gin
import numpy as np
import pytest
import tensorflow as tf
from agent_tools import assert_same_bits, files_of, scramble, step_uncompiled, variables, weights

from brac import agents, checkpoints, gin_config, rng
from brac.agents import loop
from brac.agents.agent import GIVEN, Agent
from brac.errors import UserError
from brac.rng import Rng
from brac.signatures import hands_on_to

EXAMPLE = 'td3_bc_agent:Agent'
NAMES = (*agents.AGENTS, EXAMPLE)


def parameters_of(name):
  """The parameters that gin binds, with their defaults."""
  found = inspect.signature(agents.load(name)).parameters.values()
  return {p.name: p.default for p in found if p.kind != p.VAR_KEYWORD}


def busy(name):
  """Parameters with which every part of an agent is at work from the second step on."""
  given = {}
  for parameter, default in parameters_of(name).items():
    if parameter.startswith('train_'):
      given[parameter] = True
    elif parameter == 'warm_start':
      given[parameter] = 0
    elif default == 0 and isinstance(default, float):  # switches something off
      given[parameter] = 0.1
  return given


@pytest.fixture
def make_busy(make_agent):
  return lambda name, **parameters: make_agent(name, **{**busy(name), **parameters})


# One step.


@pytest.mark.parametrize('name', NAMES)
def test_an_update_changes_its_own_variables_and_no_others(name, make_busy):
  an_agent = make_busy(name)
  keys = {v.ref(): key for key, v in variables(an_agent).items()}
  for update in an_agent.updates:
    before = weights(an_agent)
    loop.apply(update, an_agent.data.sample(8, Rng(0)), Rng(0))
    changed = {key for key, value in weights(an_agent).items() if np.any(value != before[key])}
    own = {keys[v.ref()] for v in update.variables}
    assert changed <= own | {key for key in before if key.startswith(f'optimizers/{update.name}/')}
    assert changed >= {keys[v.ref()] for v in update.kernels or update.variables}


@pytest.mark.parametrize('name', NAMES)
def test_targets_start_equal_to_their_sources(name, make_agent):
  for source, target in make_agent(name).targets():
    assert source is not target
    for x, y in zip(source.variables, target.variables):
      assert x is not y
      np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize('name', NAMES)
def test_targets_move_by_update_rate_every_update_freq_steps(name, make_agent):
  an_agent = make_agent(name, update_freq=3, update_rate=0.25)
  nets = an_agent.targets()
  followed = [(x, y) for pair in nets for x, y in zip(*(net.variables for net in pair))]
  for step in range(5 if followed else 0):
    before = [(x.numpy(), y.numpy()) for x, y in followed]
    an_agent.train(1)
    for (x, y), (_, target) in zip(before, followed):
      if step % 3:
        np.testing.assert_array_equal(target, y)
      else:
        np.testing.assert_allclose(target, y + 0.25 * (x - y), rtol=1e-6, atol=1e-7)
    if step == 3:
      assert any(np.any(target != y) for (_, y), (_, target) in zip(before, followed))


# A run.


def actions(an_agent, observations):
  policies = {**an_agent.policies(), 'acting': an_agent.acting_policy()}
  return {
    name: policy.act(tf.constant(observations), Rng(5, rng.EVALUATE)).numpy()
    for name, policy in policies.items()
  }


class Run(NamedTuple):
  """A run of 20 steps from seed 1, saved on the way at step 10."""

  path: str
  actions_at_10: dict
  state: dict
  info: dict


@pytest.fixture(scope='module')
def run(make_agent, transitions, tmp_path_factory):
  @functools.lru_cache(maxsize=None)
  def run(name):
    path = str(tmp_path_factory.mktemp('run') / 'agent')
    an_agent = make_agent(name, **busy(name), seed=1)
    an_agent.train(10)
    checkpoints.save(path, **an_agent.state)
    actions_at_10 = actions(an_agent, transitions.s1)
    info = an_agent.train(10)
    assert an_agent.step == 20
    return Run(path, actions_at_10, weights(an_agent), info)

  return run


@pytest.mark.parametrize('name', NAMES)
def test_the_same_seed_gives_the_same_bits_however_the_steps_are_called(name, make_busy, run):
  an_agent = make_busy(name, seed=1)
  for n in (1, 1, 1, 1, 5, 1, 1, 1, 7, 1):
    info = an_agent.train(n)
  assert_same_bits(weights(an_agent), run(name).state)
  assert info == run(name).info


@pytest.mark.parametrize('name', NAMES)
def test_a_long_call_whose_loop_is_unrolled_gives_the_bits_of_short_ones(name, make_busy):
  an_agent = make_busy(name, weight_decays=(0.1,), update_freq=3)
  n = loop._SHORT + 3
  begun = weights(an_agent)
  for steps in (n - 21, 20):
    an_agent.train(steps)
  told, short = an_agent.train(1), weights(an_agent)
  assert '_unrolled_loop' not in vars(an_agent.loop)
  for key, v in variables(an_agent).items():
    v.assign(begun[key])
  assert an_agent.train(n) == told
  assert '_unrolled_loop' in vars(an_agent.loop)
  assert_same_bits(weights(an_agent), short)


@pytest.mark.parametrize('name', NAMES)
def test_another_seed_gives_another_start(name, make_agent):
  one, other = (make_agent(name, seed=seed) for seed in (1, 2))
  pairs = [(u.kernels, v.kernels) for u, v in zip(one.updates, other.updates)]
  assert any(kernels for kernels, _ in pairs)
  for x, y in itertools.chain.from_iterable(zip(*pair) for pair in pairs):
    assert np.all(x.numpy() != y.numpy())


@pytest.mark.parametrize('name', NAMES)
def test_another_seed_gives_other_draws_from_the_same_start(name, make_busy):
  one, other = (make_busy(name, seed=seed) for seed in (1, 2))
  there = variables(other)
  for key, value in weights(one).items():
    if key != 'seed':
      there[key].assign(value)
  assert differ(
    *({f'{tag}': float(x) for tag, x in step_uncompiled(a).items()} for a in (one, other))
  )


@pytest.mark.parametrize('name', NAMES)
def test_training_tells_the_loss_of_each_update_and_the_norm_of_its_kernels(name, make_agent, run):
  info = run(name).info
  for update in make_agent(name, **busy(name)).updates:
    if 20 % update.every == 0:
      assert update.name + '_loss' in info
    assert bool(update.kernels) == (update.name + '_norm' in info)
  assert all(isinstance(value, float) and math.isfinite(value) for value in info.values())


@pytest.mark.parametrize('name', NAMES)
def test_policies_act_in_the_box_and_main_is_the_first(name, make_agent, transitions, action_spec):
  an_agent = make_agent(name)
  scramble(an_agent)
  assert list(an_agent.policies())[0] == 'main'
  assert an_agent.judged_by in an_agent.policies()
  for a in actions(an_agent, transitions.s1).values():
    assert a.shape == (40, 3) and a.dtype == np.float32
    assert np.all(a >= action_spec.minimum - 1e-6) and np.all(a <= action_spec.maximum + 1e-6)
    assert np.ptp(a, axis=0).min() > 0.01


# The saved state.


@pytest.mark.parametrize('name', NAMES)
def test_the_state_is_saved_under_its_keys_and_the_step_as_in_the_published_code(name, run):
  suffix = '/.ATTRIBUTES/VARIABLE_VALUE'
  keys = {k[: -len(suffix)] for k, _ in tf.train.list_variables(run(name).path) if suffix in k}
  assert keys == run(name).state.keys()
  assert {'policy', 'global_step', 'optimizers', 'seed'} <= {key.split('/')[0] for key in keys}
  step = checkpoints.Reader(run(name).path).read('global_step')
  assert step == 10 and step.dtype == np.int32


@pytest.mark.parametrize('name', NAMES)
def test_a_restored_agent_goes_on_as_the_one_that_never_stopped(name, make_busy, transitions, run):
  never_stopped = run(name)
  restored = make_busy(name, seed=2)
  before = actions(restored, transitions.s1)
  restored.restore(never_stopped.path)
  assert restored.step == 10
  assert_same_bits(actions(restored, transitions.s1), never_stopped.actions_at_10)
  trained = {v.ref() for u in restored.updates for v in u.variables}
  if any(v.ref() in trained for v in restored.policy.variables):
    assert all(np.any(before[p] != never_stopped.actions_at_10[p]) for p in before)
  assert restored.train(10) == never_stopped.info
  assert_same_bits(weights(restored), never_stopped.state)


def test_a_step_that_was_saved_in_64_bits_is_restored(make_agent, tmp_path):
  path = str(tmp_path / 'agent')
  older, restored = (make_agent('bc', seed=seed) for seed in (1, 2))
  older.train(3)
  step = tf.Variable(older.step, dtype=tf.int64)
  checkpoints.save(path, **{**older.state, 'global_step': step})
  assert checkpoints.Reader(path).read('global_step').dtype == np.int64
  restored.restore(path)
  assert restored.step == 3
  assert restored.train(2) == older.train(2)


@pytest.mark.parametrize('name', NAMES)
def test_a_checkpoint_without_optimizers_seed_and_step_is_restored_and_what_lacks_is_one_line(
  name, make_busy, tmp_path, caplog
):
  path = str(tmp_path / 'agent')
  published = make_busy(name)
  scramble(published)
  checkpoints.save(path, policy=published.policy, agent=published.saved)
  restored = make_busy(name, seed=5)
  lacking = {
    key: value
    for key, value in weights(restored).items()
    if key.startswith(('optimizers/', 'seed', 'global_step'))
  }
  with caplog.at_level('INFO', 'absl'):
    restored.restore(path)
  (message,) = caplog.messages
  assert message == f'{path} has no {", ".join(sorted(lacking))}: they start afresh'
  assert restored.step == 0
  assert_same_bits(
    weights(restored), {k: lacking.get(k, value) for k, value in weights(published).items()}
  )


@pytest.mark.parametrize('name', NAMES)
def test_a_checkpoint_of_other_sizes_changes_nothing(name, make_agent, tmp_path):
  path = str(tmp_path / 'agent')
  checkpoints.save(path, **make_agent(name, model_params=(((9, 8),), 2)).state)
  an_agent = make_agent(name, seed=1)
  before = weights(an_agent)
  with pytest.raises(UserError, match='does not fit the network asked for'):
    an_agent.restore(path)
  assert_same_bits(weights(an_agent), before)


# The parameters.


def common_changes(name):
  """Changes of what the experiments pass to every agent."""
  made = agents.load(name)
  numbers = {k: 2 if k == 'n_q' else default for k, default in made.NUMBERS.items()}

  def model_params(units, numbers):
    return (units, *numbers.values()) if numbers else units

  for i in range(len(made.UNITS)):
    units = tuple((9, 8) if j == i else (8, 8) for j in range(len(made.UNITS)))
    yield dict(model_params=model_params(units, numbers))
  for number in numbers:
    other = {**numbers, number: 3 if number == 'n_q' else 2 * numbers[number]}
    yield dict(model_params=model_params(((8, 8),), other))
  for i in range(len(made.OPTIMIZERS)):
    rates = (0.01 if j == i else 1e-3 for j in range(len(made.OPTIMIZERS)))
    yield dict(optimizers=tuple(('adam', rate) for rate in rates))
  for i in range(len(made.DECAYS)):
    yield dict(weight_decays=tuple(0.1 * (j == i) for j in range(len(made.DECAYS))))
  if 'q' in made.UNITS:
    yield dict(discount=0.5)


@pytest.fixture(scope='module')
def outcomes():
  return {}


@pytest.fixture
def outcome(make_agent, behavior_files, outcomes):
  """What two steps with some parameters lead to: the saved state and the last step's numbers."""

  def train(name, bindings, changes):
    gin.clear_config()
    files = files_of(name, behavior_files[0])
    bindings = {**files, **bindings}
    changes = {**changes, **dict.fromkeys(files, gin.REQUIRED)}
    for parameter, value in bindings.items():
      gin.bind_parameter(f'{agents.load(name).name}.{parameter}', value)
    an_agent = make_agent(name, **changes)
    info = {}
    for _ in range(2):
      info.update(step_uncompiled(an_agent))
    return {**weights(an_agent), **{f'info {tag}': value for tag, value in info.items()}}

  def remember(name, bindings, changes):
    key = repr((name, bindings, changes))
    if key not in outcomes:
      outcomes[key] = train(name, bindings, changes)
    return outcomes[key]

  return remember


def differ(one, other):
  return one.keys() != other.keys() or any(
    np.shape(one[key]) != np.shape(other[key]) or np.any(one[key] != other[key]) for key in one
  )


def change_id(value):
  return value if isinstance(value, str) else ' '.join(f'{k}={v}' for k, v in value.items())


@pytest.mark.parametrize(
  'name, change', [(n, change) for n in NAMES for change in common_changes(n)], ids=change_id
)
def test_every_parameter_of_an_experiment_changes_something(name, change, outcome):
  assert differ(outcome(name, busy(name), change), outcome(name, busy(name), {}))


def test_the_batch_size_changes_something(make_agent):
  outcomes = []
  for change in ({}, dict(batch_size=9)):  # how targets move is tested above
    an_agent = make_agent('sac', **change)
    an_agent.train(2)
    outcomes.append(weights(an_agent))
  assert differ(*outcomes)


@pytest.mark.parametrize(
  'name, parameter',
  [
    (n, parameter)
    for n in NAMES
    for parameter in parameters_of(n)
    if parameter != 'policy_name'  # chooses from what a checkpoint has: see test_fqe.py
  ],
)
def test_every_parameter_that_gin_binds_changes_something(name, parameter, outcome, behavior_files):
  made = agents.load(name)
  value = busy(name).get(parameter, parameters_of(name)[parameter])
  if parameter in files_of(name, ''):
    others = [behavior_files[1]]
  elif isinstance(value, bool):
    others = [not value]
  elif isinstance(value, str):
    others = set(made.DIVERGENCES) - {value}
  else:
    others = [-1.0] if value is None else [value + 1, value / 2, 0.25]
  for other in others:
    try:
      if differ(outcome(name, {**busy(name), parameter: other}, {}), outcome(name, busy(name), {})):
        return
    except UserError:  # not a value of it
      pass
  pytest.fail(f'none of {others} in the place of {value} changes anything')


@pytest.mark.parametrize('name', NAMES)
def test_gin_knows_each_parameter_its_default_and_no_other(name, make_agent):
  made = agents.load(name)
  given = parameters_of(name)
  assert list(gin_config.parameters(made.name)) == list(given)
  assert inspect.Parameter.empty not in given.values()
  make_agent(name)
  used = gin.config._OPERATIVE_CONFIG['', f'{made.__module__}.{made.__name__}']
  files = files_of(name, '')  # which make_agent gives
  assert used == {k: default for k, default in given.items() if k not in files}


# What an agent says of itself.


def test_an_agent_elsewhere_has_a_name_for_gin_and_a_folder():
  assert agents.load(EXAMPLE).name == 'td3_bc_agent.Agent'
  assert agents.folder(EXAMPLE) == 'td3_bc_agent.Agent'
  assert agents.folder('brac_dual') == 'brac_dual'


@pytest.mark.parametrize(
  'name, says',
  [
    ('sax', ["unknown agent 'sax'; --agent_name is one of 'sac', 'bc'", 'did you mean']),
    (None, ['unknown agent None']),
    ('no_such_module:Agent', ["no_such_module cannot be imported: No module named 'no_such_mod"]),
    ('td3_bc_agent:Agnt', ["td3_bc_agent has no class 'Agnt'", "; did you mean 'Agent'?"]),
    ('math:Agent', ["math has no class 'Agent'"]),
    ('td3_bc_agent:Batch', ["has no class 'Batch' that is an agents.agent.Agent"]),
  ],
)
def test_an_unknown_agent_is_one_line(name, says):
  with pytest.raises(UserError) as error:
    agents.load(name)
  assert '\n' not in str(error.value)
  for text in says:
    assert text in str(error.value)


def test_the_table_of_names_imports_no_tensorflow():
  script = 'import sys; from brac import programs; sys.exit("tensorflow" in sys.modules)'
  assert not subprocess.run([sys.executable, '-c', script]).returncode


@pytest.mark.parametrize('name', NAMES)
def test_a_clone_is_of_an_agent_that_leaves_one(name, make_agent):
  clone = agents.load(name).CLONE
  if clone:
    assert clone.parameter in parameters_of(name)
    assert make_agent(clone.agent).leaves().keys() == {'agent_behavior'}


def test_what_is_trained_and_not_saved_is_refused(make_agent):
  an_agent = make_agent('sac')
  del an_agent.saved._log_alpha
  with pytest.raises(ValueError, match="^sac_agent.Agent: update 'a': not all is saved"):
    _ = an_agent.updates
  another = make_agent('sac')
  another.saved._q_nets = [[q, q] for q in another.q_nets]
  with pytest.raises(ValueError, match='targets: not all is saved'):
    _ = another.updates


class _Inner(Agent):
  def __init__(self, *, a=1, b=2, **rest):
    self.got = a, b, rest


class _Outer(_Inner):
  def __init__(self, *, b=3, c=4, **rest):
    super().__init__(b=b, **rest)
    self.c = c


def test_a_signature_shows_what_is_handed_on_and_a_default_that_is_changed():
  assert str(inspect.signature(_Outer)) == '(*, b=3, c=4, a=1, **rest)'
  assert (_Outer(a=5).got, _Outer(d=6).got) == ((5, 3, {}), (1, 3, {'d': 6}))


def test_gin_binds_what_a_function_hands_on():
  @gin.configurable('outermost', module='mine')
  @hands_on_to(Agent, without=GIVEN)
  def experiment(log_dir, discount=0.9, **parameters):
    return {'discount': discount, **parameters}

  try:
    gin.bind_parameter('outermost.batch_size', 5)
    gin.bind_parameter('outermost.discount', 0.5)
    assert experiment('here') == {'batch_size': 5, 'discount': 0.5}
    used = gin.config._OPERATIVE_CONFIG['', 'mine.outermost']
    assert used['update_rate'] == 0.005 and used['batch_size'] == 5 and 'seed' not in used
    for wrong in ('data', 'log_dirr'):
      with pytest.raises(ValueError, match='have a parameter named'):
        gin.bind_parameter(f'outermost.{wrong}', 3)
  finally:
    gin.config._REGISTRY.pop('mine.outermost')


def test_what_an_agent_begins_with_is_of_the_stream_of_beginnings(make_agent):
  agent = make_agent('sac', seed=7)
  first = type(agent.q_nets[0])(agent.n_states, agent.box.n_actions, (8, 8), Rng(7, rng.INIT))
  for x, y in zip(agent.q_nets[0].variables, first.variables, strict=True):
    np.testing.assert_array_equal(x, y)
