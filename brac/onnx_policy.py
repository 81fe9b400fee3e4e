"""Policies from ONNX files, of d3rlpy's `save_policy` or whatever else, run by onnxruntime.

A file takes states, float32 or float64: `[B, S]`, `[1, S]` (as d3rlpy's, whose input is called
`input_0` and whose output `output_0`) or `[S]`. Where it also has an input called `noise`, it is
given standard normal numbers. Of its outputs the one called `action`, or else the first, are the
actions, of as many rows.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np

from brac.errors import UserError, blaming

_TYPES = {'tensor(float)': np.float32, 'tensor(double)': np.float64}
_NOISE, _ACTION = 'noise', 'action'


class OnnxPolicy:
  """`(observations [B, S], numpy.random.Generator) -> actions [B, A]`.

  Attributes:
    content: the bytes of its file, and of the one beside it that has the weights of large models.
  """

  content: bytes

  def __init__(self, path: str, n_states: int, n_actions: int):
    with blaming('an onnx policy takes pip install brac[onnx]'):
      import onnxruntime
    if not os.path.isfile(path):
      raise UserError(f'no onnx policy at {path}')
    self.content = b''.join(map(_read, filter(os.path.isfile, (path, f'{path}.data'))))
    onnxruntime.set_default_logger_severity(4)  # what it has to say is raised as well
    options = onnxruntime.SessionOptions()
    # A matrix product on several threads may add in another order.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with blaming(f'the onnx policy {path} does not load'):
      self._session = onnxruntime.InferenceSession(path, options, ['CPUExecutionProvider'])
    inputs = {node.name: node for node in self._session.get_inputs()}
    noise = inputs.pop(_NOISE, None)
    self._noise_shape = noise and noise.shape[1:]
    described = ', '.join(f'{node.name} {_shape(node.shape)}' for node in inputs.values())
    if len(inputs) != 1:
      raise UserError(f'the onnx policy {path} takes {described}; needed is one input, of states')
    ((self._input, node),) = inputs.items()
    *batch, width = node.shape or [0]
    if len(batch) > 1 or (isinstance(width, int) and width != n_states):
      raise UserError(f'the onnx policy {path} takes {described}; states are [B, {n_states}]')
    if batch and isinstance(batch[0], int) and batch[0] != 1:
      raise UserError(
        f'the onnx policy {path} takes {batch[0]} states at once, and no other number'
      )
    if node.type not in _TYPES:
      raise UserError(f'the onnx policy {path} takes {node.type}; states are of floats')
    self._type = _TYPES[node.type]
    self._batched, self._any_number = bool(batch), bool(batch) and not isinstance(batch[0], int)
    outputs = [node.name for node in self._session.get_outputs()]
    self._output = _ACTION if _ACTION in outputs else outputs[0]
    with blaming(f'the onnx policy {path} fails'):
      a = self(np.zeros([2, n_states], np.float32), np.random.default_rng(0))
    if a.shape != (2, n_actions):
      raise UserError(
        f'the onnx policy {path} does not fit: for states [2, {n_states}] its {self._output} is '
        f'{_shape(a.shape)}, not [2, {n_actions}]'
      )

  def __call__(self, s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    feeds = {self._input: s.astype(self._type)}
    if self._noise_shape is not None:
      feeds[_NOISE] = rng.standard_normal([len(s), *self._noise_shape]).astype(np.float32)
    if self._any_number:
      return self._run(feeds)
    rows = (
      {k: v[i : i + 1] if self._batched else v[i] for k, v in feeds.items()} for i in range(len(s))
    )
    actions = map(self._run, rows)
    return np.concatenate(list(actions)) if self._batched else np.stack(list(actions))

  def _run(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return self._session.run([self._output], feeds)[0]


def load(path: str, n_states: int, n_actions: int) -> Callable:
  """The policy in a file, which has acted once, to know that it fits.

  Raises:
    UserError: there is none, it does not load, or is not for such states and actions.
  """
  return OnnxPolicy(path, n_states, n_actions)


def _read(path: str) -> bytes:
  with open(path, 'rb') as f:
    return f.read()


def _shape(shape: Sequence) -> str:
  return f'[{", ".join(map(str, shape))}]'
