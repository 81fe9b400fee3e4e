"""From the lines of a data config to policies.

A policy config is `[ptype, checkpoint, wrapper, hidden_units]`:

- ptype: `randwalk` (actions drawn uniformly), `randinit` (an untrained actor), `load`, `onnx`, or
  `python`;
- checkpoint: for `load` the file, without `.index`: an `agent_partial_target`, `agent_behavior`;
  for `onnx` the file: see `onnx_policy`; for `python` a function as `module:function`, of a module
  beside the data config or an installed one: `function(observations)` or
  `function(observations, rng)` takes an array `[B, S]`, and a `numpy.random.Generator` that the
  seed determines, and returns the actions `[B, A]`. Both kinds of actions are clipped to the box;
- wrapper: `['none']` (a sample of the policy), `['eps', ε]`, `['gaussian', std]`, or
  `['gaussianeps', std, ε]`;
- hidden_units: of the actor, such as `(200, 200)`; `()` where there is none.
"""

import ast
import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Optional, Sequence

import gin
import tensorflow as tf

from brac import checkpoints, onnx_policy, policies
from brac.errors import UserError, blaming, nearest
from brac.networks import Actor, Box, Critic
from brac.rng import INIT, Rng

_FIRST_CRITIC = 'agent/_q_nets/0/0'  # the key of the critic that max_q takes
_ORDER = 'dict_observations.keys'
KEPT_CLONE = 'agent/_b_net'  # the key of the clone in a save of an agent that has one
PTYPES = ('randwalk', 'randinit', 'load', 'onnx', 'python')
WRAPPERS = {
  'none': 0,
  'eps': 1,
  'gaussian': 1,
  'gaussianeps': 2,
}  # with how many numbers each takes


def load_actor(
  path: str,
  n_states: int,
  box: Box,
  what: str,
  units: Optional[Sequence[int]] = None,
  keys: Sequence[str] = ('policy',),
) -> Actor:
  """The actor that a checkpoint holds under the first of `keys` that it has, of its sizes there.

  Raises:
    UserError: there is none, it is not for such states and actions, or not of the units asked for.
  """
  if not isinstance(path, str) or not path:
    raise UserError(f'the {what} is the path of a checkpoint, not {path!r}')
  path = expanded(path)
  reader = checkpoints.Reader(path, what)
  key = next((key for key in keys if reader.layers(f'{key}/_layers')), keys[-1])
  layers = reader.layers(f'{key}/_layers')
  if not layers:
    raise UserError(f'{what} {path} holds no policy: it has no {key}/_layers/0/kernel')
  for i, kernel in enumerate(layers):
    if len(kernel) != 2:
      raise UserError(
        f'{what} {path} is no policy of dense layers: its {key}/_layers/{i}/kernel is {kernel}'
      )
  there = (layers[0][0], *(n_out for _, n_out in layers))
  units = [n_out for _, n_out in layers[:-1]] if units is None else units
  here = (n_states, *units, 2 * box.n_actions)
  if there != here:
    raise UserError(
      f'{what} {path} does not fit: its layers are {_sizes(there)}, asked for are {_sizes(here)} '
      '(states, hidden units, twice the actions)'
    )
  clipped = f'{key}/_log_std_clip' in reader.shapes
  actor = Actor(n_states, units, box, Rng(0, INIT), (0, 0) if clipped else None)
  name, *below = key.split('/')
  holder = actor
  for child in reversed(below):
    holder, held = tf.Module(), holder
    setattr(holder, child, held)
  checkpoints.restore(path, what, **{name: holder})
  return actor


def check_order(path: str, what: str) -> None:
  """Compares the order in which Dict observations are concatenated with that of a run's save.

  Raises:
    UserError: the policy at a path was trained in another order than gin binds.
  """
  path = expanded(path)
  # What a training saves at its target tells no settings; its last save, beside it, does.
  beside = [os.path.join(os.path.dirname(path), name) for name in ('agent_final', 'state')]
  saves = filter(checkpoints.exists, [path, *beside])
  kept = next(filter(None, map(checkpoints.kept_settings, saves)), {})
  if _ORDER not in kept:
    return
  then = tuple(ast.literal_eval(kept[_ORDER]))
  now = tuple(gin.get_bindings('dict_observations').get('keys', ()))
  if then != now:
    was, is_now = (', '.join(order) or 'their space orders them' for order in (then, now))
    way = f'bind {_ORDER}={then}' if then else f'leave {_ORDER} out'
    raise UserError(
      f'{what} {path} is of Dict observations concatenated as {was}, now they are as '
      f'{is_now}: {way}'
    )


def load_first_critic(path: str, n_states: int, box: Box) -> Optional[Critic]:
  """The critic that `max_q` takes, of a save of an agent; None where it holds none.

  Raises:
    UserError: there is no save, or its critic is not for such states and actions.
  """
  path = expanded(path)
  layers = checkpoints.Reader(path, 'policy').layers(f'{_FIRST_CRITIC}/_layers')
  if not layers:
    return None
  critic = Critic(n_states, box.n_actions, [n_out for _, n_out in layers[:-1]], Rng(0, INIT))
  holder = tf.Module()
  holder._q_nets = [[critic]]
  checkpoints.restore(path, 'policy', agent=holder)
  return critic


def load_clone(path: str, n_states: int, box: Box) -> Actor:
  """The clone of the behavior policy at a path, which may also be a save of an agent that has one.

  Raises:
    UserError: see `load_actor`.
  """
  actor = load_actor(path, n_states, box, 'behavior policy', keys=(KEPT_CLONE, 'policy'))
  check_order(path, 'behavior policy')
  return actor


def load_onnx(path: str, observation_spec, action_spec) -> policies.Policy:
  """The policy in an ONNX file.

  Raises:
    UserError: see `onnx_policy.load`.
  """
  specs, path = (observation_spec, action_spec), expanded(path)
  act = onnx_policy.load(path, *(int(spec.shape[0]) for spec in specs))
  return policies.PythonPolicy(*specs, act, path, act.content)


def expanded(path: str) -> str:
  """A path with what `~` and `$HOME` in it stand for."""
  return os.path.expandvars(os.path.expanduser(path))


def _sizes(sizes: Sequence[int]) -> str:
  return '-'.join(map(str, sizes))


def load_policy(
  config, observation_spec, action_spec, seed: int = 0, folder: Optional[str] = None
) -> policies.Policy:
  """The policy that a policy config describes.

  Args:
    config: see above.
    observation_spec: states `[S]`.
    action_spec: actions `[A]`, bounded.
    seed: starts an untrained actor.
    folder: where the modules of `python` policies are looked for first.

  Raises:
    UserError: the config does not read as it should, or its checkpoint or function does not load.
  """
  try:
    ptype, path, wrapper, units = config
  except (TypeError, ValueError):
    raise UserError(
      f'a policy config reads [ptype, checkpoint, wrapper, hidden_units], not {config!r}'
    ) from None
  if not isinstance(wrapper, (tuple, list)) or not wrapper:
    raise UserError(
      f"a wrapper in a policy config is a list such as ['none'] or ['eps', 0.1], not {wrapper!r}"
    )
  wrapper_name, *numbers = wrapper
  if not isinstance(units, (tuple, list)) or not all(type(n) is int and n > 0 for n in units):
    raise UserError(
      f'hidden_units in a policy config are numbers of units such as (200, 200), not {units!r}'
    )
  if ptype in ('load', 'onnx') and not (isinstance(path, str) and path):
    raise UserError(f'the checkpoint in a policy config is a path, not {path!r}')
  specs = observation_spec, action_spec
  n_states, box = int(observation_spec.shape[0]), Box.of(action_spec)
  if ptype == 'randwalk':
    policy = policies.RandomPolicy(*specs)
  elif ptype == 'randinit':
    policy = policies.ActorPolicy(*specs, Actor(n_states, units, box, Rng(seed, INIT)))
  elif ptype == 'load':
    try:
      actor = load_actor(path, n_states, box, 'policy', units)
    except UserError as error:
      if checkpoints.exists(expanded(path)):
        raise
      raise UserError(
        f'{error}; brac.train_online makes policies, and --policy_root_dir says where they are'
      ) from None
    check_order(path, 'policy')
    policy = policies.ActorPolicy(*specs, actor)
  elif ptype == 'onnx':
    policy = load_onnx(path, *specs)
  elif ptype == 'python':
    policy = policies.PythonPolicy(*specs, *_load_function(path, folder))
  else:
    raise UserError(f'unknown ptype {ptype!r} in a policy config{_there_are(ptype, PTYPES)}')
  if not isinstance(wrapper_name, str) or wrapper_name not in WRAPPERS:
    raise UserError(
      f'unknown wrapper {wrapper_name!r} in a policy config{_there_are(wrapper_name, WRAPPERS)}'
    )
  if len(numbers) != WRAPPERS[wrapper_name] or not all(
    isinstance(x, (int, float)) and not isinstance(x, bool) and 0 <= x < float('inf')
    for x in numbers
  ):
    raise UserError(
      f'wrapper {wrapper!r} in a policy config: {wrapper_name!r} takes '
      f'{WRAPPERS[wrapper_name]} numbers of at least 0'
    )
  if 'eps' in wrapper_name and numbers[-1] > 1:
    raise UserError(f'wrapper {wrapper!r} in a policy config: ε is a probability, at most 1')
  if wrapper_name.startswith('gaussian'):
    policy = policies.GaussianPolicy(policy, numbers[0])
  if wrapper_name.endswith('eps'):
    policy = policies.EpsilonPolicy(policy, numbers[-1])
  return policy


def _load_function(name, folder: Optional[str]) -> tuple[Callable, str, bytes]:
  """The function that `module:function` names, that name, and the source of its module."""
  module_name, colon, function_name = name.partition(':') if isinstance(name, str) else ('', '', '')
  if not (module_name and function_name):
    raise UserError(f"a python policy is named as 'module:function', not {name!r}")
  with contextlib.ExitStack() as stack:
    stack.enter_context(blaming(f'the policy {name} does not load'))
    if folder:
      sys.path.insert(0, folder)
      stack.callback(sys.path.remove, folder)
      stack.callback(setattr, sys, 'dont_write_bytecode', sys.dont_write_bytecode)
      sys.dont_write_bytecode = True  # leaves no __pycache__ in a user's folder
    module = importlib.import_module(module_name)
    function = getattr(module, function_name)
    draws = len(inspect.signature(function).parameters) > 1
    act = function if draws else lambda observations, rng: function(observations)
    return act, name, inspect.getsource(module).encode()


def _there_are(name, names) -> str:
  return f'; there are {", ".join(map(repr, names))}{nearest(str(name), names, 0)}'
