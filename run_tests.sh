#!/usr/bin/env bash
# Sets the project up and passes its tests. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
extras='[dev,docs]'
source ./setup_env.sh

ruff check .
ruff format --check .
exec python -m pytest "$@"
