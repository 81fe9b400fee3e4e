#!/usr/bin/env bash
# Runs a chosen part of the paper's grid over the cores of this machine, and ends with the report:
#   ./run_paper.sh --env_names=HalfCheetah-v2 --data_names=eps1 --presets=bc,kl_vp --seeds=0,1
# Without flags it is the whole grid, which takes weeks; --dry_run shows the commands, --help all
# flags. Stopped and started again it goes on from where it was.
set -euo pipefail
folder=$PWD
cd "$(dirname "$0")"
source ./setup_env.sh
cd "$folder"
exec python -m brac.run_paper "$@"
