"""The one error that a person at a shell is meant to read."""


class UserError(Exception):
  """A mistake that the user can mend: one line on what is wrong, where, and what would be right."""
