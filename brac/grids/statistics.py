"""Numbers of many runs: means over seeds, interquartile means over tasks."""

import math
from typing import Sequence

import numpy as np

from brac.results import Run


def final(run: Run, policy: str, last: int) -> float:
  """The mean return in the last evaluations of a run, without those that failed; NaN of none."""
  known = [x for x in run.returns[policy][-last:] if math.isfinite(x)]
  return float(np.mean(known)) if known else math.nan


def band(runs: list[Run], policy: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The mean and standard deviation over runs at each step at which all were evaluated.

  Where there is none, at each at which any was.
  """
  values: dict[int, list[float]] = {}
  for run in runs:
    for step, value in zip(run.steps, run.returns[policy]):
      if math.isfinite(value):
        values.setdefault(step, []).append(value)
  steps = sorted(step for step in values if len(values[step]) == len(runs)) or sorted(values)
  return (
    np.array(steps),
    np.array([np.mean(values[step]) for step in steps]),
    np.array([np.std(values[step]) for step in steps]),
  )


def iqm(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """The interquartile mean over the last axis: a quarter of the weight goes at either end.

  Args:
    scores: `[..., n]`.
    weights: `[n]`, what each counts; they add up to n.
  """
  n = scores.shape[-1]
  order = np.argsort(scores, axis=-1)
  ends = np.cumsum(weights[order], axis=-1)
  begins = ends - weights[order]
  kept = np.clip(np.minimum(ends, 0.75 * n) - np.maximum(begins, 0.25 * n), 0, None)
  return (np.take_along_axis(scores, order, -1) * kept).sum(-1) / kept.sum(-1)


def iqm_interval(
  strata: Sequence[np.ndarray], repetitions: int = 10000
) -> tuple[float, float, float]:
  """The interquartile mean of the scores of several tasks, and its 95 % stratified bootstrap.

  Agarwal et al., Deep RL at the Edge of the Statistical Precipice, arXiv 2108.13264: seeds are
  drawn with replacement within each task. This is what the library rliable 1.2.0 computes where
  there are four runs or a multiple (of other numbers it trims whole runs, and so other shares of
  rows that stand side by side). It is not used here because on Python 3.11 with these pins it fails
  at its import (arch 7.2 and pandas 3), wants equally many seeds of each task, cannot be seeded,
  and brings 300 MB of packages. Where a task has more seeds than another, both count the same.

  Args:
    strata: the scores of each task's seeds, `[n_seeds]`.
    repetitions: how often seeds are drawn.
  """
  n_runs = sum(map(len, strata))
  weights = np.concatenate([np.full(len(s), n_runs / len(strata) / len(s)) for s in strata])
  random = np.random.default_rng(0)
  drawn = [random.choice(scores, (repetitions, len(scores))) for scores in strata]
  low, high = np.percentile(iqm(np.concatenate(drawn, axis=1), weights), [2.5, 97.5])
  return float(iqm(np.concatenate(strata), weights)), float(low), float(high)


def score(value: float, data: float) -> float:
  """A return in units of the data's: 1 is as good as the data, also where returns are negative."""
  return 1 + (value - data) / abs(data)


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
  """Spearman's rank correlation: that of the ranks, of which equal numbers share the mean.

  NaN where all numbers of one side are equal.
  """
  a, b = (ranks - ranks.mean() for ranks in map(_ranks, (x, y)))
  size = np.sqrt((a @ a) * (b @ b))
  return float(a @ b / size) if size else math.nan


def _ranks(x: Sequence[float]) -> np.ndarray:
  _, which, counts = np.unique(x, return_inverse=True, return_counts=True)
  return (np.cumsum(counts) - (counts - 1) / 2)[which]


def regret_at_1(estimates: Sequence[float], returns: Sequence[float]) -> float:
  """How much less than the best return the one has whose estimate is the largest.

  Of several with that estimate, the one with the least return.
  """
  top = max(estimates)
  return max(returns) - min(y for x, y in zip(estimates, returns) if x == top)
