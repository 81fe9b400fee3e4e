"""Installs the package with its data configs and trained policies inside it."""

import pathlib
import re

from setuptools import setup

HERE = pathlib.Path(__file__).parent
requirements = [
  line.split('#')[0].strip() for line in (HERE / 'requirements.txt').read_text().splitlines()
]
policies = HERE / 'trained_policies'

setup(
  name='brac',
  version=re.search(r"__version__ = '(.*)'", (HERE / 'brac/__init__.py').read_text())[1],
  description='Behavior Regularized Offline Reinforcement Learning in TensorFlow 2',
  license='Apache-2.0',
  python_requires='>=3.9,<3.12',
  packages=['brac', 'brac.agents', 'brac.grids', 'brac.configs', 'brac.trained_policies'],
  package_dir={'brac.configs': 'configs', 'brac.trained_policies': 'trained_policies'},
  package_data={
    'brac.configs': ['*', 'grids/*', 'tuned/*/*'],
    'brac.trained_policies': [
      str(path.relative_to(policies)) for path in policies.rglob('*') if path.is_file()
    ],
  },
  install_requires=[r for r in requirements if r],
  extras_require={'sweep': ['optuna>=4'], 'ray': ['ray>=2.10']},
)
