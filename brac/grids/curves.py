"""Figures of learning curves."""

import math

from brac.grids.statistics import band
from brac.grids.summary import LEFT_OUT, Summary
from brac.results import Task

# Okabe and Ito's colors, which people with any color vision tell apart.
BLUE, VERMILION, GREEN, PURPLE = '#0072B2', '#D55E00', '#009E73', '#CC79A7'


def draw(summary: Summary, task: Task, path: str) -> None:
  """The learning curves of a task: a panel for each algorithm, all on the same axes."""
  from matplotlib.figure import Figure
  from matplotlib.ticker import EngFormatter

  names = [a for a in summary.algorithms if any(run.returns for run in summary.of(task, a))]
  n_columns = min(4, len(names))
  n_rows = math.ceil(len(names) / n_columns)
  size = 0.6 + 2.9 * n_columns, 1.3 + 2.2 * n_rows
  figure = Figure(figsize=size, dpi=120, layout='constrained')
  axes = list(figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).flat)
  own = summary.behavior.get(task)
  handles = {}
  for k_panel, (name, ax) in enumerate(zip(names, axes)):
    averaged = summary.averaged(task, name)
    for k, (_, policy) in enumerate(summary.rows([name])):
      color, style = ((BLUE, '-'), (VERMILION, '--'), (GREEN, '-.'), (PURPLE, ':'))[k % 4]
      for run in summary.of(task, name):
        if run.steps and policy in run.returns and run not in averaged:
          (line,) = ax.plot(
            run.steps, run.returns[policy], style, color='0.6', lw=0.9, marker='.', ms=3
          )
          handles.setdefault('unfinished or shorter run', line)
      having = [run for run in averaged if policy in run.returns]
      if having:
        steps, mean, std = band(having, policy)
        (line,) = ax.plot(
          steps, mean, style, color=color, lw=1.5, marker='.' if len(steps) == 1 else ''
        )
        handles.setdefault(policy, line)
        if len(having) > 1:
          band_of = ax.fill_between(steps, mean - std, mean + std, color=color, alpha=0.2, lw=0)
          handles.setdefault('± 1 standard deviation over seeds (divided by n)', band_of)
    if own:
      data = ax.axhline(own.by_step, color='black', ls=':', lw=1)
      handles.setdefault('behavior data, by step', data)
    seeds = f'{len(averaged)} seed{"" if len(averaged) == 1 else "s"}'
    cell = summary.cell(task, name, summary.rows([name])[0][1])
    more = [f'{n} {what}' for what in LEFT_OUT if (n := getattr(cell, what))]
    mark = '?' if cell.guessed else ''
    ax.set_title(plain(f'{name} ({", ".join([seeds + mark, *more])})'), fontsize=9)
    ax.grid(alpha=0.25)
    ax.tick_params(labelsize=8, labelbottom=True)
    ax.xaxis.set_major_formatter(EngFormatter(sep=''))
    if k_panel + n_columns >= len(names):
      ax.set_xlabel('training step', fontsize=9)
    if k_panel % n_columns == 0:
      ax.set_ylabel('return of an episode\n(sum of rewards)', fontsize=9)
  for ax in axes[len(names) :]:
    ax.remove()
  env_name, data_name, n_train = task
  title = f'{env_name}, data {data_name}, {n_train[1:]} transitions'
  figure.suptitle(plain(title), fontsize=11)
  names, place = map(plain, handles), 'outside lower center'
  figure.legend(handles.values(), names, loc=place, ncols=4, fontsize=8, frameon=False)
  figure.savefig(path)


def plain(text: str) -> str:
  """Text in which matplotlib sees no formula."""
  return text.replace('$', r'\$')
