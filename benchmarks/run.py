"""Measures how fast everything is against the old way and against the bare machine:

  python benchmarks/run.py [--only training rollouts online startup] [--rounds 5] [--out FOLDER]

Prints one table, ratios first, and writes it as `benchmark.json` and `benchmark.png`. Rates hold
for this machine at this hour; ratios are medians over rounds in which the sides take turns, each
in a process of its own: this project with its threads, the old way with TensorFlow's, the bare
machine.
"""

import argparse
import collections
import importlib.util
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Dict, List, NamedTuple, Optional

PARTS = ('training', 'rollouts', 'online', 'startup')
CASES = ('bc', 'sac', 'brac_primal kl', 'brac_primal mmd', 'brac_dual kl', 'brac_dual w', 'bcq')
ENVS = ('HalfCheetah-v2', 'Hopper-v2', 'Walker2d-v2', 'Ant-v2')
# At least, on 2 cores. The smallest floating-point work of a step is the count, in MFLOP.
AGAINST_OLD = dict(zip(CASES, (3.2, 1.8, 2.1, 2.1, 2.0, 2.0, 1.6)))
OF_ROOFLINE = dict(zip(CASES, (0.55, *[0.75] * 6)))
OF_PHYSICS = {'HalfCheetah-v2': 0.85, 'Ant-v2': 0.90}
COLLECTION_AGAINST_OLD = {
  'HalfCheetah-v2': 40.0
}  # the others' bare physics is not 40 times as fast
STEPS, EVAL_FREQ = 500000, 5000  # of a paper run
EVALUATED = {'main': ('main',), 'both': ('main', 'max_q')}


class Row(NamedTuple):
  """A line of the table: a ratio, what it is to be at least, and the rates behind it.

  `bound` is what the ratio would be if a step's matrix products alone took time.
  """

  what: str
  ratio: float
  unit: str
  target: Optional[float] = None
  at_most: bool = False
  detail: str = ''
  bound: Optional[float] = None

  @property
  def verdict(self) -> str:
    if self.target is None:
      return ''
    met = self.ratio <= self.target if self.at_most else self.ratio >= self.target
    return 'met' if met else 'NOT MET'


class Side:
  """A process that one side of a comparison runs in."""

  def __init__(self, module: str):
    ours, theirs = multiprocessing.get_context('spawn').Pipe()
    self._pipe = ours
    self._process = multiprocessing.get_context('spawn').Process(
      target=_serve, args=(module, theirs), daemon=True
    )
    self._process.start()

  def __call__(self, function: str, *args):
    """What a function of the side's module returns there."""
    self._pipe.send((function, args))
    value, error = self._pipe.recv()
    if error:
      raise RuntimeError(error)
    return value

  def stop(self) -> None:
    self._pipe.send(None)
    self._process.join()


def _serve(module: str, pipe) -> None:
  os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
  from brac import programs

  programs.quiet_imports()
  if module == 'old_way':
    os.environ['TF_ENABLE_ONEDNN_OPTS'] = '1'  # as TensorFlow comes
  else:
    programs.set_up_tensorflow()
  import tensorflow as tf

  tf.get_logger().setLevel('ERROR')
  if module == 'bare':
    # Nobody reads these products: an optimizer would drop them.
    tf.config.optimizer.set_experimental_options({'disable_meta_optimizer': True})
  functions = __import__(module)
  for function, args in iter(pipe.recv, None):
    try:
      pipe.send((getattr(functions, function)(*args), None))
    except Exception:
      pipe.send((None, traceback.format_exc()))


def alternate(rounds: int, **calls) -> Dict[str, List[float]]:
  """Rates by name, over rounds in which the calls take turns; a first round only warms up.

  A call is how many steps it takes, the side, its function that gives the seconds, its arguments.
  """
  rates = {name: [] for name in calls}
  for k in range(rounds + 1):
    for name, (n, side, *call) in calls.items():
      seconds = side(*call)
      if k:
        rates[name].append(n / seconds)
  return rates


def median_ratio(xs: List[float], ys: List[float]) -> float:
  return statistics.median(x / y for x, y in zip(xs, ys))


def say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def training(rounds: int, results: Dict) -> List[Row]:
  """Training steps against the old way and against the bare products of the same shapes."""
  ours, old, bare = map(Side, ('ours', 'old_way', 'bare'))
  against_old, of_roofline, shares = [], [], []
  for case in CASES:
    say(f'training: {case}')
    shapes = tuple(map(tuple, ours('products', case)))
    n = max(20, round(0.7 / (ours('train', case, 20) / 20)))  # steps of some 0.7 s
    rates = alternate(
      rounds,
      ours=(n, ours, 'train', case, n),
      bare=(n, bare, 'multiply', shapes, n),
      old=(n // 2, old, 'train', case, n // 2),
    )
    mid = {side: statistics.median(x) for side, x in rates.items()}
    work = sum(2 * m * k * n for m, k, n, *_ in shapes) / 1e6
    results[f'training {case}'] = dict(steps_per_second=rates, products=len(shapes), mflop=work)
    speed = f'{mid["ours"]:.0f} steps/s'
    bound = median_ratio(rates['bare'], rates['old'])
    against_old.append(
      Row(
        f'{case}, against the old way',
        median_ratio(rates['ours'], rates['old']),
        '×',
        AGAINST_OLD[case],
        detail=f'{speed}, old {mid["old"]:.0f}; the bare products would be at {bound:.2f}',
        bound=bound,
      )  # fmt: skip
    )
    of_roofline.append(
      Row(
        f'{case}, of the roofline',
        median_ratio(rates['ours'], rates['bare']),
        '',
        OF_ROOFLINE[case],
        detail=f'{speed}, bare {mid["bare"]:.0f}; {work:.0f} MFLOP in {len(shapes)} products, '
        f'bare at {work * mid["bare"] / 1e3:.0f} GFLOP/s',
      )  # fmt: skip
    )
    # Where the cores' time goes: what a target that is not met would have to be taken from.
    parts = results[f'training {case}']['profile'] = ours('profile', case, n)
    rest = ', '.join(f'{what} {part:.2f}' for what, part in parts.items() if what != 'products')
    shares.append(Row(f'{case}, products, of all cores’ time', parts['products'], '', detail=rest))
  for side in (ours, old, bare):
    side.stop()
  return against_old + of_roofline + shares


def rollouts(rounds: int, results: Dict) -> List[Row]:
  """Collection and evaluation against bare physics and against the old way."""
  ours, old, bare = map(Side, ('ours', 'old_way', 'bare'))
  of_physics, against_old, shares = [], [], []
  for env_name in ENVS:
    if not ours('is_shipped', env_name):
      say(f'{env_name} has no shipped policy yet: left out')
      continue
    say(f'collection and evaluation: {env_name}')
    n, n_old, rates = 500000, 300, collections.defaultdict(list)
    for k in range(rounds + 1):
      seconds, rows = ours('collect', env_name, n, k)
      found = dict(
        collect=n / seconds,
        bare=n / bare('simulate', env_name, rows, n // 1000, k),
        in_step=n / bare('simulate', env_name, rows, n // 1000, k, True),
      )
      for name, names in EVALUATED.items():
        seconds, n_steps = ours('evaluate', env_name, names, k)
        found[name] = n_steps / seconds
      # The old way's policies act one after another.
      seconds = {x: old('rollout', env_name, x, n_old) for x in ('samples', *EVALUATED['both'])}
      found['old collect'] = n_old / seconds['samples']
      for name, names in EVALUATED.items():
        found[f'old {name}'] = len(names) * n_old / sum(seconds[x] for x in names)
      if k:  # the first only warms up
        for name, rate in found.items():
          rates[name].append(rate)
    mid = {name: statistics.median(x) for name, x in rates.items()}
    # What a target that is not met would have to be taken from.
    parts = ours('profile_collection', env_name, n)
    results[f'rollouts {env_name}'] = dict(steps_per_second=rates, profile=parts)
    rest = ', '.join(f'{what} {part:.2f}' for what, part in parts.items() if what != 'physics')
    shares.append(
      Row(f'{env_name}, physics, of collection’s time', parts['physics'], '', detail=rest)
    )
    for name, what, of, than_old in (
      ('collect', 'collection', OF_PHYSICS.get(env_name), COLLECTION_AGAINST_OLD.get(env_name)),
      ('main', 'evaluation of 20 episodes', None, None),
      ('both', 'evaluation of 20 episodes of main and max_q', None, None),
    ):
      speed = f'{mid[name]:.0f} steps/s'
      of_physics.append(
        Row(
          f'{env_name}, {what}, of bare physics',
          median_ratio(rates[name], rates['bare']),
          '',
          of,
          detail=f'{speed}, bare {mid["bare"]:.0f}, in step {mid["in_step"]:.0f}',
        )  # fmt: skip
      )
      against_old.append(
        Row(
          f'{env_name}, {what}, against the old way',
          median_ratio(rates[name], rates[f'old {name}']),
          '×',
          than_old,
          detail=f'{speed}, old {mid[f"old {name}"]:.0f}',
        )  # fmt: skip
      )
  for side in (ours, old, bare):
    side.stop()
  return of_physics + against_old + shares


def paper_run(results: Dict) -> List[Row]:
  """A paper run of brac_primal kl on HalfCheetah, from the rates that were measured."""
  train = results['training brac_primal kl']['steps_per_second']
  steps = results['rollouts HalfCheetah-v2']['steps_per_second']
  n_eval = STEPS // EVAL_FREQ * 2 * 20 * 1000
  ours = STEPS / statistics.median(train['ours']), n_eval / statistics.median(steps['both'])
  old = STEPS / statistics.median(train['old']), n_eval / statistics.median(steps['old both'])
  results['paper run'] = dict(ours_seconds=ours, old_seconds=old)
  hours = [f'{sum(x) / 3600:.2f} h ({x[0] / 3600:.2f} training)' for x in (ours, old)]
  detail = f'{hours[0]}, old {hours[1]}'
  return [Row('a paper run of brac_primal kl', sum(old) / sum(ours), '×', 4.0, detail=detail)]


def online(rounds: int, results: Dict) -> List[Row]:
  """SAC online against its gradient steps alone, and against the sum of its parts."""
  ours = Side('ours')
  say('SAC online')
  n = 200
  rates = alternate(
    rounds,
    online=(n, ours, 'train_online', n),
    gradient=(n, ours, 'train', 'sac', n),
    environment=(n, ours, 'explore', n),
  )
  ours.stop()
  results['online'] = dict(steps_per_second=rates)
  parts = [1 / (1 / x + 1 / y) for x, y in zip(rates['gradient'], rates['environment'])]
  mid = {name: statistics.median(x) for name, x in rates.items()}
  detail = (
    f'{mid["online"]:.0f} steps/s of both, gradient alone {mid["gradient"]:.0f}, environment alone '
    f'{mid["environment"]:.0f}'
  )
  return [
    Row('SAC online, of the gradient rate', median_ratio(rates['online'], rates['gradient']), '',
        0.85, detail=detail),
    Row('SAC online, of the sum of its parts', median_ratio(rates['online'], parts), ''),
  ]  # fmt: skip


def startup(rounds: int, results: Dict) -> List[Row]:
  """Loading a million transitions, and from the command to the first step; seconds and memory."""
  seconds, growth, start, peak = [], [], [], []
  with tempfile.TemporaryDirectory() as folder:
    ours = Side('ours')
    data = os.path.join(folder, 'data', 'HalfCheetah-v2', 'random', '0', 'data')
    os.makedirs(os.path.dirname(data))
    size = ours('save_data', data)
    ours.stop()
    for k in range(rounds):
      say(f'start-up, {k + 1} of {rounds}')
      fresh = Side('ours')
      s, bytes_ = fresh('load_data', data)
      fresh.stop()
      seconds.append(s)
      growth.append(bytes_ / size)
      s, bytes_ = _first_step(folder, k)
      start.append(s)
      peak.append(bytes_ / 2**30)
  mid = list(map(statistics.median, (seconds, growth, start, peak)))
  results['startup'] = dict(
    load_seconds=seconds, load_growth=growth, first_step_seconds=start, peak_gib=peak, bytes=size
  )
  return [
    Row('load of a million transitions, seconds', mid[0], 's', 3.0, True, f'{size / 1e6:.0f} MB'),
    Row('memory that this takes, of their size', mid[1], '×', 2.2, True),
    Row('from the command to the first step of bc, seconds', mid[2], 's',
        detail=f'peak memory {mid[3]:.2f} GiB'),
  ]  # fmt: skip


def _first_step(folder: str, k: int):
  command = [sys.executable, '-m', 'brac.train_offline', '--agent_name=bc', '--n_train=1000000']
  command += ['--env_name=HalfCheetah-v2', '--data_name=random', f'--sub_dir={k}']
  command += [f'--root_dir={folder}/learn', f'--data_root_dir={folder}/data']
  command += ['--gin_bindings=train_eval_offline.print_freq=1']
  begun = time.perf_counter()
  with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
    lines = []
    for line in process.stderr:
      lines.append(line)
      if re.search(r': 1 of \d+', line):
        break
    else:
      raise RuntimeError(''.join(lines))
    seconds = time.perf_counter() - begun
    with open(f'/proc/{process.pid}/status', encoding='utf-8') as f:
      peak = 1024 * int(next(line.split()[1] for line in f if line.startswith('VmHWM')))
    process.kill()
  return seconds, peak


def cpu() -> str:
  """The processor's name with its family and model, for a cloud gives several the same name."""
  with open('/proc/cpuinfo', encoding='utf-8') as f:
    told = dict(map(str.strip, line.split(':', 1)) for line in f if ':' in line)
  keys = ('model name', 'cpu family', 'model')
  return ', '.join(f'{key} {told[key]}' for key in keys if key in told)


def table(rows: List[Row]) -> str:
  """The table, as text."""
  cells = [('', 'measured', 'target', '', '')]
  for row in rows:
    sign = '≤' if row.at_most else '≥'
    target = '' if row.target is None else f'{sign} {row.target:.2f} {row.unit}'
    cells.append((row.what, f'{row.ratio:.2f} {row.unit}', target, row.verdict, row.detail))
  widths = [max(map(len, column)) for column in zip(*cells)]
  lines = ('  '.join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in cells)
  return '\n'.join(lines)


def draw(rows: List[Row], path: str) -> None:
  """Bars of what has a target, in parts of it."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  aimed = [row for row in rows if row.target is not None][::-1]
  parts = [row.target / row.ratio if row.at_most else row.ratio / row.target for row in aimed]
  fig, ax = plt.subplots(figsize=(9, 0.9 + 0.3 * len(aimed)), layout='constrained')
  colors = ['#0072B2' if part >= 1 else '#D55E00' for part in parts]
  longest = 2.0  # what is far beyond its target would make the others short
  bars = ax.barh([row.what for row in aimed], [min(x, longest) for x in parts], color=colors)
  ax.axvline(1, color='black', linewidth=1)
  bounds = [(min(row.bound / row.target, longest), k) for k, row in enumerate(aimed) if row.bound]
  if bounds:
    label = 'if the matrix products alone took time'
    ax.plot(*zip(*bounds), 'D', color='black', markersize=5, label=label, zorder=4)
    fig.legend(loc='outside upper right')
  for bar, row in zip(bars, aimed):
    middle = bar.get_y() + bar.get_height() / 2
    ax.text(0.03, middle, f'{row.ratio:.2f} {row.unit}', color='white', va='center')
  ax.set_xlabel(f'measured, in parts of the target (bars end at {longest:.0f})')
  ax.set_xlim(0, 1.05 * longest)
  fig.savefig(path, dpi=120)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--only', nargs='+', choices=PARTS, default=PARTS, help='parts to measure')
  parser.add_argument('--rounds', type=int, default=5, help='rounds of each comparison')
  parser.add_argument('--out', default=os.path.dirname(os.path.abspath(__file__)), help='folder')
  args = parser.parse_args()
  if importlib.util.find_spec('tf_agents') is None:
    parser.exit(1, 'the old way needs TF-Agents: pip install --no-deps tf-agents==0.19.0\n')
  os.makedirs(args.out, exist_ok=True)
  results, rows = {}, []
  for part in args.only:
    rows += globals()[part](args.rounds, results)
  if {'training', 'rollouts'} <= set(args.only):
    rows += paper_run(results)
  where = dict(cpu=cpu(), cores=len(os.sched_getaffinity(0)), load=os.getloadavg())
  print(f'{table(rows)}\non {where["cores"]} cores: {where["cpu"]}')
  results = dict(**where, rows=[row._asdict() for row in rows], measured=results)
  with open(os.path.join(args.out, 'benchmark.json'), 'w', encoding='utf-8') as f:
    json.dump(results, f, indent=1)
  draw(rows, os.path.join(args.out, 'benchmark.png'))


if __name__ == '__main__':
  main()
