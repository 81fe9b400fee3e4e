"""The agents, by the names that `--agent_name` takes; none is imported before it is asked for.

To add one is a file and a line here: docs/add_an_agent.md.
"""

import importlib

from brac.errors import UserError, nearest

AGENTS = {
  'sac': 'brac.agents.sac_agent:Agent',
  'bc': 'brac.agents.bc_agent:Agent',
  'bcq': 'brac.agents.bcq_agent:Agent',
  'brac_primal': 'brac.agents.brac_primal_agent:Agent',
  'brac_dual': 'brac.agents.brac_dual_agent:Agent',
  'fqe': 'brac.agents.fqe_agent:Agent',
}


def load(name: str, parameter: str = '--agent_name') -> type:
  """The class of an agent, a subclass of `agents.agent.Agent`.

  Args:
    name: one of `AGENTS`, or `module:Class` of an agent elsewhere on Python's path.
    parameter: what gave the name, for errors.

  Raises:
    UserError: there is no such agent; the message says which there are.
  """
  path = AGENTS.get(name, name) if isinstance(name, str) else ''
  module_name, colon, class_name = path.partition(':')
  if not colon:
    raise UserError(
      f'unknown agent {name!r}; {parameter} is one of {", ".join(map(repr, AGENTS))}, or '
      f"'module:Class' of your own{nearest(str(name), AGENTS)}"
    )
  if not all(map(str.isidentifier, module_name.split('.'))):
    raise UserError(f"agent {name!r}: {module_name!r} is no module; it reads 'module:Class'")
  try:
    module = importlib.import_module(module_name)
  except ImportError as error:
    raise UserError(f'agent {name!r}: {module_name} cannot be imported: {error}') from error
  from brac.agents.agent import Agent

  classes = {k: v for k, v in vars(module).items() if isinstance(v, type) and issubclass(v, Agent)}
  if class_name not in classes:
    raise UserError(
      f'agent {name!r}: {module_name} has no class {class_name!r} that is an agents.agent.Agent'
      + nearest(class_name, classes)
    )
  return classes[class_name]


def load_all() -> None:
  """Imports every agent of the table, for gin to know its parameters."""
  for name in AGENTS:
    load(name)


def folder(name: str) -> str:
  """What an agent's runs are kept under: its name, with a dot for the colon of one elsewhere."""
  return name.replace(':', '.')
