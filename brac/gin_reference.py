"""Prints what gin can bind: the page docs/gin_reference.md, made from signatures and docstrings.

python -m brac.gin_reference > docs/gin_reference.md
"""

import importlib
import inspect
import re

from brac import gin_config, programs
from brac.hyperparameters import model_params_reads

_HEAD = """# gin reference

What gin files and `--gin_bindings` can bind: each parameter by the name to bind it by, with its
default and its meaning. `python -m brac.gin_reference > docs/gin_reference.md` makes this page from
the code.
"""


def reference() -> str:
  """The page, of all configurables whose modules are imported."""
  from brac.agents.agent import Agent

  page = [_HEAD]
  selectors = {gin_config.short(s): s for s in gin_config.configurables()}
  for short, selector in sorted(selectors.items()):
    configurable = gin_config.configurables()[selector]
    summary, texts = inspect.getdoc(configurable).split('\n\n')[0], meanings(configurable)
    page.append(f'## {short}\n\n{_line(summary)}\n')
    if inspect.isclass(configurable) and issubclass(configurable, Agent):
      page.append(f'{_lists(configurable)}\n')
    for name, parameter in gin_config.parameters(selector).items():
      default = '' if parameter.default is parameter.empty else f' = {parameter.default!r}'
      page.append(f'- `{short}.{name}{default}`: {texts.get(name, "")}')
    page.append('')
  return '\n'.join(page)


def _lists(agent) -> str:
  """How the experiment's parameters that are lists are read for an agent."""
  names = {'optimizers': agent.OPTIMIZERS, 'weight_decays': agent.DECAYS}
  reads = {name: f'({", ".join(entries)},)' for name, entries in names.items()}
  reads = {'model_params': model_params_reads(agent.UNITS, agent.NUMBERS), **reads}
  return 'For it ' + ', '.join(f'`{name}` reads `{how}`' for name, how in reads.items()) + '.'


def meanings(configurable) -> dict[str, str]:
  """What the docstrings of a function, or of a class and its bases, say of each parameter.

  An entry such as `batch_size, ...: see `agents.agent.Agent`` stands for what is said there.
  """
  found = {}
  for source in inspect.getmro(configurable) if inspect.isclass(configurable) else [configurable]:
    _, _, args = (inspect.getdoc(source) or '').partition('\nArgs:\n')
    args = re.split(r'\n(?=\S)', args)[0]  # up to the next section
    for names, text in re.findall(r'^  (\S[^:\n]*): (.*(?:\n    .*)*)', args, re.M):
      elsewhere = re.fullmatch(r'see `([\w.]+)\.(\w+)`\.?', _line(text))
      if elsewhere:
        module = importlib.import_module(f'brac.{elsewhere[1]}')
        found = {**meanings(getattr(module, elsewhere[2])), **found}
      elif '...' not in names:  # of a base, which comes later
        found = {**dict.fromkeys(names.split(', '), _line(text)), **found}
  return found


def _line(text: str) -> str:
  return ' '.join(text.split())


def main() -> None:
  gin_config.import_all()
  print(reference(), end='')


if __name__ == '__main__':
  programs.run(main)
