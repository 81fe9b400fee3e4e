#!/usr/bin/env bash
# Sets the project up and passes its tests, files side by side. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
extras='[dev,docs,sweep,gymnasium,video,onnx]'
source ./setup_env.sh

ruff check .
ruff format --check .
# Each process of pytest has a TensorFlow, of a GB or so.
exec python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder "$@"
