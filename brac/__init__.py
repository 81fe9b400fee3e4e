"""Behavior regularized actor critic, after Wu, Tucker, Nachum (arXiv 1911.11361)."""

__version__ = '0.1.0'
