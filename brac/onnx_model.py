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
from brac.networks import VAE, Actor, Critic, Dense, Perturbation
from brac.policies import N_MAX_Q_SAMPLES, ActorPolicy, BCQPolicy, MaxQPolicy, Policy

_ROWS = np.array([1])  # the axis of the several actions of a state
_OPSET, _IR = 13, 7  # of 2020 (ONNX 1.8): what old runtimes read too, and no operation needs more
_NORMALISATION = {
  'observation': 'none: as the environment gives them, in float32',
  'action': "none: in the environment's own unit, within its bounds",
}
_NOISE = 'standard normal numbers, drawn anew for each call and row'


def save(
  env_name: str,
  policies: dict[str, Policy],
  folder: str,
  parts: Optional[dict[str, int]] = None,
) -> None:
  """Writes `NAME.onnx` of each policy, and `policy.json`, to a folder.

  Noise is an input, so that who calls has the random numbers in hand: `[B, A]` for a sample,
  `[B, 10, A]` for max_q, `[B, n, 2A]` for BCQ.

  Args:
    env_name: the environment, for the JSON.
    policies: by name, all for the same states `[S]` and actions `[A]`, of kinds that it `knows`.
    folder: made where it is not there.
    parts: of Dict observations, in the order in which they are concatenated, and their widths.

  Raises:
    OSError: they cannot be written.
  """
  a_policy = next(iter(policies.values()))
  observation_spec, action_spec = a_policy.time_step_spec.observation, a_policy.action_spec
  n_states, n_actions = observation_spec.shape[0], action_spec.shape[0]
  bounds = [np.broadcast_to(x, [n_actions]) for x in (action_spec.minimum, action_spec.maximum)]
  outputs, described, models = {'action': ['batch', n_actions]}, {}, {}
  for name, policy in policies.items():
    graph = _Graph(n_states)
    a, noise = _act(graph, policy)
    graph.bounded(a, *bounds, output='action')
    inputs = {'observation': ['batch', n_states]}
    if noise:
      inputs['noise'] = ['batch', *noise]
    models[name] = graph.model(name, inputs, outputs)
    described[name] = {'file': f'{name}.onnx', 'inputs': inputs, 'outputs': outputs}
  about = {
    'env_name': env_name,
    'about': 'null in a minimum or maximum: there is no bound',
    'made_by': f'brac {brac.__version__}, ONNX opset {_OPSET}',
    'observation': _described(observation_spec, n_states, _NORMALISATION['observation']),
    'action': _described(action_spec, n_actions, _NORMALISATION['action']),
    'noise': {'dtype': 'float32', 'distribution': _NOISE},
    'policies': described,
  }
  if parts:
    about['observation']['parts'] = parts
  os.makedirs(folder, exist_ok=True)
  for name, model in models.items():
    with open(os.path.join(folder, f'{name}.onnx'), 'wb') as f:
      f.write(model.SerializeToString())
  text = re.sub(r'\[[^][{}]*\]', lambda m: ' '.join(m[0].split()), json.dumps(about, indent=2))
  files.write_text(os.path.join(folder, 'policy.json'), text + '\n')  # with a list in a line


def knows(policy: Policy) -> bool:
  """Whether the graph of such a policy can be written: an actor's, or BCQ's."""
  return type(policy) in (ActorPolicy, MaxQPolicy, BCQPolicy)


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

  def __init__(self, n_states: int):
    self._n_states = n_states
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

  def dense(self, x: str, layer: Dense, outputs: slice = slice(None)) -> str:
    """A layer's outputs, or some of them."""
    kernel, bias = layer.kernel.numpy()[:, outputs], layer.bias.numpy()[outputs]
    return self.add('Add', self.add('MatMul', x, kernel), bias)

  def hidden(self, layers: Sequence[Dense]) -> str:
    """`[B, H]`: what hidden layers give of the observation."""
    x = 'observation'
    for layer in layers:
      x = self.add('Relu', self.dense(x, layer))
    return x

  def forward(self, layers: Sequence[Dense], x: str) -> str:
    """`[B, n, n_out]`: what all layers give of the observation beside `x`, `[B, n, K]`."""
    first, *others = layers
    kernel, n = first.kernel.numpy(), self._n_states
    # The product with the state is the same for all of its n rows.
    of_state = self.add('MatMul', 'observation', kernel[:n])
    of_state = self.add('Unsqueeze', self.add('Add', of_state, first.bias.numpy()), _ROWS)
    x = self.add('Add', self.add('MatMul', x, kernel[n:]), of_state)
    for layer in others:
      x = self.dense(self.add('Relu', x), layer)
    return x

  def bounded(self, x: str, low, high, output: Optional[str] = None) -> str:
    return self.add('Min', self.add('Max', x, low), high, output=output)

  def scaled_tanh(self, x: str, scale: np.ndarray) -> str:
    return self.add('Mul', self.add('Tanh', x), scale)

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


def _act(graph: _Graph, policy: Policy) -> tuple[str, list[int]]:
  """The actions `[B, A]`, before they are clipped, and the shape of a row's noise."""
  n_actions = policy.box.n_actions
  if isinstance(policy, BCQPolicy):
    vae, xi, q = policy.networks
    n = policy.n_samples
    return _best(graph, q, _perturbed(graph, vae, xi), n_actions), [n, vae.n_latents]
  if isinstance(policy, MaxQPolicy):
    actor, q = policy.networks
    return _best(graph, q, _actor(graph, actor, _ROWS), n_actions), [N_MAX_Q_SAMPLES, n_actions]
  (actor,) = policy.networks
  return _actor(graph, actor, noise=not policy.mode), [] if policy.mode else [n_actions]


def _actor(graph: _Graph, actor: Actor, several=None, noise: bool = True) -> str:
  """The mode, or with noise samples, of an actor's distribution: see `networks.TanhNormal`."""
  *layers, last = actor._layers
  h, n = graph.hidden(layers), actor.box.n_actions
  z = graph.dense(h, last, slice(n))
  if noise:
    std = graph.add('Exp', _log_std(graph, actor, graph.dense(h, last, slice(n, None))))
    if several is not None:
      z, std = (graph.add('Unsqueeze', x, several) for x in (z, std))
    z = graph.add('Add', z, graph.add('Mul', std, 'noise'))
  return graph.add('Add', graph.scaled_tanh(z, actor.box.mags), actor.box.means)


def _log_std(graph: _Graph, actor: Actor, u: str) -> str:
  if hasattr(actor, '_log_std_clip'):
    return graph.bounded(u, *actor._log_std_clip.numpy())
  low, high = networks.LOG_STD_MIN, networks.LOG_STD_MAX
  t = graph.add('Add', graph.add('Tanh', u), 1.0)
  return graph.add('Add', graph.add('Mul', t, (high - low) / 2), low)


def _perturbed(graph: _Graph, vae: VAE, xi: Perturbation) -> str:
  """The perturbed samples `[B, n, A]` of BCQ: see `networks.VAE` and `Perturbation`."""
  box = vae.box
  h = graph.forward(vae._decoder_layers, graph.bounded('noise', -VAE.CLIP, VAE.CLIP))
  a = graph.add('Add', graph.scaled_tanh(h, box.mags), box.means)
  a = graph.add('Add', a, graph.scaled_tanh(graph.forward(xi._layers, a), xi.phi * box.mags))
  return graph.bounded(a, box.low, box.high)


def _best(graph: _Graph, q: Critic, a: str, n_actions: int) -> str:
  """Of actions `[B, n, A]` those with the largest Q, `[B, A]`."""
  best = graph.add('ArgMax', graph.forward(q._layers, a), axis=1, keepdims=1)
  best = graph.add('Expand', best, np.array([1, 1, n_actions]))
  return graph.add('Squeeze', graph.add('GatherElements', a, best, axis=1), _ROWS)
