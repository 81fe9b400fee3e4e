"""Runs exported ONNX files with onnxruntime alone: `run_onnx.py FOLDER INPUTS.npz OUTPUTS.npz`.

What the inputs are called, and how they are shaped, is read in `policy.json`.
"""

import json
import pathlib
import sys

import numpy as np
import onnxruntime

if __name__ == '__main__':
  folder, given = pathlib.Path(sys.argv[1]), np.load(sys.argv[2])
  about, actions = json.loads((folder / 'policy.json').read_text(encoding='utf-8')), {}
  for name, policy in about['policies'].items():
    session = onnxruntime.InferenceSession(folder / policy['file'])
    feeds = {'observation': given['observation']}
    if 'noise' in policy['inputs']:
      feeds['noise'] = given[f'noise of {name}']
    for key, shape in policy['inputs'].items():
      assert list(feeds[key].shape[1:]) == shape[1:], (key, shape)
    (actions[name],) = session.run(['action'], feeds)
  loaded = {'tensorflow', 'brac'} & sys.modules.keys()
  assert not loaded, loaded
  np.savez(sys.argv[3], **actions)
