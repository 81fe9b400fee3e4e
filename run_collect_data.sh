#!/usr/bin/env bash
# Makes the data of the paper with the shipped policies:
#   ./run_collect_data.sh DATA_NAME [ENV_NAME] [more flags of collect_data]
# DATA_NAME is pure, eps1, eps3, gaussian1 or gaussian3, or of another configs/dcfg_{DATA_NAME}.py (of
# FOLDER/dcfg_{DATA_NAME}.py with --config_dir=FOLDER); ENV_NAME is HalfCheetah-v2 by default.
set -euo pipefail

if [ $# -lt 1 ] || [[ $1 == -* ]]; then
  echo "usage: $0 DATA_NAME [ENV_NAME] [more flags]; DATA_NAME is pure, eps1, eps3, gaussian1 or gaussian3" >&2
  exit 1
fi
data_name=$1
shift
env_name=HalfCheetah-v2
if [ $# -gt 0 ] && [[ $1 != -* ]]; then
  env_name=$1
  shift
fi
folder=$PWD
cd "$(dirname "$0")"
source ./setup_env.sh
cd "$folder"
exec python -m brac.collect_data --data_name="$data_name" --config_file="dcfg_$data_name" \
  --env_name="$env_name" --sub_dir=0 --n_samples=1000000 "$@"
