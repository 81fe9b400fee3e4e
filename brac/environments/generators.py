"""Python's and numpy's global random generators, of which each batch has a state of its own."""

import random
from typing import Any

import numpy as np


class GlobalGenerators:
  """States of `random`'s and numpy's global generators that one user of them draws with.

  Environments may draw from these generators. So that each batch of them depends on its own seed
  alone, and not on what was drawn in between (an evaluation within a training), the states change
  hands with the work: `take` puts a user's states into the process, after those of the user before
  were set aside.
  """

  _in_hand: 'GlobalGenerators'  # whose states the process has

  def __init__(self, seed: int):
    self._states = random.Random(seed).getstate(), np.random.RandomState(seed).get_state()

  def take(self) -> None:
    """Makes whatever draws from the global generators from now on draw with these states."""
    last = GlobalGenerators._in_hand
    if last is not self:
      last._states = _read()
      _write(self._states)
      GlobalGenerators._in_hand = self

  def give_back(self) -> None:
    """Gives the process the states that it had before any batch was at work."""
    if GlobalGenerators._in_hand is self:
      _PROCESS.take()

  @property
  def states(self) -> Any:
    """Both, to be pickled or set."""
    return _read() if GlobalGenerators._in_hand is self else self._states

  @states.setter
  def states(self, states: Any) -> None:
    self._states = states
    if GlobalGenerators._in_hand is self:
      _write(states)


def _read() -> Any:
  return random.getstate(), np.random.get_state()


def _write(states: Any) -> None:
  random.setstate(states[0])
  np.random.set_state(states[1])


_PROCESS = GlobalGenerators._in_hand = GlobalGenerators(0)
