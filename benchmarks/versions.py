"""Times training steps under two Python environments, A and B, which take turns:

  python benchmarks/versions.py A/bin/python B/bin/python [--cases sac bc] [--rounds 5]

Prints for each case how many times as fast B is as A: the median over rounds of A, B, A, B, ...,
each in a process of its own that stays. This program itself needs no more than any Python.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

CASES = ('sac', 'brac_primal kl', 'bc', 'brac_dual kl')
SECONDS = 0.7  # of a turn


class Side:
  """A process under one of the Pythons."""

  def __init__(self, python: str):
    here = os.path.abspath(__file__)
    self._process = subprocess.Popen(
      [python, here, '--serve'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, 'PYTHONPATH': os.path.dirname(os.path.dirname(here))},
    )
    self.versions = json.loads(self._process.stdout.readline())

  def train(self, case: str, n: int) -> float:
    """Seconds of n training steps."""
    print(json.dumps([case, n]), file=self._process.stdin, flush=True)
    return json.loads(self._process.stdout.readline())

  def stop(self) -> None:
    self._process.stdin.close()
    self._process.wait()


def serve() -> None:
  """Says the versions, then trains as the lines of stdin ask."""
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
    print(json.dumps(ours.train(*json.loads(line))), flush=True)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('pythons', nargs='*', metavar='python', help='A and B')
  parser.add_argument('--cases', nargs='+', choices=CASES, default=CASES)
  parser.add_argument('--rounds', type=int, default=5, help='turns of each, but for a first')
  parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.serve:
    serve()
    return
  if len(args.pythons) != 2:
    parser.error('two Pythons are compared')
  a, b = map(Side, args.pythons)
  print(f'A: {a.versions}\nB: {b.versions}\nsteps of B in the time of one of A:')
  for case in args.cases:
    n = max(20, round(20 * SECONDS / a.train(case, 20)))
    rounds = [(a.train(case, n), b.train(case, n)) for _ in range(args.rounds + 1)][1:]
    ratios = [of_a / of_b for of_a, of_b in rounds]
    spread = f'{min(ratios):.2f} to {max(ratios):.2f}'
    print(f'{case:16} {statistics.median(ratios):.2f} ({spread})', flush=True)
  a.stop()
  b.stop()


if __name__ == '__main__':
  main()
