"""Runs and their folders: how they are saved and go on, what they are, what they write and say."""

from brac.runs.folder import RunFolder
from brac.runs.lock import Lock
from brac.runs.record import Record
from brac.runs.settings import Settings, version
from brac.runs.terminal import (
  Clock,
  Progress,
  Stopped,
  catch_stops,
  end_at_stops,
  stop,
  stop_requested,
)

__all__ = [
  'Clock',
  'Lock',
  'Progress',
  'Record',
  'RunFolder',
  'Settings',
  'Stopped',
  'catch_stops',
  'end_at_stops',
  'stop',
  'stop_requested',
  'version',
]
