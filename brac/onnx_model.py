"""Policies as ONNX files, which any runtime of that format runs, and a JSON that says how.

The graphs are written from the networks' weights: they are small, and what converts TensorFlow's
(tf2onnx) goes with no TensorFlow of ours.
"""

import json
import os
import re
from collections.abc import Sequence
from typing import Optional

import numpy as np
import onnx

import brac
from brac import files, networks
from brac.networks import Actor, Critic, Dense
from brac.policies import N_MAX_Q_SAMPLES

_OPSET, _IR = 13, 7  # of 2020 (ONNX 1.8): what old runtimes read too, and no operation needs more
_NORMALISATION = {
  'observation': 'none: as the environment gives them, in float32',
  'action': "none: in the environment's own unit, within its bounds",
}
_NOISE = 'standard normal numbers, drawn anew for each call and row'


def save(
  env_name: str,
  observation_spec,
  action_spec,
  actor: Actor,
  critic: Optional[Critic],
  folder: str,
  parts: Optional[dict[str, int]] = None,
) -> None:
  """Writes `mode.onnx`, `sample.onnx`, with a critic `max_q.onnx`, and `policy.json` to a folder.

  Noise is an input, so that who calls has the random numbers in hand: `[B, A]` for a sample, and
  `[B, 10, A]` for max_q.

  Args:
    env_name: the environment, for the JSON.
    observation_spec: states `[S]`.
    action_spec: actions `[A]`, bounded.
    actor: the policy's network.
    critic: the Q that max_q takes, if there is one.
    folder: which is there.
    parts: of Dict observations, in the order in which they are concatenated, and their widths.

  Raises:
    OSError: they cannot be written.
  """
  n_states, n_actions = observation_spec.shape[0], action_spec.shape[0]
  bounds = [np.broadcast_to(x, [n_actions]) for x in (action_spec.minimum, action_spec.maximum)]
  noises = {'mode': None, 'sample': [n_actions]}
  if critic:
    noises['max_q'] = [N_MAX_Q_SAMPLES, n_actions]
  outputs, policies = {'action': ['batch', n_actions]}, {}
  for name, noise in noises.items():
    shapes = {'observation': ['batch', n_states]}
    if noise:
      shapes['noise'] = ['batch', *noise]
    graph = _Graph()
    a = _action(graph, actor, critic if name == 'max_q' else None, bool(noise))
    graph.add('Min', graph.add('Max', a, bounds[0]), bounds[1], output='action')
    model = graph.model(name, shapes, outputs)
    with open(os.path.join(folder, f'{name}.onnx'), 'wb') as f:
      f.write(model.SerializeToString())
    policies[name] = {'file': f'{name}.onnx', 'inputs': shapes, 'outputs': outputs}
  about = {
    'env_name': env_name,
    'about': 'null in a minimum or maximum: there is no bound',
    'made_by': f'brac {brac.__version__}, ONNX opset {_OPSET}',
    'observation': _described(observation_spec, n_states, _NORMALISATION['observation']),
    'action': _described(action_spec, n_actions, _NORMALISATION['action']),
    'noise': {'dtype': 'float32', 'distribution': _NOISE},
    'policies': policies,
  }
  if parts:
    about['observation']['parts'] = parts
  text = re.sub(r'\[[^][{}]*\]', lambda m: ' '.join(m[0].split()), json.dumps(about, indent=2))
  files.write_text(os.path.join(folder, 'policy.json'), text + '\n')  # with a list in a line


def _described(spec, n: int, normalisation: str) -> dict[str, object]:
  def finite(values):  # JSON has no infinity
    return [float(x) if np.isfinite(x) else None for x in np.broadcast_to(values, [n])]

  return {
    'shape': ['batch', n],
    'dtype': 'float32',
    'minimum': finite(spec.minimum),
    'maximum': finite(spec.maximum),
    'normalisation': normalisation,
  }


class _Graph:
  """An ONNX graph in the making; a value is the name of what a node gives, or an array."""

  def __init__(self):
    self._nodes, self._weights = [], []

  def add(self, operation: str, *values, output: Optional[str] = None, **attributes) -> str:
    """Adds a node; returns the name of its output."""
    output = output or f'value_{len(self._nodes)}'
    names = [v if isinstance(v, str) else self._weight(np.asarray(v)) for v in values]
    self._nodes.append(onnx.helper.make_node(operation, names, [output], **attributes))
    return output

  def _weight(self, value: np.ndarray) -> str:
    name = f'weight_{len(self._weights)}'
    value = value if value.dtype == np.int64 else value.astype(np.float32)
    self._weights.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name

  def dense(self, x: str, kernel: np.ndarray, bias: np.ndarray) -> str:
    return self.add('Add', self.add('MatMul', x, kernel), bias)

  def hidden(self, x: str, layers: Sequence[Dense]) -> str:
    for layer in layers:
      x = self.add('Relu', self.dense(x, layer.kernel.numpy(), layer.bias.numpy()))
    return x

  def model(self, name: str, inputs: dict[str, list], outputs: dict[str, list]) -> onnx.ModelProto:
    sides = (
      [onnx.helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, v) for k, v in side.items()]
      for side in (inputs, outputs)
    )
    graph = onnx.helper.make_graph(self._nodes, name, *sides, self._weights)
    opsets = [onnx.helper.make_opsetid('', _OPSET)]
    model = onnx.helper.make_model(
      graph, opset_imports=opsets, ir_version=_IR, producer_name='brac'
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _action(graph: _Graph, actor: Actor, critic: Optional[Critic], sampled: bool) -> str:
  """The actions `[B, A]`, before they are clipped: see `networks.Actor` and `policies`."""
  *layers, last = actor._layers
  h, n = graph.hidden('observation', layers), actor.box.n_actions
  kernel, bias = last.kernel.numpy(), last.bias.numpy()
  z = graph.dense(h, kernel[:, :n], bias[:n])
  if sampled:
    u = graph.dense(h, kernel[:, n:], bias[n:])
    std = graph.add('Exp', _log_std(graph, actor, u))
    axis = np.array([1])
    if critic:  # each state has several samples
      z, std = (graph.add('Unsqueeze', x, axis) for x in (z, std))
    z = graph.add('Add', z, graph.add('Mul', std, 'noise'))
  a = graph.add('Mul', graph.add('Tanh', z), actor.box.mags)
  a = graph.add('Add', a, actor.box.means)
  return _best(graph, critic, a, n) if critic else a


def _log_std(graph: _Graph, actor: Actor, u: str) -> str:
  if hasattr(actor, '_log_std_clip'):
    low, high = actor._log_std_clip.numpy()
    return graph.add('Min', graph.add('Max', u, low), high)
  low, high = networks.LOG_STD_MIN, networks.LOG_STD_MAX
  t = graph.add('Add', graph.add('Tanh', u), 1.0)
  return graph.add('Add', graph.add('Mul', t, (high - low) / 2), low)


def _best(graph: _Graph, critic: Critic, a: str, n_actions: int) -> str:
  """Of actions `[B, n, A]` those with the largest Q, `[B, A]`."""
  first, *layers, last = critic._layers
  kernel, axis = first.kernel.numpy(), np.array([1])
  n_states = len(kernel) - n_actions
  # The product with the state is the same for all of its actions.
  of_state = graph.add('Unsqueeze', graph.add('MatMul', 'observation', kernel[:n_states]), axis)
  h = graph.add('Add', graph.dense(a, kernel[n_states:], first.bias.numpy()), of_state)
  h = graph.hidden(graph.add('Relu', h), layers)
  q = graph.dense(h, last.kernel.numpy(), last.bias.numpy())
  best = graph.add('ArgMax', q, axis=1, keepdims=1)
  best = graph.add('Expand', best, np.array([1, 1, n_actions]))
  return graph.add('Squeeze', graph.add('GatherElements', a, best, axis=1), axis)
