"""What is in a dataset: in words, and in a picture."""

import json
import os

import numpy as np

from brac.data import provenance, references, stored
from brac.data.transitions import Transitions

_BLUE, _GREY = '#0072B2', '0.6'


def describe(data_file: str, picture: str) -> str:
  """A text on a dataset; draws its returns, its lengths and its actions.

  Args:
    data_file: where it is.
    picture: where the picture goes.

  Raises:
    UserError: there is no dataset, or it is damaged.
  """
  rows, facts = stored.load(data_file, *stored.widths(data_file)), provenance.read(data_file)
  returns, lengths = stored.episodes(data_file)
  place = ['', '', *os.path.abspath(data_file).split(os.sep)]
  env_name = facts.get('environment', {}).get('used', place[-4])
  reference = references.find(env_name, facts)
  lines = [
    f'{data_file}: {len(rows.reward)} rows, states of {rows.s1.shape[1]} numbers, actions of '
    f'{rows.a1.shape[1]}'
  ]
  if len(returns):
    lines.append(f'whole episodes: {len(returns)}, of {lengths.min()} to {lengths.max()} steps')
    lines.append(_spread('return', returns))
    if reference:
      low, high, whose = reference
      scores = _spread('score', reference.score(returns))
      lines.append(f'{scores} (0 is {low:g}, 100 is {high:g}, by {whose})')
  else:
    lines.append('it does not tell whole episodes')
  low, high, whose = _bounds(rows, facts)
  if 'action_box' in facts:
    at_edge = np.mean((rows.a1 <= low) | (rows.a1 >= high))
    lines.append(f'numbers of actions at or beyond the edge of their box: {100 * at_edge:.2g} %')
  lines += [f'{name}: {json.dumps(value)}' for name, value in facts.items()]
  try:
    _draw(rows, returns, lengths, low, high, whose, f'{env_name} {place[-3]}', picture)
    lines.append(f'picture: {picture}')
  except OSError as error:
    lines.append(f'no picture: {picture} cannot be written: {error.strerror}')
  return '\n'.join(lines)


def _spread(what: str, values: np.ndarray) -> str:
  numbers = values.mean(), values.std(), values.min(), np.median(values), values.max()
  return '{}: {:.1f} ± {:.1f}, from {:.1f} over {:.1f} to {:.1f}'.format(what, *numbers)


def _bounds(rows: Transitions, facts: dict) -> tuple[np.ndarray, np.ndarray, str]:
  """From where to where actions may go, or else do; and whose bounds these are."""
  box = facts.get('action_box')
  if box:
    return np.array(box['low'], np.float32), np.array(box['high'], np.float32), 'the box'
  return rows.a1.min(axis=0), rows.a1.max(axis=0), 'all'


def _draw(rows, returns, lengths, low, high, whose: str, title: str, path: str) -> None:
  from matplotlib.figure import Figure

  figure = Figure(figsize=(10, 6), dpi=120, layout='constrained')
  of_returns, of_lengths, of_actions = figure.subplot_mosaic('AB;CC').values()
  for ax, values, what in (
    (of_returns, returns, 'return of an episode'),
    (of_lengths, lengths, 'steps of an episode'),
  ):
    if len(values):
      ax.hist(values, bins=50, color=_BLUE)
    ax.set_xlabel(f'{what}, of {len(values)} whole ones')
    ax.set_ylabel('episodes')
  places = np.arange(rows.a1.shape[1])
  levels = np.percentile(rows.a1, [0, 5, 25, 50, 75, 95, 100], axis=0)
  of_actions.vlines(places, low, high, color=_GREY, lw=1, label=whose)
  of_actions.plot(places, levels[0], '_', color=_GREY, ms=9, label='smallest, largest')
  of_actions.plot(places, levels[6], '_', color=_GREY, ms=9)
  of_actions.vlines(places, levels[1], levels[5], color=_BLUE, lw=3, alpha=0.5, label='90 %')
  of_actions.vlines(places, levels[2], levels[4], color=_BLUE, lw=8, label='the middle half')
  of_actions.plot(places, levels[3], 'o', color='white', ms=4, mec='black', label='median')
  of_actions.set_xticks(places[:: max(1, len(places) // 30)])
  of_actions.set_xlabel('number of the action')
  of_actions.set_ylabel('its value')
  of_actions.legend(fontsize=8, ncols=5, loc='lower center', bbox_to_anchor=(0.5, 1))
  figure.suptitle(title.replace('$', r'\$'))
  figure.savefig(path)
