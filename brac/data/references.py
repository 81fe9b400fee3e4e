"""Reference scores: the returns that count as 0 and as 100, and the map of returns between them."""

import math
from typing import Any, NamedTuple, Optional, TypeVar

Number = TypeVar('Number')  # a float or an array


class Reference(NamedTuple):
  """Two returns of an environment.

  Attributes:
    low: the return that counts as 0, that of a random policy.
    high: the one that counts as 100, that of an expert.
    whose: the table that they are of. Scores by different tables are not to be averaged.
  """

  low: float
  high: float
  whose: str

  def score(self, returns: Number) -> Number:
    """`100 (R - low) / (high - low)` of returns."""
    return 100 * (returns - self.low) / (self.high - self.low)

  def spread(self, differences: Number) -> Number:
    """The same of differences between returns, such as standard deviations: without the offset."""
    return 100 * differences / (self.high - self.low)


# D4RL's, the same for its -v0, -v1 and -v2 (d4rl/infos.py of Farama-Foundation/D4RL).
_D4RL = {
  'HalfCheetah-v2': Reference(-280.178953, 12135.0, 'D4RL'),
  'Hopper-v2': Reference(-20.272305, 3234.3, 'D4RL'),
  'Walker2d-v2': Reference(1.629008, 4592.3, 'D4RL'),
  'Ant-v2': Reference(-325.6, 3879.7, 'D4RL'),
}


def find(env_name: str, facts: dict[str, Any]) -> Optional[Reference]:
  """The reference scores of a dataset: its own, else its environment's; None without either.

  Args:
    env_name: the environment.
    facts: what `provenance.read` gives of the dataset.
  """
  table, own = _D4RL.get(env_name), facts.get('reference_scores')
  if not own or not own['min'] < own['max']:
    return table
  if table and all(map(math.isclose, table[:2], (own['min'], own['max']))):
    return table  # as a dataset has it that was exported from here
  return Reference(own['min'], own['max'], own['whose'])
