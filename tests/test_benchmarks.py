"""The benchmark: that it counts what it says, and that the old way is the same mathematics."""

import importlib
import os
import sys

import numpy as np
import pytest
import tensorflow as tf

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'benchmarks'))

import ours  # noqa: E402
import run  # noqa: E402

from brac.rng import Rng  # noqa: E402


@pytest.fixture(autouse=True)
def little_data(monkeypatch):
  monkeypatch.setattr(ours, 'N_TRANSITIONS', 1000)


@pytest.fixture(scope='module')
def old_way():
  pytest.importorskip('tf_agents')
  return importlib.import_module('old_way')


def test_the_products_of_a_step_of_bc_are_those_that_one_counts():
  # Forward for the loss and for the entropy, backward but for the gradient of the states.
  layers = [(256, 17, 200), (256, 200, 200), (256, 200, 12)]
  work = 2 * sum(map(np.prod, layers)) + 2 * sum(map(np.prod, layers)) - np.prod(layers[0])
  products = ours.products('bc')
  assert len(products) == 11
  assert sum(m * k * n for m, k, n, *_ in products) == work


def test_products_that_nothing_needs_are_not_counted():
  # In the primal agents, of the policy's pass through Q each critic's own rows alone go back.
  backward = [p for p in ours.products('brac_primal kl') if p[0] == 128]
  assert sorted(backward) == sorted([(128, 300, 300, False, True), (128, 300, 6, False, True)] * 2)


def test_a_profile_sees_what_a_step_spends_its_time_on():
  shares = ours.profile('bcq', 5)
  parts = 'products', 'Adam', 'random numbers', 'elementwise'
  assert all(shares[what] > 0 for what in parts) and 'scheduling and waiting' in shares


def test_a_profile_divides_the_time_of_a_collection():
  shares = ours.profile_collection('Hopper-v2', 2000)
  assert list(shares) == ['physics', 'policy', 'all else']
  assert min(shares.values()) > 0  # what is left is less than all, where no part holds another


@pytest.mark.parametrize('case', run.CASES)
def test_the_old_way_trains_what_the_agents_train(old_way, case):
  trainer = old_way._trainer(case)
  # By number and size, networks and multipliers are those of the agent.
  names = ('q', 'p', 'c', 'b', 'a', 'ae')
  theirs = {u.name: sorted(v.shape.as_list() for v in u.variables) for u in ours.make(case).updates}
  assert set(trainer.adams) == set(theirs) <= set(names)
  trained = {
    name: sorted(s.shape.as_list() for s in adam.variables()[1:])
    for name, adam in trainer.adams.items()
  }
  for name, shapes in theirs.items():
    assert trained[name] == sorted(shapes * 2)  # Adam's two moments
  info = trainer.step()
  assert all(np.isfinite(x) for x in info.values())


def test_both_ways_have_the_same_log_density(old_way):
  agent, trainer = ours.make('bc'), old_way._trainer('bc')
  for layer, (kernel, bias) in zip(agent.pi._layers, zip(*[iter(trainer.pi.variables)] * 2)):
    kernel.assign(layer.kernel)
    bias.assign(layer.bias)
  s = tf.constant(ours.transitions().s1[:50])
  a, log_pi = agent.pi(s).sample(Rng(0))
  np.testing.assert_allclose(
    old_way.distribution(trainer.pi, s).log_prob(a), log_pi, rtol=1e-3, atol=1e-3
  )


def test_the_table_says_what_is_met():
  rows = [
    run.Row('speed', 2.0, '×', 1.5, detail='10 steps/s'),
    run.Row('share', 0.5, '', 0.75),
    run.Row('memory', 2.5, '×', 2.2, at_most=True),
    run.Row('none', 1.0, ''),
  ]
  lines = run.table(rows).splitlines()
  assert lines[1].split() == ['speed', '2.00', '×', '≥', '1.50', '×', 'met', '10', 'steps/s']
  assert [row.verdict for row in rows] == ['met', 'NOT MET', 'NOT MET', '']
  assert lines[3].split()[:5] == ['memory', '2.50', '×', '≤', '2.20']


def test_the_old_way_acts_with_the_policies_that_an_evaluation_has(old_way):
  def acts_alike(name):
    env, act = old_way._driver('Hopper-v2', name)
    now = env.reset()
    return np.array_equal(act(now).action, act(now).action)

  assert acts_alike('main')
  assert not acts_alike('samples') and not acts_alike('max_q')
