"""The training loop: what is done before a step, and updates that are not due in each."""

import numpy as np
import pytest
import tensorflow as tf
from agent_tools import assert_same_bits, weights

from brac import rng
from brac.agents import loop
from brac.agents.agent import Agent
from brac.agents.loop import Loop
from brac.rng import Rng


class Counter(Agent):
  """Trains one number per update towards draws of its own: `often` in each step, `rarely` not."""

  UNITS, NUMBERS, OPTIMIZERS, DECAYS = ('policy',), {}, ('all',), ('p',)

  def __init__(self, *, every: int = 3, **common):
    super().__init__(**common)
    self.every, self.pi = every, self.make_actor()
    self.saved.often, self.saved.rarely = tf.Variable(0.0), tf.Variable(0.0)

  def make_updates(self):
    often = self.update_scalar('often', self.often_loss, 'all', self.saved.often)
    rarely = self.update_scalar('rarely', self.rarely_loss, 'all', self.saved.rarely)
    return [rarely._replace(every=self.every), often]

  def often_loss(self, batch, draws):
    return tf.square(self.saved.often - draws.normal([])), {'often': self.saved.often.read_value()}

  def rarely_loss(self, batch, draws):
    return tf.square(self.saved.rarely - draws.normal([])), {'rarely': self.saved.rarely * 1}


@pytest.fixture
def counter(observation_spec, action_spec, data):
  def make(**given):
    specs = dict(observation_spec=observation_spec, action_spec=action_spec, data=data)
    return Counter(**specs, model_params=((8,),), batch_size=4, **given)

  return make


def test_a_delayed_update_is_made_and_told_of_in_every_third_step_alone(counter):
  an_agent = counter()
  rarely, often = [], []
  for step in range(1, 8):
    info = an_agent.train(1)
    told = {'often', 'often_loss'} | ({'rarely', 'rarely_loss'} if step % 3 == 0 else set())
    assert info.keys() == told
    rarely.append(float(an_agent.saved.rarely))
    often.append(float(an_agent.saved.often))
  assert np.all(np.diff([0.0, *often]) != 0)
  assert [bool(x) for x in np.diff([0.0, *rarely])] == [False, False, True] * 2 + [False]
  assert int(weights(an_agent)['optimizers/rarely/step']) == 2


@pytest.mark.parametrize('every', [2, 3])
def test_a_delayed_update_has_the_same_bits_however_the_steps_are_called(every, counter):
  # In the long call the loop is unrolled by four, which three does not divide.
  long, short = counter(every=every), counter(every=every)
  for _ in range(29):
    short.train(7)
  assert long.train(210) == short.train(7)
  assert '_unrolled_loop' in vars(long.loop) and '_unrolled_loop' not in vars(short.loop)
  assert_same_bits(weights(long), weights(short))


def test_no_steps_change_nothing(counter):
  an_agent = counter()
  before = weights(an_agent)
  assert an_agent.train(0) == {} and an_agent.step == 0
  an_agent.global_step.assign(1)  # as restored, where the delayed update was never traced
  assert an_agent.train(0) == {}
  an_agent.global_step.assign(0)
  assert_same_bits(weights(an_agent), before)


def test_a_delayed_update_takes_the_draws_of_its_turn_whether_it_is_due_or_not(counter):
  always, delayed = counter(every=1), counter(every=2)
  always.train(2)
  delayed.train(2)
  np.testing.assert_array_equal(always.saved.often, delayed.saved.often)


def test_before_step_is_called_in_the_loop_that_it_was_given_to(counter):
  an_agent, seen = counter(), tf.Variable([0.0, 0.0])

  def before_step(draws):
    seen.assign([tf.cast(an_agent.global_step, tf.float32), draws.uniform([])])

  with_it = Loop(an_agent, before_step)
  an_agent.train(2)
  assert not np.any(seen)
  with_it.train(3)
  np.testing.assert_array_equal(seen, [4, Rng(0, rng.TRAIN, 4).uniform([])])
  assert an_agent.step == 5


def test_before_step_is_called_in_each_step_also_where_the_loop_is_unrolled(counter):
  an_agent, calls = counter(), tf.Variable(tf.zeros([102], tf.int32))

  def before_step(draws):
    calls.scatter_nd_add([[an_agent.global_step]], [1])

  with_it = Loop(an_agent, before_step)
  with_it.train(102)
  assert '_unrolled_loop' in vars(with_it)
  np.testing.assert_array_equal(calls, np.ones(102))


def test_an_update_whose_loss_none_of_its_variables_moves_is_an_error(make_agent, transitions):
  an_agent = make_agent('sac')
  batch = an_agent.data.sample(8, Rng(0))

  def frozen(batch, draws):
    return tf.reduce_mean(an_agent.frozen_q(batch.s1, batch.a1)), {}

  q = next(u for u in an_agent.updates if u.name == 'q')
  with pytest.raises(ValueError, match="loss of update 'q' has no gradient for any"):
    loop.apply(q._replace(loss=frozen), batch, Rng(0))
