#!/usr/bin/env bash
# Sets the project up and passes its tests, files side by side. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
extras='[dev,docs,sweep,gymnasium,video,onnx]'
source ./setup_env.sh

ruff check .
ruff format --check .
# Each process of pytest has a TensorFlow, of a GB or so. One more than there are cores, as they wait
# for the programs that they start.
cores=$(nproc)
exec python -m pytest --numprocesses=$((cores < 4 ? cores + 1 : 4)) --dist=loadfile --no-loadscope-reorder "$@"
