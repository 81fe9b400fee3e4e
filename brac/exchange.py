"""Data in from other formats, and out to them."""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Optional

import numpy as np
import tensorflow as tf
from absl import logging

from brac import behavior, checkpoints, environments, files, runs
from brac.data import provenance, references, stored
from brac.data.export import Export
from brac.data.replay import Dataset
from brac.data.source import Count, Options, Source, Steps, make_rows
from brac.data.transitions import CUT_OFF, TERMINAL, TIME_LIMIT, UNKNOWN, Transitions, fingerprint
from brac.data_config import folder_name
from brac.errors import UserError

# What tells one source from another: the checksum is not of what a Minari dataset tells of itself.
_OF_A_SOURCE = (
  *('format', 'checksum', 'options'),
  *('observation_keys', 'env_spec', 'reference_scores'),
)
_ENDS = {
  TERMINAL: 'terminal',
  TIME_LIMIT: 'time_limit',
  CUT_OFF: 'cut_off',
  UNKNOWN: 'unknown',
}


def import_data(
  root_dir: str,
  env_name: Optional[str],
  data_name: Optional[str],
  sub_dir: str,
  form: ModuleType,
  source_name: str,
  options: Options,
  keep_last: bool,
  allow_other_env: bool,
) -> str:
  """Makes a dataset of this project's own of data in another format, and returns where it is.

  Args:
    root_dir: where datasets are kept.
    env_name: the environment; the one that the source tells by default.
    data_name: what it is called; as its source is by default.
    sub_dir: its folder.
    form: one of `formats.FORMATS`.
    source_name: a file, or the id of a dataset.
    options: what the source does not say itself.
    keep_last: see `make_rows`.
    allow_other_env: whether the environment may be another one than the source's.

  Raises:
    UserError: the source cannot be used, is of another environment, or other data is there.
  """
  source = form.read(source_name, options)
  if missing := {'format', 'source', 'checksum'} - source.facts.keys():
    raise TypeError(f'{form.__name__}.read: its facts lack {", ".join(sorted(missing))}')
  env_name = _choose_env(source, env_name, data_name, source_name, allow_other_env)
  data_name = data_name or source.data_name
  box = _compare_widths(source, env_name, source_name)
  data_dir = os.path.join(root_dir, *map(folder_name, (env_name, data_name)), sub_dir)
  path = os.path.join(data_dir, 'data')
  asked = options._replace(observation_keys=list(options.observation_keys))._asdict()
  facts = {**source.facts, 'options': {'keep_last': keep_last, **asked}}
  if checkpoints.is_whole(path) and _is_of(path, facts, source_name):
    return path
  # Before there is a folder: a source that does not do leaves none.
  rows, count = make_rows(source._replace(pieces=_until_stopped(source.pieces)), keep_last)
  with contextlib.ExitStack() as stack:
    stack.callback(runs.Lock(data_dir).release)
    if checkpoints.recover(path) and _is_of(path, facts, source_name):
      return path  # by another program, while this one read
    for note in source.notes:
      logging.warning('%s', note)
    facts |= _facts_of(count, len(rows.reward))
    facts['environment'] = {'source': source.env_name, 'used': env_name}
    if box:
      facts['action_box'] = {name: x.tolist() for name, x in zip(('low', 'high'), box)}
      _warn_of_box(rows, *box)
    facts['data'] = fingerprint(rows)
    kept = os.path.join(data_dir, behavior.NAME)
    checkpoints.remove(kept)  # of data that was here before
    if source.policy:
      facts['behavior_policy'] = behavior.keep(source.policy, kept, box)
    episodes = tf.Module()
    episodes.returns, episodes.lengths = tf.Variable(count.returns), tf.Variable(count.lengths)
    provenance.write(path, facts)
    try:
      checkpoints.save(path, data=Dataset(rows), source=episodes)
    except UserError:
      provenance.remove(path)
      raise
    _log(source_name, facts, count, references.find(env_name, facts))
    logging.info('%d rows are at %s', len(rows.reward), path)
  return path


def _is_of(path: str, facts: dict[str, Any], source_name: str) -> bool:
  """Says that an import is done already; raises UserError where other data is there."""
  then = provenance.read(path)
  # As texts, for an order of observation keys counts.
  if any(json.dumps(then.get(name)) != json.dumps(facts.get(name)) for name in _OF_A_SOURCE):
    raise UserError(
      f'{path} is there already, of another source or other flags; remove it, or choose another '
      '--data_name or --sub_dir'
    )
  logging.info('%s is at %s already: there is nothing to do', source_name, path)
  return True


def _until_stopped(pieces: Iterator[Steps]) -> Iterator[Steps]:
  """The pieces, as long as nobody asks the program to stop."""
  for piece in pieces:
    if runs.stop_requested():
      runs.stop('nothing was imported')
    yield piece


def _choose_env(
  source: Source, env_name: Optional[str], data_name: Optional[str], name: str, allow_other: bool
) -> str:
  if not env_name:
    if source.env_name:
      return source.env_name
    from brac.data import d4rl

    guess, _ = d4rl.understand(data_name or '')
    if not guess:
      raise UserError(f'{name} does not tell its environment: --env_name names it')
    logging.warning(
      '%s does not tell its environment: it is taken for %s, as --data_name %s is a name of D4RL; '
      '--env_name names another',
      *(name, guess, data_name),
    )
    return guess
  there = source.env_name
  same = not there or there in (env_name, env_name.rpartition(':')[2])
  if not same and not allow_other:
    raise UserError(
      f'{name} is of {there}, --env_name is {env_name}, which may have other physics '
      'and numbers of another meaning; leave --env_name out, or add --allow_other_env'
    )
  return env_name


def _compare_widths(
  source: Source, env_name: str, name: str
) -> Optional[tuple[np.ndarray, np.ndarray]]:
  """The smallest and the largest actions of an environment; None where it cannot be made here.

  Raises:
    UserError: the source is of other widths, or there is no such environment and the source does
      not name it.
  """
  try:
    env = environments.described(env_name)
  except UserError as error:
    if env_name != source.env_name:
      raise
    logging.warning('%s; the data is imported, and not compared with it', error)
    return None
  here = env.observation_spec.shape[0], env.action_spec.shape[0]
  if here != (source.n_states, source.n_actions):
    raise UserError(
      f'{name} has observations of {source.n_states} numbers and actions of {source.n_actions}; '
      f'{env_name} has {here[0]} and {here[1]}'
    )
  _compare_observation_keys(source, env_name, env.observation_keys, name)
  bounds = env.action_spec.minimum, env.action_spec.maximum
  return tuple(np.broadcast_to(x, env.action_spec.shape).astype(np.float32) for x in bounds)


def _compare_observation_keys(
  source: Source, env_name: str, keys: dict[str, int], name: str
) -> None:
  then = source.facts.get('observation_keys', {})
  if list(then) != list(keys) and then == keys:  # as the user chose
    logging.warning(
      '%s concatenates its observations in another order: train with '
      '--gin_bindings="dict_observations.keys=%s"',
      env_name,
      tuple(then),
    )
  else:
    provenance.compare_observation_keys(name, source.facts, env_name, keys)


def _warn_of_box(rows: Transitions, low: np.ndarray, high: np.ndarray) -> None:
  outside = ((rows.a1 < low) | (rows.a1 > high)).any(-1)
  if outside.any():
    logging.warning(
      '%d of %d rows have an action outside of the box of the environment, first row %d; '
      'train_eval_offline.out_of_box_actions says what a training does about them',
      np.count_nonzero(outside),
      len(outside),
      np.argmax(outside),
    )


def _facts_of(count: Count, n_rows: int) -> dict[str, Any]:
  return {
    'steps': count.steps,
    'rows': n_rows,
    'episodes': {_ENDS[code]: n for code, n in count.episodes.items() if code in _ENDS},
    'dropped': {_ENDS[code]: n for code, n in count.dropped.items()},
    'made_up_next_actions': count.made_up,
    'terminals_without_next_observation': count.no_next,
  }


def _log(
  name: str, facts: dict[str, Any], count: Count, reference: Optional[references.Reference]
) -> None:
  ends = ', '.join(f'{n} {what.replace("_", " ")}' for what, n in facts['episodes'].items())
  logging.info('%s: %d steps; episodes by their end: %s', name, count.steps, ends)
  dropped = facts['dropped']
  if sum(dropped.values()):
    logging.info(
      '%d last steps are no rows, for the action after them is not known: %d at a time limit, %d '
      'where an episode was cut off (--keep_last keeps those whose next observation is known)',
      sum(dropped.values()),
      dropped['time_limit'],
      dropped['cut_off'],
    )
  if count.made_up:
    logging.warning('%d last steps are kept with their own action as the next', count.made_up)
  if count.no_next:
    logging.info(
      '%d terminal states are not in the source: there s2 is s1 again, and counts for nothing',
      count.no_next,
    )
  if len(count.returns):
    line = '%d whole episodes; return %.1f ± %.1f (%.1f to %.1f), %.1f steps'
    r = count.returns
    numbers = [len(r), r.mean(), r.std(), r.min(), r.max(), count.lengths.mean()]
    if reference:
      line += '; score %.1f ± %.1f by the references of %s'
      numbers += [reference.score(r.mean()), reference.spread(r.std()), reference.whose]
    logging.info(line, *numbers)


def export_data(
  data_file: str, env_name: str, data_name: str, form: ModuleType, target: str
) -> None:
  """Writes a dataset of this project's own in another format.

  Args:
    data_file: where it is.
    env_name: its environment.
    data_name: its name.
    form: one of `formats.FORMATS`.
    target: a file that is not there yet, or for Minari the id of a new dataset.

  Raises:
    UserError: there is no such dataset, or the target is there already or cannot be written.
  """
  rows, facts = stored.load(data_file, *stored.widths(data_file)), provenance.read(data_file)
  export = Export(
    target,
    rows,
    env_name,
    *_box(env_name, facts, rows),
    description=_describe(env_name, data_name, facts),
    reference=references.find(env_name, facts),
    facts=facts,
  )
  place = form.place(target)
  if os.path.exists(place):
    raise UserError(f'--target {target}: {place} is there already; remove it, or choose another')
  # h5py's own errors are of these kinds.
  with files.making(place, (OSError, RuntimeError)) as made:
    # HDF5 that meets a full disk may take the program with it, so that this is asked before.
    size = sum(values.nbytes for values in rows)
    if size > files.free(os.path.dirname(made)):
      raise OSError(errno.ENOSPC, f'the data take up to {size / 1e6:.0f} MB')
    form.write(made, export)
  n_lasts = int(np.isin(rows.end, (TIME_LIMIT, CUT_OFF, UNKNOWN))[export.lasts()].sum())
  logging.info(
    '%d rows are written to %s; other programs do not know the next actions of the last rows of %d '
    'episodes that no terminal state ends, how each ended, nor the discounts, which are in '
    'infos/brac where the format has a place for them',
    len(rows.reward),
    place,
    n_lasts,
  )


def _box(env_name: str, facts: dict[str, Any], rows: Transitions) -> tuple[np.ndarray, np.ndarray]:
  """The smallest and the largest actions, `[A]` each: the environment's, or those in the data."""
  if 'action_box' in facts:
    return tuple(np.array(facts['action_box'][name], np.float32) for name in ('low', 'high'))
  try:
    spec = environments.described(env_name).action_spec
  except UserError as error:
    logging.warning('%s; the box of the actions is taken from the data', error)
    return rows.a1.min(axis=0), rows.a1.max(axis=0)
  return tuple(np.broadcast_to(x, spec.shape) for x in (spec.minimum, spec.maximum))


def _describe(env_name: str, data_name: str, facts: dict[str, Any]) -> str:
  of = f', imported from {facts["source"]} ({facts["format"]})' if 'source' in facts else ''
  physics = ''
  if re.fullmatch(r'(HalfCheetah|Hopper|Walker2d|Ant)-v2', env_name):
    physics = ' The physics are those of gym 0.23 on MuJoCo 2.1.0, which no -v4 or -v5 has.'
  return f'{data_name} of {env_name}{of}, exported from BRAC.{physics}'
