"""Behavior regularized actor critic, after Wu, Tucker, Nachum (arXiv 1911.11361)."""

import gin

from brac import patches

__version__ = '0.1.0'

# Whether this process is one of the programs, whose policies nobody hands to TF-Agents.
is_a_program = False

# A module that is reloaded, as in a notebook, registers its configurables once more.
gin.enter_interactive_mode()
patches.install()
