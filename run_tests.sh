#!/usr/bin/env bash
# Sets the project up and passes its tests. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
source ./setup_env.sh

pip install --quiet --requirement requirements-dev.txt --constraint constraints.txt
ruff check .
ruff format --check .
exec python -m pytest "$@"
