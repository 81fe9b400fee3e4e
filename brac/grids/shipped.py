"""The shipped policies, and the manifest that says what made each of them and what it returns."""

import hashlib
import json
import os
import re
import shutil
from typing import NamedTuple, Optional

from brac import files
from brac.errors import UserError

MANIFEST = 'MANIFEST.json'
_EPISODES, _SEED = 20, 0
_ABOUT = (
  f'Returns are the mean and the standard deviation (of the population) over {_EPISODES} episodes, '
  f'evaluation seed {_SEED}: of the mode of the policy, as evaluations are, and of samples of it, '
  'as data are collected. `python -m brac.manifest` checks all of this. The origin of a clone is '
  'the fingerprint of the data that it was cloned from, and the mean of its log b(a|s) on them; '
  'where there is no fingerprint, on 20,000 transitions that were collected in the same way.'
)
# What the published files hold; the optimizers and the seed of a run are not among it.
_KEPT = {
  'agent_partial_target': ('policy', 'agent', 'global_step'),
  'agent_behavior': ('policy',),
}


class Entry(NamedTuple):
  """What the manifest says of a policy."""

  command: str
  commit: str
  seed: int
  returns: dict[str, dict[str, float]]  # 'mode' and 'sample', each with a 'mean' and a 'std'
  sha256: dict[str, str]  # by the name of the file in the policy's folder
  origin: Optional[dict[str, object]] = None  # of a clone: see `clones.Origin`


def read(root: str) -> dict[str, Entry]:
  """The manifest in a folder: its entries by the paths of the policies; none without a manifest.

  Raises:
    UserError: it does not read as one.
  """
  path = os.path.join(root, MANIFEST)
  if not os.path.exists(path):
    return {}
  try:
    with open(path, encoding='utf-8') as f:
      entries = {k: Entry(**entry) for k, entry in json.load(f)['policies'].items()}
    for entry in entries.values():
      for how in ('mode', 'sample'):
        entry.returns[how]['mean'] + entry.returns[how]['std'] + 0.0
      entry.sha256.items()
  except (ValueError, KeyError, TypeError, AttributeError) as e:
    raise UserError(f'{path} does not read as a manifest: {e!r}') from e
  return entries


def write(root: str, entries: dict[str, Entry]) -> None:
  path = os.path.join(root, MANIFEST)
  policies = {
    place: {k: v for k, v in entries[place]._asdict().items() if v is not None}
    for place in sorted(entries)
  }
  files.write_text(path, json.dumps({'about': _ABOUT, 'policies': policies}, indent=2) + '\n')


def file_faults(root: str, entries: dict[str, Entry]) -> list[str]:
  """What is wrong with the files below a folder: missing, changed, or not listed."""
  listed = {
    os.path.join(os.path.dirname(place), name): digest
    for place, entry in entries.items()
    for name, digest in entry.sha256.items()
  }
  there = {
    os.path.relpath(os.path.join(folder, name), root)
    for folder, _, names in os.walk(root)
    for name in names
    if name != MANIFEST and not name.startswith('.')
  }
  faults = [f'{path} is listed and not there' for path in sorted(listed.keys() - there)]
  faults += [f'{path} is there and not listed' for path in sorted(there - listed.keys())]
  for path in sorted(listed.keys() & there):
    digest = _sha256(os.path.join(root, path))
    if digest != listed[path]:
      faults.append(f'{path} has the checksum {digest}, listed is {listed[path]}')
  return faults


def _sha256(path: str) -> str:
  with open(path, 'rb') as f:
    return hashlib.sha256(f.read()).hexdigest()


def measure(path: str, env_name: str) -> dict[str, dict[str, float]]:
  """The returns of a policy as an entry has them; equal ones each time on one machine.

  Raises:
    UserError: it does not load.
  """
  from brac import environments, policies, policy_loader
  from brac.networks import Box
  from brac.rollouts import Evaluator

  env = environments.described(env_name)
  specs = env.observation_spec, env.action_spec
  actor = policy_loader.load_actor(path, specs[0].shape[0], Box.of(specs[1]), 'policy')
  measured = {}
  for how, mode in (('mode', True), ('sample', False)):
    policy = policies.ActorPolicy(*specs, actor, mode)
    values = Evaluator(env_name, {'main': policy}, _EPISODES, _SEED).run(0)['main']
    measured[how] = {'mean': round(values.mean(), 2), 'std': round(values.std(), 2)}
  return measured


def tolerance(listed: dict[str, float], now: dict[str, float]) -> float:
  """How far a mean may be from the listed one; both have a 'mean' and a 'std'.

  The physics is chaotic: where another machine rounds one operation differently, the episodes are
  other ones from the same distribution. The difference of two means of n such episodes has the
  standard deviation √((σ² + τ²) / n), of which three are allowed: of both samples, for where one
  episode in twenty walks, either may have missed it. And a tenth of the mean, two episodes of 20,
  for falls so rare that neither knows of them.
  """
  variance = (listed['std'] ** 2 + now['std'] ** 2) / _EPISODES
  return 3 * variance**0.5 + 0.1 * abs(listed['mean'])


def return_faults(place: str, entry: Entry, measured: dict[str, dict[str, float]]) -> list[str]:
  """Where the means of a policy are too far from the listed ones."""
  faults = []
  for how, now in measured.items():
    listed = entry.returns[how]
    allowed = tolerance(listed, now)
    if not abs(now['mean'] - listed['mean']) <= allowed:
      faults.append(
        f'{place} returns {now["mean"]:.1f} ({how}), listed is {listed["mean"]:.1f} ± {allowed:.1f}'
      )
  return faults


def check(root: str) -> None:
  """Checks the policies in a folder, and prints a line for each of them and for each fault.

  Raises:
    UserError: there is a fault.
  """
  entries = read(root)
  if not entries:
    raise UserError(f'{os.path.join(root, MANIFEST)}: there is no such manifest, or none is listed')
  faults = file_faults(root, entries)
  for place, entry in entries.items():
    try:
      measured = measure(os.path.join(root, place), place.split(os.sep)[0])
    except UserError as error:
      faults.append(f'{place} does not load: {error}')
      continue
    wrong = return_faults(place, entry, measured)
    faults += wrong
    equal = 'as listed' if measured == entry.returns else 'too far off' if wrong else 'in the band'
    print(f'{place}: {_returns(measured)}: {equal}')
  for fault in faults:
    print(f'FAULT: {fault}')
  if faults:
    raise UserError(f'{root}: {len(faults)} faults, the first: {faults[0]}')
  size = sum(
    os.path.getsize(os.path.join(root, os.path.dirname(place), name))
    for place, entry in entries.items()
    for name in entry.sha256
  )
  print(f'{root}: {len(entries)} policies, {size / 1e6:.1f} MB, no faults')


def _returns(measured: dict[str, dict[str, float]]) -> str:
  return ', '.join(f'{how} {x["mean"]:.1f} ± {x["std"]:.1f}' for how, x in measured.items())


def place_of(source: str, root: str) -> str:
  """Where a policy belongs below `root`, from where its run left it.

  Raises:
    UserError: its path is not that of a run.
  """
  source, root = os.path.abspath(source), os.path.abspath(root)
  if source.startswith(root + os.sep):
    return os.path.relpath(source, root)
  parts = source.split(os.sep)
  if parts[-1] == 'agent_partial_target' and len(parts) > 3:
    return os.path.join(parts[-4], parts[-1])  # {ENV}/{AGENT}/{SUB_DIR}/agent_partial_target
  if parts[-1] == 'agent_behavior' and len(parts) > 6:
    env_name, data_name, n_train, agent, _, seed, name = parts[-7:]
    return os.path.join(env_name, data_name, n_train, agent, '0', seed, name)
  raise UserError(
    f'--ship {source}: neither {{ENV}}/{{AGENT}}/{{SUB_DIR}}/agent_partial_target nor '
    '{ENV}/{DATA_NAME}/n{N_TRAIN}/{AGENT}/{SUB_DIR}/{SEED}/agent_behavior'
  )


def ship(source: str, root: str, command: str, commit: str) -> None:
  """Puts a policy of a run among the shipped ones, as the published files are, and lists it.

  Raises:
    UserError: it is there already, does not load, or was not made as the command says.
  """
  from brac import checkpoints, clones

  entries, place = read(root), place_of(source, root)
  path, name = os.path.join(root, place), os.path.basename(place)
  if name not in _KEPT:
    raise UserError(f'--ship {source}: an {" or ".join(_KEPT)} is shipped')
  there_already = os.path.abspath(source) == os.path.abspath(path)
  if checkpoints.exists(path) and not there_already:
    raise UserError(f'{path} is there already; remove it to ship another')
  seed = int((re.findall(r'--seed[= ](\d+)', command) or [0])[-1])
  # A clone has no seed in it; its run has.
  for run in (source, os.path.join(os.path.dirname(source), 'agent')):
    if checkpoints.exists(run):
      reader = checkpoints.Reader(run)
      if 'seed' in reader.shapes and reader.read('seed') != seed:
        raise UserError(f'{run} has the seed {reader.read("seed")}, the command {seed}')
  results = os.path.join(os.path.dirname(source), 'results.csv')
  if name == 'agent_behavior' and not os.path.isfile(results):
    raise UserError(f'{results}, which is shipped with a clone, is not there')
  # What may go wrong does before there are files.
  returns = measure(source, place.split(os.sep)[0])
  origin = clones.origin(source)._asdict() if name == 'agent_behavior' else None

  names = []
  if not there_already:
    checkpoints.save(path, **_objects(source, _KEPT[name]))
    if name == 'agent_behavior':
      shutil.copyfile(results, os.path.join(os.path.dirname(path), 'results.csv'))
  folder = os.path.dirname(path)
  for file in sorted(os.listdir(folder)):
    is_results = file == 'results.csv' and name == 'agent_behavior'
    if is_results or re.fullmatch(re.escape(name) + r'\.(index|data-\d{5}-of-\d{5})', file):
      names.append(file)
  sha256 = {file: _sha256(os.path.join(folder, file)) for file in names}
  write(root, {**entries, place: Entry(command, commit, seed, returns, sha256, origin)})
  print(f'{path}: {_returns(returns)}')


def _objects(path: str, keep) -> dict[str, object]:
  """The parts `keep` of a checkpoint, as objects that save under the same keys."""
  import tensorflow as tf

  from brac import checkpoints

  reader, root = checkpoints.Reader(path), tf.Module()
  for key in reader.shapes:
    *parents, name = key.split('/')
    node = root
    for parent in parents:
      if not hasattr(node, parent):
        setattr(node, parent, tf.Module())
      node = getattr(node, parent)
    setattr(node, name, tf.Variable(reader.read(key)))
  return {name: getattr(root, name) for name in keep if hasattr(root, name)}
