"""Optuna's pruner for searches whose trials are taken up again."""


def make_pruner(kind: type, **options):
  """A pruner of optuna's by which no trial competes with its point's earlier ones.

  Optuna has a trial for each time that a run was begun or taken up, and compares all trials: a run
  that was killed at a rung would be among the best there by its own value.

  Args:
    kind: the class of optuna's.
    options: of it.
  """

  class OfPoints(kind):
    def prune(self, study, trial) -> bool:
      return super().prune(_Points(study, trial.number), trial)

  return OfPoints(**options)


class _Points:
  """A study in which a point stands once: the trial that asks, or the one that says the most."""

  def __init__(self, study, asking: int):
    self._study, self._asking = study, asking

  def __getattr__(self, name: str):
    return getattr(self._study, name)

  def get_trials(self, **options) -> list:
    points = {}
    for trial in self._study.get_trials(**options):
      points.setdefault(tuple(sorted(trial.params.items())), []).append(trial)
    return [max(trials, key=self._says_most) for trials in points.values()]

  def _says_most(self, trial) -> tuple[bool, int, int]:
    return trial.number == self._asking, len(trial.intermediate_values), trial.number
