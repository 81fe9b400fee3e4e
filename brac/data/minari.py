"""Minari's datasets in HDF5, read and written by h5py alone.

https://minari.farama.org. $MINARI_DATASETS_PATH/NAME/data holds metadata.json, with further JSON in
its strings, and main_data.hdf5 with a group for each episode:

  episode_{i}/observations                       [T + 1, S]; a group of such for Dict observations
  episode_{i}/{actions,rewards,terminations,truncations}     [T, ...]
  episode_{i}/infos/...                          [T + 1, ...], what came with each observation

h5py lists the groups as text, 10 before 2. The package `minari` is asked for downloads alone: its
releases refuse each other's files.
"""

import functools
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np

from brac.data.d4rl import checksum, read_observation_keys, reading
from brac.data.export import Export
from brac.data.source import (
  DISCOUNTS,
  ENDS,
  NEXT_ACTIONS,
  PIECE,
  Options,
  Source,
  Steps,
  check_array,
  flags,
  floats,
)
from brac.data.transitions import CUT_OFF, GOES_ON, TERMINAL, TIME_LIMIT
from brac.errors import UserError

ENDINGS = ()  # a dataset has an id
_MAIN, _METADATA = 'main_data.hdf5', 'metadata.json'
_ENV_NAME, _OBSERVATION_KEYS = 'brac_env_name', 'brac_observation_keys'  # of an export
_KEPT = ('description', 'algorithm_name', 'author', 'code_permalink', 'minari_version')


def _root() -> str:
  default = os.path.join(os.path.expanduser('~'), '.minari', 'datasets')
  return os.environ.get('MINARI_DATASETS_PATH') or default


# --- Reading --------------------------------------------------------------------------------------


class _Part(NamedTuple):
  """A part of the observations: an array in an episode's group."""

  name: str  # for people: `desired_goal`; empty where it is all of them
  path: str  # in the group
  shape: tuple[int, ...]  # of one

  @property
  def width(self) -> int:
    return int(np.prod(self.shape))


def read(dataset_id: str, options: Options) -> Source:
  """The data of a dataset, which is downloaded where it is not there and the package minari is.

  Args:
    dataset_id: its id, such as `D4RL/door/human-v2`.
    options: what the user says of it.

  Raises:
    UserError: there is none, or it cannot be used.
  """
  for flag in ('episode_ends', 'max_episode_steps'):
    if getattr(options, flag):
      raise UserError(f'--{flag} is for arrays; a Minari dataset tells where its episodes end')
  folder = os.path.join(_root(), dataset_id, 'data')
  if not os.path.isdir(folder):
    _download(dataset_id, folder)
  metadata, path = _read_metadata(folder), os.path.join(folder, _MAIN)
  if metadata.get('data_format', 'hdf5') != 'hdf5':
    raise UserError(
      f'{dataset_id} is stored as {metadata["data_format"]}; where that can be read, '
      'minari.create_dataset_from_buffers(NEW_ID, [minari.data_collector.EpisodeBuffer(**vars(e)) '
      "for e in minari.load_dataset(ID)], data_format='hdf5', observation_space=..., "
      'action_space=...) writes it as HDF5'
    )
  if not os.path.isfile(path):
    raise UserError(f'Minari dataset {dataset_id}: there is no {path}')
  with reading(path):
    file = h5py.File(path, 'r')
    names = [name for name in file if re.fullmatch(r'episode_\d+', name)]
  names.sort(key=lambda name: int(name.rpartition('_')[2]))
  if not names:
    raise UserError(f'Minari dataset {dataset_id} is empty: {path} has no episode_0')
  parts = _parts(metadata, file[names[0]], dataset_id, options.observation_keys)
  n_actions = _n_actions(metadata, file[names[0]], dataset_id)
  with reading(path):
    lengths = [_check(file[name], f'{path}: {name}', parts, n_actions) for name in names]
  if not sum(lengths):
    raise UserError(f'Minari dataset {dataset_id} is empty: its episodes have no steps')
  spec = _spec(metadata)
  facts = {'format': 'minari', 'source': dataset_id, 'checksum': checksum(path)}
  facts |= {name: metadata[name] for name in _KEPT if name in metadata}
  if spec:
    facts['env_spec'] = spec
  n_states = sum(part.width for part in parts)
  keys = {part.name: part.width for part in parts}
  if not parts[0].name:
    keys = read_observation_keys(metadata.get(_OBSERVATION_KEYS), n_states)
  if keys:
    facts['observation_keys'] = keys
  low, high = metadata.get('ref_min_score'), metadata.get('ref_max_score')
  if all(isinstance(score, (int, float)) for score in (low, high)):
    facts['reference_scores'] = {'min': float(low), 'max': float(high), 'whose': 'Minari'}
  space = metadata.get('action_space')
  if isinstance(space, dict) and 'low' in space and 'high' in space:
    facts['action_box'] = {'low': space['low'], 'high': space['high']}
  notes = []
  if spec.get('kwargs'):
    notes.append(
      f'{dataset_id} was collected in {spec.get("id")} with {spec["kwargs"]}, which the name alone '
      'does not say'
    )
  names_of_env = (spec.get('id'), metadata.get(_ENV_NAME))
  return Source(
    n=sum(lengths), n_states=n_states, n_actions=n_actions,
    env_name=next((x for x in names_of_env if x and isinstance(x, str)), None),
    data_name=dataset_id, facts=facts,
    pieces=_pieces(file, path, names, lengths, parts), notes=notes,
  )  # fmt: skip


def _download(dataset_id: str, folder: str) -> None:
  missing = f'no Minari dataset {dataset_id} at {folder}'
  try:
    import minari
  except ImportError:
    raise UserError(
      f'{missing}; $MINARI_DATASETS_PATH says where they are, and with the package minari '
      '(pip install "brac[minari]") one is downloaded'
    ) from None
  try:
    minari.download_dataset(dataset_id)
  except Exception as error:  # of whatever it asks for it
    why = str(error).strip().splitlines() or [type(error).__name__]
    raise UserError(f'{missing}, and minari cannot download it: {why[0]}') from error


def _read_metadata(folder: str) -> dict[str, Any]:
  path = os.path.join(folder, _METADATA)
  try:
    with open(path, encoding='utf-8') as f:
      metadata = json.load(f)
    for name in ('observation_space', 'action_space', 'env_spec'):
      if isinstance(metadata.get(name), str):
        metadata[name] = json.loads(metadata[name])
  except (OSError, ValueError, AttributeError) as error:
    raise UserError(f'{path} cannot be read: {str(error).splitlines()[0]}') from error
  return metadata


def _spec(metadata: dict[str, Any]) -> dict[str, Any]:
  spec = metadata.get('env_spec')
  return spec if isinstance(spec, dict) else {}


def _parts(
  metadata: dict[str, Any], episode: h5py.Group, dataset_id: str, order: Sequence[str]
) -> list[_Part]:
  """The parts of the observations in the order in which they are concatenated.

  That is the space's own, the order of gymnasium's `flatten`, or the user's.
  """
  what = f'Minari dataset {dataset_id}: observations'
  space = metadata.get('observation_space')
  item = episode.get('observations')
  parts = list(_leaves(space, '', item, what) if space else _members(item, '', what))
  if not order:
    return parts
  known = {part.name: part for part in parts}
  if sorted(order) != sorted(known):
    raise UserError(
      f'--observation_keys {",".join(order)}: {what} are of {",".join(known) or "one part"}, each '
      'of which is to be named once'
    )
  return [known[name] for name in order]


def _leaves(space: Any, name: str, item, what: str) -> Iterator[_Part]:
  kind = space.get('type') if isinstance(space, dict) else None
  if kind in ('Dict', 'Tuple'):
    spaces = space.get('subspaces')
    if kind == 'Tuple' and isinstance(spaces, list):
      spaces = {f'_index_{i}': x for i, x in enumerate(spaces)}
    if not isinstance(spaces, dict):
      raise UserError(f'{what} are a {kind}, whose subspaces metadata.json does not tell')
    for key, subspace in spaces.items():
      yield from _leaves(subspace, f'{name}/{key}'.lstrip('/'), item, what)
    return
  shape = tuple(space.get('shape') or [space.get('n')]) if isinstance(space, dict) else ()
  if kind not in ('Box', 'MultiBinary') or (not name and len(shape) != 1):
    sort = f'a {kind} of shape {list(shape)}' if kind == 'Box' else f'a {kind}'
    raise UserError(f'{what} are {sort}; needed is a flat Box, or a Dict of Boxes')
  if not all(isinstance(n, int) for n in shape):
    raise UserError(f'{what} are of shape {list(shape)} in metadata.json, which is no shape')
  if space.get('dtype') == 'uint8' and len(shape) > 1:
    raise UserError(f'{what} have images of shape {list(shape)}, which these agents do not take')
  yield _Part(name, f'observations/{name}'.rstrip('/'), shape)


def _members(item, name: str, what: str) -> Iterator[_Part]:
  """As `_leaves`, where no space is told: what the first episode has, by the alphabet."""
  if item is None:
    raise UserError(f'{what} are not there')
  if isinstance(item, h5py.Group):
    for key in sorted(item):
      yield from _members(item[key], f'{name}/{key}'.lstrip('/'), what)
    return
  if not name:
    check_array(item, what, 'fiu', 2)
  yield _Part(name, f'observations/{name}'.rstrip('/'), item.shape[1:])


def _n_actions(metadata: dict[str, Any], episode: h5py.Group, dataset_id: str) -> int:
  space = metadata.get('action_space')
  if isinstance(space, dict) and space.get('type') != 'Box':
    raise UserError(
      f'Minari dataset {dataset_id} has actions of a {space.get("type")}: discrete or of parts; '
      'needed is a flat Box of floats'
    )
  what = f'Minari dataset {dataset_id}: actions'
  if 'actions' not in episode:
    raise UserError(f'{what} are not there')
  check_array(episode['actions'], what, 'f', 2)
  return episode['actions'].shape[1]


def _check(episode: h5py.Group, what: str, parts: Sequence[_Part], n_actions: int) -> int:
  """How many steps an episode has; raises UserError where it does not fit."""
  for name in ('observations', 'actions', 'rewards', 'terminations', 'truncations'):
    if name not in episode:
      raise UserError(f'{what} has no {name}; it has {", ".join(episode)}')
  n = episode['actions'].shape[0] if isinstance(episode['actions'], h5py.Dataset) else 0
  check_array(episode['actions'], f'{what}/actions', 'f', 2, n)
  if episode['actions'].shape[1] != n_actions:
    raise UserError(f'{what}/actions are {episode["actions"].shape[1]} numbers, not {n_actions}')
  for name in ('rewards', 'terminations', 'truncations'):
    check_array(episode[name], f'{what}/{name}', 'fiub', 1, n)
  for name, kind, n_dims in ((NEXT_ACTIONS, 'f', 2), (ENDS, 'iu', 1), (DISCOUNTS, 'f', 1)):
    if name in episode:
      check_array(episode[name], f'{what}/{name}', kind, n_dims, n + 1)
  for part in parts:
    if not isinstance(episode.get(part.path), h5py.Dataset):
      raise UserError(f'{what} has no array {part.path}')
    array = episode[part.path]
    if array.dtype.kind not in 'fiub':
      raise UserError(f'{what}/{part.path} holds no numbers (its type is {array.dtype})')
    if array.shape != (n + 1, *part.shape):
      raise UserError(
        f'{what}/{part.path} is of shape {list(array.shape)}; {n} actions need one of '
        f'{[n + 1, *part.shape]}'
      )
  return n


def _pieces(file, path: str, names, lengths, parts: Sequence[_Part]) -> Iterator[Steps]:
  own = all(key in file[name] for name in names for key in (NEXT_ACTIONS, ENDS, DISCOUNTS))
  for name, n in zip(names, lengths):
    episode, what = file[name], f'{path}: {name}'
    for i in range(0, n, PIECE):
      j = min(i + PIECE, n)
      read = functools.partial(_read, episode, what, i)
      with reading(path):
        s = np.concatenate([read(p.path, j + 1).reshape(j + 1 - i, -1) for p in parts], axis=1)
        if own:
          end = episode[ENDS][i + 1 : j + 1]
          a_next = floats(episode[NEXT_ACTIONS][i + 1 : j + 1], f'{what}/{NEXT_ACTIONS}', i)
          discount = floats(episode[DISCOUNTS][i + 1 : j + 1], f'{what}/{DISCOUNTS}', i)
        else:
          end, a_next, discount = _ends(episode, what, i, j, n), None, None
        yield Steps(
          s=s[:-1],
          a=read('actions', j),
          reward=read('rewards', j, np.float64).reshape(-1),
          end=end,
          s_next=s[1:],
          a_next=a_next,
          discount=discount,
        )
  file.close()


def _read(episode: h5py.Group, what: str, i: int, name: str, j: int, dtype=np.float32):
  return floats(episode[name][i:j], f'{what}/{name}', i, dtype)


def _ends(episode: h5py.Group, what: str, i: int, j: int, n: int) -> np.ndarray:
  end = np.full(j - i, GOES_ON, np.int8)
  if j == n:
    end[-1] = CUT_OFF
  for name, code in (('truncations', TIME_LIMIT), ('terminations', TERMINAL)):
    end[flags(episode[name][i:j].reshape(-1), f'{what}/{name}')] = code
  return end


# --- Writing --------------------------------------------------------------------------------------


def place(dataset_id: str) -> str:
  """Where `write` writes; raises UserError where Minari takes no such id."""
  if not re.fullmatch(r'([-\w]+/)*[-\w]+-v\d+', dataset_id):
    raise UserError(f'--target {dataset_id}: the id of a Minari dataset reads as brac/eps1-v0')
  return os.path.join(_root(), dataset_id, 'data')


def write(folder: str, export: Export) -> None:
  """Writes a dataset as Minari 0.5 does, with what it has no place for in `infos/`.

  An episode ends where `Export.lasts` says: its T + 1 observations are the s1 of its rows and the
  s2 of its last.

  Raises:
    OSError: it cannot be written.
  """
  os.makedirs(folder)
  rows, terminals = export.rows, export.terminals()
  stops = np.flatnonzero(export.lasts()) + 1
  with h5py.File(os.path.join(folder, _MAIN), 'w', track_order=True) as file:
    for k, (i, j) in enumerate(zip([0, *stops[:-1]], stops)):
      episode = file.create_group(f'episode_{k}')
      episode.attrs.update({'id': k, 'total_steps': j - i})
      last = np.arange(i, j) == j - 1
      for name, values in {
        'observations': np.concatenate([rows.s1[i:j], rows.s2[j - 1 : j]]),
        'actions': rows.a1[i:j],
        'rewards': rows.reward[i:j],
        'terminations': terminals[i:j],
        'truncations': last & ~terminals[i:j],
        # What came with an observation: with the first, before any step, there is nothing.
        NEXT_ACTIONS: np.concatenate([np.zeros_like(rows.a2[:1]), rows.a2[i:j]]),
        ENDS: np.concatenate([np.full(1, GOES_ON, np.int8), rows.end[i:j]]),
        DISCOUNTS: np.concatenate([np.ones(1, np.float32), rows.discount[i:j]]),
      }.items():
        episode[name] = values
  size = os.path.getsize(os.path.join(folder, _MAIN))
  with open(os.path.join(folder, _METADATA), 'w', encoding='utf-8') as f:
    json.dump(_make_metadata(export, len(stops), size), f)


def _make_metadata(export: Export, n_episodes: int, size: int) -> dict[str, Any]:
  n_states = export.rows.s1.shape[1]
  infinite = np.full(n_states, np.inf, np.float32)
  metadata = {
    'dataset_id': export.target,
    'description': export.description,
    'minari_version': '0.5.3',
    'data_format': 'hdf5',
    'total_episodes': n_episodes,
    'total_steps': len(export.rows.reward),
    'dataset_size': round(size / 1e6, 1),
    'author': [],
    'author_email': [],
    'observation_space': _box(-infinite, infinite),
    'action_space': _box(export.low, export.high),
    _ENV_NAME: export.env_name,
  }
  spec = export.facts.get('env_spec')
  if spec and 'observation_keys' not in export.facts:  # whose observations are no Box there
    metadata['env_spec'] = json.dumps(spec)
  if keys := export.facts.get('observation_keys'):
    metadata[_OBSERVATION_KEYS] = json.dumps(keys)
  if export.reference:
    low, high, whose = export.reference
    metadata |= {'ref_min_score': low, 'ref_max_score': high, 'num_episodes_average_score': 100}
  return metadata


def _box(low: np.ndarray, high: np.ndarray) -> str:
  bounds = {'low': low.astype(np.float32).tolist(), 'high': high.astype(np.float32).tolist()}
  return json.dumps({'type': 'Box', 'dtype': 'float32', 'shape': [len(low)], **bounds})
