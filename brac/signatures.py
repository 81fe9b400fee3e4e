"""Signatures that show what a function hands on, so that a parameter and its default stand once."""

import inspect
from collections.abc import Callable, Collection


def hands_on_to(base: Callable, without: Collection[str] = ()) -> Callable[[Callable], Callable]:
  """Decorates a function that hands its `**rest` on to `base`: its signature shows the whole.

  In the place of `**rest` stand base's keyword parameters, but for those that the function has
  itself and those of `without`. Signatures are what gin checks names by and takes defaults from,
  and what `help` and the docs show. What the function does stays as it is.
  """

  def decorate(function: Callable) -> Callable:
    own = [p for p in inspect.signature(function).parameters.values() if p.kind != p.VAR_KEYWORD]
    left_out = {*(p.name for p in own), *without}
    more = [
      p
      for p in inspect.signature(base).parameters.values()
      if p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) and p.name not in left_out
    ]
    function.__signature__ = inspect.Signature([*own, *more])
    return function

  return decorate
