"""The gin reference in docs/, which is made from the code."""

import os

import pytest

from brac import gin_config, gin_reference

_PAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), 'docs', 'gin_reference.md')


def test_the_page_is_what_the_code_says():
  gin_config.import_all()
  with open(_PAGE, encoding='utf-8') as f:
    assert f.read() == gin_reference.reference(), gin_reference.__doc__


def test_each_parameter_has_a_meaning():
  gin_config.import_all()
  for selector, configurable in gin_config.configurables().items():
    meanings = gin_reference.meanings(configurable)
    for name in gin_config.parameters(selector):
      assert meanings.get(name), f'{selector}.{name}'


class Base:
  """A base.

  Args:
    alpha: the weight, which is
      said on two lines: here.
    beta, gamma: two at once.

  Raises:
    delta: nothing of the parameters.
  """


class Derived(Base):
  """Another.

  Args:
    alpha: its own.
    epsilon, ...: see `agents.agent.Agent`.
  """


@pytest.mark.parametrize(
  'source, name, meaning',
  [
    (Base, 'alpha', 'the weight, which is said on two lines: here.'),
    (Base, 'beta', 'two at once.'),
    (Base, 'gamma', 'two at once.'),
    (Base, 'delta', None),
    (Derived, 'alpha', 'its own.'),
    (Derived, 'gamma', 'two at once.'),
    (Derived, 'action_spec', 'actions `[A]`, bounded.'),
  ],
)
def test_meanings_come_from_docstrings(source, name, meaning):
  assert gin_reference.meanings(source).get(name) == meaning
