#!/usr/bin/env bash
# Makes what tests/test_versions.py reads: data, a clone, a run and an export as one version of
# TensorFlow writes them. With the Python of an environment that has another version:
#   PYTHONPATH=. tests/data/versions/make.sh .venv/bin/python
set -euo pipefail
python=$(realpath -s "$1")
here=$(cd "$(dirname "$0")" && pwd)
place=$here/$("$python" -c 'import tensorflow as tf; print(tf.__version__)' 2>/dev/null)
common=(--env_name=Pendulum-v1 --data_name=d --n_eval_episodes=1)
bind=--gin_bindings=train_eval_offline
rm -rf "$place" && mkdir "$place" && cd "$place"
echo "get_data_config = lambda *_: [['r', ['randinit', '', ['gaussian', 0.1], (8,)], 1.0]]" > dcfg_d.py
"$python" -m brac.collect_data "${common[@]}" --config_dir=. --config_file=dcfg_d --n_samples=200 --root_dir=data
train() {
  "$python" -m brac.train_offline "${common[@]}" --n_train=200 --total_train_steps=4 --root_dir=learn \
    --data_root_dir=data $bind.batch_size=16 --agent_name="$1" "$bind.model_params=$2"
}
train bc '((8,),)'
train sac '(((8,),), 2)'
"$python" -m brac.export_policy --env_name=Pendulum-v1 --output_dir=exported \
  --checkpoint=learn/Pendulum-v1/d/n200/bc/0/0/agent_behavior
"$python" - <<'END'
import numpy as np
from brac import environments
from brac.agents import frozen
from brac.data import stored
from brac.rng import Rng

env = environments.described('Pendulum-v1')
rows = stored.load('data/Pendulum-v1/d/0/data', 3, 1)
clone = 'learn/Pendulum-v1/d/n200/bc/0/0/agent_behavior'
actions = frozen.load(clone, 'main', env.observation_spec, env.action_spec)(rows.s1, Rng(0))
np.savez_compressed('expected.npz', actions=actions, **rows._asdict())
END
find . \( -name 'events*' -o -name '*.old*' -o -name lock -o -name claim \) -delete
rm dcfg_d.py
find . -type d -empty -delete
