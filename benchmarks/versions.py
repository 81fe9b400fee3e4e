"""Times the same work under two Python environments, or of two versions of this project, A and B:

  python benchmarks/versions.py A/bin/python B/bin/python [--cases sac bc] [--rounds 5]
  python benchmarks/versions.py python@A/FOLDER python@. [--cases bcq collection]

Prints for each case how many times as fast B is as A: the median over rounds of A, B, A, B, ...,
each in a process of its own that stays. `@FOLDER` is where a clone of the project is, by default
this one. This program itself needs no more than any Python.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

TRAINING = ('sac', 'brac_primal kl', 'bc', 'brac_dual kl')
CASES = (*TRAINING, 'brac_primal mmd', 'brac_dual w', 'bcq', 'online', 'collection', 'evaluation')
SECONDS = 0.7  # of a turn


class Side:
  """A process under one of the Pythons, of one of the clones."""

  def __init__(self, python_and_folder: str):
    here = os.path.abspath(__file__)
    python, _, folder = python_and_folder.partition('@')
    folder = os.path.abspath(folder or os.path.join(os.path.dirname(here), '..'))
    self._process = subprocess.Popen(
      [python, here, '--serve'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, 'PYTHONPATH': folder, 'BENCHMARKS': os.path.join(folder, 'benchmarks')},
    )
    self.versions = json.loads(self._process.stdout.readline())

  def time(self, case: str, n: int) -> float:
    """Seconds of n steps of a case."""
    print(json.dumps([case, n]), file=self._process.stdin, flush=True)
    return json.loads(self._process.stdout.readline())

  def stop(self) -> None:
    self._process.stdin.close()
    self._process.wait()


def serve() -> None:
  """Says the versions, then does what the lines of stdin ask."""
  sys.path.insert(0, os.environ['BENCHMARKS'])
  from brac import programs

  programs.quiet_imports()
  programs.set_up_tensorflow()
  import numpy as np
  import ours
  import tensorflow as tf

  python = sys.version.split()[0]
  versions = f'Python {python}, TensorFlow {tf.__version__}, NumPy {np.__version__}'
  print(json.dumps(versions), flush=True)
  for line in sys.stdin:
    case, n = json.loads(line)
    if case == 'online':
      seconds = ours.train_online(n)
    elif case == 'collection':
      # A thousand rows an environment; of fewer environments the policy's calls would be the most.
      seconds = ours.collect('HalfCheetah-v2', 1000 * max(100, n), 0)[0]
    elif case == 'evaluation':
      seconds = ours.evaluate('HalfCheetah-v2', ('main',), n)[0]
    else:
      seconds = ours.train(case, n)
    print(json.dumps(seconds), flush=True)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('pythons', nargs='*', metavar='python[@folder]', help='A and B')
  parser.add_argument('--cases', nargs='+', choices=CASES, default=TRAINING)
  parser.add_argument('--rounds', type=int, default=5, help='turns of each, but for a first')
  parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.serve:
    serve()
    return
  if len(args.pythons) != 2:
    parser.error('two are compared, A and B')
  a, b = map(Side, args.pythons)
  print(f'A: {a.versions}\nB: {b.versions}\nsteps of B in the time of one of A:')
  for case in args.cases:
    n = max(20, round(20 * SECONDS / a.time(case, 20)))
    rounds = [(a.time(case, n), b.time(case, n)) for _ in range(args.rounds + 1)][1:]
    ratios = [of_a / of_b for of_a, of_b in rounds]
    spread = f'{min(ratios):.2f} to {max(ratios):.2f}'
    print(f'{case:16} {statistics.median(ratios):.2f} ({spread})', flush=True)
  a.stop()
  b.stop()


if __name__ == '__main__':
  main()
