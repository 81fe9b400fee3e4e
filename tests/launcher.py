"""How tests start the programs.

Most programs run in a process that is forked off one that has TensorFlow imported, and that ends
without the interpreter's clean-up; that is all that tells them from `python -m`.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys

_LAUNCHER = """
import json, logging, os, runpy, sys, traceback
import absl.logging
import brac
brac.is_a_program = True
from brac import collection, train_eval_offline, train_eval_online

for line in sys.stdin:
  command, *rest = json.loads(line)
  if command == 'start':
    program, args, out, err, folder, stop = rest
    pid = os.fork()
    if not pid:
      break
    answer = pid
  else:
    pid, status = os.waitpid(rest[0], 0 if command == 'wait' else os.WNOHANG)
    answer = os.waitstatus_to_exitcode(status) if pid else None
  print(json.dumps(answer), flush=True)
else:
  sys.exit()

program, _, disk = program.partition('@')
if disk:
  sys.path.append(sys.argv[1])
  import poor_disk
  poor_disk.mount()
if stop:
  number, text = stop
  class Stops(logging.Handler):
    def emit(self, record):
      if text in record.getMessage():
        os.kill(os.getpid(), number)
  absl.logging.get_absl_logger().addHandler(Stops())
os.chdir(folder)
for fd, path in enumerate((os.devnull, out, err)):
  os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT if fd else os.O_RDONLY), fd)
sys.argv = [program, *args]
status = 1
try:
  runpy.run_module('brac.' + program, run_name='__main__', alter_sys=True)
except SystemExit as end:
  status = end.code
except BaseException:
  traceback.print_exc()
sys.stdout.flush()
sys.stderr.flush()
os._exit(status)
"""


class Run:
  """A program that was started."""

  def __init__(self, ask, pid, out, err):
    self._ask, self.pid, self._out, self._err = ask, pid, out, err
    self.status = None

  def poll(self):
    """The exit status, minus the signal that killed it; None while it runs."""
    if self.status is None:
      self.status = self._ask('poll', self.pid)
    return self.status

  def wait(self):
    if self.status is None:
      self.status = self._ask('wait', self.pid)
    return self.status

  @property
  def stdout(self):
    with open(self._out, encoding='utf-8') as f:
      return f.read()

  @property
  def stderr(self):
    with open(self._err, encoding='utf-8') as f:
      return f.read()

  @property
  def said(self):
    """The lines on stderr, but for the log's."""
    return [line for line in self.stderr.splitlines() if not re.match(r'[IW]\d{4} [\d:.]+ ', line)]


@contextlib.contextmanager
def launched(folder, **environment):
  """`start(program, *args)`: starts a program in a process of its own and returns its `Run`.

  `program@poor` starts it on a file system that cannot link, lock and sync folders. Its home is the
  folder, and that is also where it is started, where there is no other `cwd`. With
  `stop=(number, text)` it sends itself that signal where it logs a line with that text.
  """
  home = {'HOME': str(folder), 'TF_CPP_MIN_LOG_LEVEL': '3', **environment}
  process = subprocess.Popen(
    [sys.executable, '-c', _LAUNCHER, os.path.dirname(os.path.abspath(__file__))],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    env={**os.environ, **home},
    text=True,
  )
  started = []

  def ask(*question):
    process.stdin.write(json.dumps(question) + '\n')
    process.stdin.flush()
    return json.loads(process.stdout.readline())

  def start(program, *args, cwd=folder, stop=None):
    out, err = (os.path.join(folder, f'{len(started)}.{name}') for name in ('out', 'err'))
    for path in (out, err):
      open(path, 'w', encoding='utf-8').close()
    pid = ask('start', program, [str(arg) for arg in args], out, err, str(cwd), stop)
    started.append(Run(ask, pid, out, err))
    return started[-1]

  start.home = folder  # of all of them
  with process:
    yield start
    for run in started:
      if run.poll() is None:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    process.stdin.close()
