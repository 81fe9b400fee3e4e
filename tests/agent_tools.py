"""What the tests of agents share: their saved state as numbers, and steps that are not compiled."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from brac import agents, checkpoints, rng
from brac.agents import loop
from brac.data.transitions import Batch
from brac.rng import Rng


def files_of(name, path):
  """The parameter of an agent that names a policy's checkpoint, given a path; none where none."""
  made = agents.load(name)
  named = made.CLONE.parameter if made.CLONE else 'checkpoint'
  return {named: path} if named in inspect.signature(made).parameters else {}


def variables(an_agent):
  return checkpoints.variables(**an_agent.state)


def weights(an_agent):
  """Everything that is saved, by its key."""
  return {key: v.numpy() for key, v in variables(an_agent).items()}


def assert_same_bits(got, want):
  assert got.keys() == want.keys()
  off = {
    key: float(np.abs(np.subtract(got[key], want[key], dtype=np.float64)).max())
    for key in want
    if not np.array_equal(got[key], want[key])
  }
  worst = max(off, key=off.get, default='')
  if off:
    pytest.fail(f'{len(off)} of {len(want)} differ, the most {worst}, by {off[worst]:.3g}')


def scramble(an_agent, scale=0.65):
  """Gives each network weights of its own, biases and targets too."""
  random = np.random.default_rng(7)
  found = checkpoints.variables(policy=an_agent.policy, agent=an_agent.saved)
  for key in sorted(found):
    if found[key].shape.rank:
      found[key].assign(random.normal(scale=scale, size=found[key].shape))


def first_batch(transitions, n=8):
  """The first rows of the data; the first and the sixth are terminal."""
  return Batch(*(tf.constant(values[:n]) for values in transitions[:6]))


def take_step(an_agent, names, extra_names, followed, update):
  """A training step in the order of the spec.

  Args:
    names: of the updates.
    extra_names: of those on fresh batches of their own.
    followed: pairs of a variable and its target.
    update: makes an update, given its name, a batch and the draws.
  """
  draws = Rng(an_agent.seed, rng.TRAIN, an_agent.step)
  batch, info = an_agent.data.sample(an_agent.batch_size, draws), {}
  if an_agent.step % an_agent.update_freq == 0:
    for source, target in followed:
      target.assign((1 - an_agent.update_rate) * target + an_agent.update_rate * source)
  for name in names:
    info.update(update(name, batch, draws))
  an_agent.global_step.assign_add(1)
  for name in extra_names:
    update(name, an_agent.data.sample(an_agent.batch_size, draws), draws)
  return info


def step_uncompiled(an_agent):
  """A training step with the agent's own updates, without the seconds that compiling them takes."""
  updates = {u.name: u for u in an_agent.updates}
  extra_names = [u.name for u in an_agent.extra_updates()]
  followed = [(x, y) for pair in an_agent.targets() for x, y in zip(*(n.variables for n in pair))]

  def update(name, batch, draws):
    is_due = (an_agent.step + 1) % updates[name].every == 0
    return loop.apply(updates[name], batch, draws) if is_due else {}

  return take_step(an_agent, list(updates), extra_names, followed, update)
