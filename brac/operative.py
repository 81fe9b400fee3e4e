"""What gin was asked for by an experiment: its operative configuration."""

import functools
from collections.abc import Callable

import gin
from absl import logging


def experiment(function: Callable) -> Callable:
  """Decorates a configurable that is a whole run: what another was asked for before is forgotten.

  So the settings that are written down of a run are its own, also of the second in one process.
  """

  @functools.wraps(function)
  def alone(*args, **kwargs):
    with gin.config._OPERATIVE_CONFIG_LOCK:
      gin.config._OPERATIVE_CONFIG.clear()
    return function(*args, **kwargs)

  return alone


# The parameters that the `--gin_bindings` of the last `gin_config.parse` bound, as gin's `(scope,
# selector), name`: gin does not tell them from those of files.
bound_by_hand: list[tuple[tuple[str, str], str]] = []


def tuned() -> dict[str, object]:
  """What the user may have tuned: the macros, and what `--gin_bindings` bound past them."""
  values = macros()
  for (scope, selector), name in bound_by_hand:
    bindings = gin.config._CONFIG.get((scope, selector), {})
    if name in bindings and name != 'agent_name':  # which has a column of its own
      short = gin.config._REGISTRY.minimal_selector(selector)
      values['/'.join(filter(None, (scope, f'{short}.{name}')))] = bindings[name]
  return values


def macros() -> dict[str, object]:
  """The values of gin's macros, by their names."""
  config = gin.config._CONFIG
  return {scope: b['value'] for (scope, selector), b in config.items() if selector == 'gin.macro'}


def warn_of_unused() -> None:
  """Warns of what is bound and was not asked for: of a file that serves several runs, or mistaken.

  To be called when all functions have been called, or compiled, that a run calls.
  """
  asked = [(f'{scope}/', selector) for scope, selector in gin.config._OPERATIVE_CONFIG]
  for (scope, selector), bindings in gin.config._CONFIG.items():
    within = f'{scope}/' if scope else ''  # a scope counts in those that are opened in it
    if selector == 'gin.macro' or any(s == selector and of.startswith(within) for of, s in asked):
      continue
    place = within + gin.config._REGISTRY.minimal_selector(selector)
    for name in bindings:
      logging.warning('gin: %s.%s is bound, but nothing in this run uses it', place, name)


def warn_of_idle_bindings(*uses: str) -> None:
  """Warns of the `--gin_bindings` of a program that asks gin for nothing but what is named."""
  for (scope, selector), name in bound_by_hand:
    short = gin.config._REGISTRY.minimal_selector(selector)
    if short not in uses:
      place = '/'.join(filter(None, (scope, f'{short}.{name}')))
      logging.warning('gin: %s is bound, but a policy acts by what its checkpoint keeps', place)
