"""The policy of a checkpoint, as it acts there: a policy alone, or one of an agent's that we saved.

What an agent's policy needs besides its networks (their sizes, BCQ's Φ and number of samples)
stands in the settings that a run keeps in its save.
"""

import ast
import inspect
from typing import Optional

import gin
import tensorflow as tf

from brac import agents, checkpoints, policy_loader
from brac.agents.agent import GIVEN, Agent
from brac.data.replay import Dataset
from brac.data.transitions import Transitions
from brac.errors import UserError
from brac.networks import Box
from brac.policies import ActorPolicy, MaxQPolicy, Policy

_EXPERIMENTS = ('train_eval_offline', 'train_eval_online')  # which have the agents' parameters too


def load(path: str, name: Optional[str], observation_spec, action_spec) -> Policy:
  """A policy of a checkpoint, by its name in `load_all`; None: the one that its agent is judged by.

  Raises:
    UserError: see `load_all`; or it has no such policy.
  """
  found, judged_by = load_all(path, observation_spec, action_spec)
  return named(found, judged_by if name is None else name, path)


def named(found: dict[str, Policy], name: str, path: str) -> Policy:
  """One of the policies that `load_all` found at a path.

  Raises:
    UserError: there is none of that name.
  """
  if not isinstance(name, str) or name not in found:
    raise UserError(f'policy {path} has no {name!r}; there is {", ".join(map(repr, found))}')
  return found[name]


def load_all(path: str, observation_spec, action_spec) -> tuple[dict[str, Policy], str]:
  """The policies of a checkpoint by name, `main` first, and the name of the one it is judged by.

  Args:
    path: the `agent` of a run, whose policies are those that its evaluations name; a clone or
      another actor, as `agent_behavior` and `agent_partial_target`, whose `main` is its mode; or an
      ONNX file, which is `main`. An actor also has `sample`, and with critics beside it `max_q`.
    observation_spec: states `[S]`.
    action_spec: actions `[A]`, bounded.

  Raises:
    UserError: there is none, or it is of other states and actions.
  """
  path = policy_loader.expanded(path)
  specs = observation_spec, action_spec
  if path.endswith('.onnx'):
    return {'main': policy_loader.load_onnx(path, *specs)}, 'main'
  there = checkpoints.Reader(path, 'policy').shapes
  policy_loader.check_order(path, 'policy')
  kept = checkpoints.kept_settings(path)
  if '--agent_name' in kept:
    agent = _of_agent(path, kept, specs)
    found, judged_by = agent.policies(), agent.judged_by
  elif 'agent/_b_net/_encoder_layers/0/kernel' in there:
    raise UserError(f'policy {path} is of bcq, and does not tell the settings that it acts by')
  else:
    actor = policy_loader.load_actor(path, specs[0].shape[0], Box.of(action_spec), 'policy')
    found, judged_by = {'main': ActorPolicy(*specs, actor, mode=True)}, 'main'
  if isinstance(found['main'], ActorPolicy):
    (actor,) = found['main'].networks
    found.setdefault('sample', ActorPolicy(*specs, actor))
    critic = policy_loader.load_first_critic(path, specs[0].shape[0], actor.box)
    if critic:
      found.setdefault('max_q', MaxQPolicy(*specs, actor, critic))
  return found, judged_by


def _of_agent(path: str, kept: dict[str, str], specs) -> Agent:
  """The agent of a save, made with the parameters that it was made with there."""
  made = agents.load(ast.literal_eval(kept['--agent_name']), f'the agent of {path}')
  if '--frozen_policy' in kept:
    raise UserError(
      f"policy {path}: the policy of {made.name} is another checkpoint's, of which it tells the "
      'value; name that one'
    )
  common = inspect.signature(Agent.__init__).parameters.keys() - {'self', *GIVEN}
  own = inspect.signature(made).parameters.keys()
  # Of the class and those that it is made from the last word is its own.
  places = [(_EXPERIMENTS, common), *((_selectors(c), own) for c in reversed(made.__mro__))]
  parameters = {}
  for selectors, names in places:
    for setting, text in kept.items():
      selector, _, parameter = setting.rpartition('.')
      if selector in selectors and parameter in names:
        try:
          parameters[parameter] = ast.literal_eval(text)
        except (ValueError, SyntaxError) as error:
          raise UserError(f'policy {path}: its {setting} = {text} is no plain value') from error
  if made.CLONE:
    # So that an error is of the policy, not of its clone.
    policy_loader.load_actor(path, specs[0].shape[0], Box.of(specs[1]), 'policy')
    parameters[made.CLONE.parameter] = path  # which has it
  widths = (int(spec.shape[0]) for spec in specs)
  nothing = Dataset(Transitions.zeros(1, *widths))
  agent = made(observation_spec=specs[0], action_spec=specs[1], data=nothing, **parameters)
  checkpoints.restore(path, 'policy', policy=agent.policy, agent=agent.saved)
  return agent


def _selectors(cls: type) -> set[str]:
  """What gin may write for a class: its whole selector, or the end that told it from others."""
  whole = [name for name, made in gin.config._REGISTRY.items() if made.wrapped is cls]
  return {name.split('.', i)[-1] for name in whole for i in range(name.count('.') + 1)}


def networks_of(policy: Policy) -> tf.Module:
  """What a policy acts by, to be saved: an actor as itself, several networks in a list."""
  if len(policy.networks) == 1:
    return policy.networks[0]
  several = tf.Module()
  several.networks = list(policy.networks)
  return several
