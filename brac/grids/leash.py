"""A script that becomes another program, which gets SIGUSR1 when who started it is gone.

Without it a training outlives its scheduler, or the worker of a cluster that it belongs to, and
keeps its folder and its cores. `python leash.py PID PROGRAM...`, where PID is who starts it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
# It comes several times where who started it has threads, once for each that the program is handed
# on from; a second SIGTERM would end the program before it has saved.
_SIGNAL = signal.SIGUSR1

if __name__ == '__main__':
  parent, program = int(sys.argv[1]), sys.argv[2:]
  ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGNAL)
  if os.getppid() != parent:  # it went before that was set
    sys.exit(128 + _SIGNAL)
  os.execvp(program[0], program)
