"""A dataset of this project's own, as it is written in other formats."""

from typing import Any, NamedTuple, Optional

import numpy as np

from brac.data.references import Reference
from brac.data.transitions import GOES_ON, TERMINAL, UNKNOWN, Transitions


class Export(NamedTuple):
  """What is written.

  Attributes:
    target: the file, or the id of the dataset, as the user has it.
    rows: the data.
    env_name: their environment.
    low: the smallest actions of the environment, `[A]`.
    high: the largest.
    description: a sentence.
    reference: the scores that returns are compared with, where there are such.
    facts: what is known of where the data are from.
  """

  target: str
  rows: Transitions
  env_name: str
  low: np.ndarray
  high: np.ndarray
  description: str
  reference: Optional[Reference]
  facts: dict[str, Any]

  def terminals(self) -> np.ndarray:
    """Whether each row leads to a terminal state, `[N]`; published data tell by the discount."""
    return (self.rows.end == TERMINAL) | (self.rows.discount == 0)

  def lasts(self) -> np.ndarray:
    """Whether each row is its episode's last, `[N]`, or followed by another state than its s2."""
    s1, s2 = self.rows.s1, self.rows.s2
    lasts = ~np.isin(self.rows.end, (GOES_ON, UNKNOWN)) | self.terminals()
    # By their bits: what is read back is to have the same.
    lasts[:-1] |= (s2[:-1].view(np.uint32) != s1[1:].view(np.uint32)).any(-1)
    lasts[-1] = True
    return lasts
