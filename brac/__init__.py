"""Behavior regularized actor critic, after Wu, Tucker, Nachum (arXiv 1911.11361)."""

from brac import patches

__version__ = '0.1.0'

patches.install()
