"""What every agent is: networks, a list of updates, the compiled training loop, its saved state.

An agent declares; this file does. The updates are listed in the order of the paper, each with its
loss, its variables and its optimiser, and one loop here draws batches, takes gradients, applies
them and moves the targets.
"""

import functools
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf
from absl import logging

from brac import checkpoints, networks, rng
from brac.dataset import Batch, Dataset
from brac.errors import check_number, check_whole
from brac.hyperparameters import one_for_each, read_model_params
from brac.optimizers import Adam, learning_rate
from brac.policies import ActorPolicy, Policy
from brac.rng import Rng

MOST_COUNT = 10**9  # TensorFlow counts rows and turns of a loop in 32 bits
MOST_ROWS = 10**6  # that a batch may be blown up to: 1 GB for each layer of 300 units
# Training steps in a turn of the compiled loop. Between turns a core waits for the other; within
# one, a step begins while the policy's update of the step before it is still at work.
_UNROLLED = 4
_SHORT = 40  # steps for which such a turn is not worth its compilation

Info = Dict[str, tf.Tensor]
Loss = Callable[[Batch, Rng], Tuple[tf.Tensor, Info]]


class Update(NamedTuple):
  """One gradient step on `loss + decay Σ‖kernel‖²`; TensorBoard has the loss as `{name}_loss`."""

  name: str
  loss: Loss
  variables: Sequence[tf.Variable]
  optimizer: Adam
  kernels: Sequence[tf.Variable] = ()
  decay: float = 0.0

  def norm(self) -> tf.Tensor:
    """`Σ‖kernel‖²`, a scalar; TensorBoard has it as `{name}_norm`."""
    return tf.add_n([tf.reduce_sum(tf.square(kernel)) for kernel in self.kernels])


class Agent:
  """The base of the agents. `train(n)` runs n whole training steps in a compiled loop.

  A subclass names what its parameters list (`UNITS` and `NUMBERS` for `model_params`, `OPTIMIZERS`,
  `DECAYS`), makes its networks, and says its `updates`, its `targets` and its `policies`. What it
  puts on `self.saved` is saved under the key `agent`.

  Args:
    observation_spec: states `[S]`.
    action_spec: actions `[A]`, bounded.
    data: what batches are drawn from.
    seed: of the networks' start and of every draw in training.
    model_params: units of the hidden layers of each network, then the other numbers.
    optimizers: `('adam', learning rate)` for each of `OPTIMIZERS`; one serves for all.
    batch_size: transitions a step.
    weight_decays: one for each of `DECAYS`; one serves for all.
    update_freq: steps from one move of the targets to the next.
    update_rate: the part of the way to their sources that the targets go in a move.
    discount: γ.
  """

  UNITS: Tuple[str, ...] = ('q', 'policy')
  NUMBERS: Dict[str, Optional[float]] = {
    'n_q': None
  }  # with the default of those that may be left out
  OPTIMIZERS: Tuple[str, ...] = ()
  DECAYS: Tuple[str, ...] = ('q', 'p')

  def __init__(
    self,
    *,
    observation_spec,
    action_spec,
    data: Dataset,
    seed: int = 0,
    model_params=(((200, 200),), 2),
    optimizers=(('adam', 1e-3),),
    batch_size: int = 256,
    weight_decays=(0.0,),
    update_freq: int = 1,
    update_rate: float = 0.005,
    discount: float = 0.99,
  ):
    # Without a selector: which experiment has these parameters is for the program to say.
    self.batch_size = check_whole('', 1, MOST_COUNT, batch_size=batch_size)
    self.update_freq = check_whole('', 1, update_freq=update_freq)
    self.update_rate, self.discount = check_number(
      '', 0, 1, update_rate=update_rate, discount=discount
    )
    self.observation_spec, self.action_spec = observation_spec, action_spec
    self.n_states = int(observation_spec.shape[0])
    self.box = networks.Box.of(action_spec)
    self.data = data
    self.seed = tf.Variable(seed, dtype=tf.int64)
    self.units, self.numbers = read_model_params(
      self.name.replace('_agent.Agent', ''), model_params, self.UNITS, self.NUMBERS
    )
    self._learning_rates = {
      name: learning_rate(entry)
      for name, entry in one_for_each('optimizers', optimizers, self.OPTIMIZERS).items()
    }
    self._decays = {
      name: check_number('', 0, **{f'weight_decays of {name}': entry})
      for name, entry in one_for_each('weight_decays', weight_decays, self.DECAYS).items()
    }
    self.init_rng = Rng(seed, rng.INIT)
    self.global_step = tf.Variable(0, dtype=tf.int64)
    self.saved = tf.Module()

  # What a subclass says.

  @property
  def name(self) -> str:
    """What gin users know the agent's class by."""
    return type(self).__module__.rpartition('.')[2] + '.Agent'

  def make_updates(self) -> List[Update]:
    """The updates of a step, in their order."""
    raise NotImplementedError

  def extra_updates(self) -> List[Update]:
    """Updates after the step's own, each on a fresh batch."""
    return []

  def targets(self) -> List[Tuple[tf.Module, tf.Module]]:
    """Pairs of a network and the target copy that follows it."""
    return []

  @property
  def policy(self) -> tf.Module:
    """The network that is saved under the key `policy`: the actor, if there is one."""
    return self.pi

  def policies(self) -> Dict[str, Policy]:
    """The policies that are evaluated, by name; `main` first."""
    return {'main': ActorPolicy(self.observation_spec, self.action_spec, self.pi, True)}

  def acting_policy(self) -> Policy:
    """The policy that online training acts with: a sample of the actor."""
    return ActorPolicy(self.observation_spec, self.action_spec, self.pi)

  def before_step(self, rng: Rng) -> None:
    """Runs in the compiled loop before a step: online training acts in its environment here."""

  # What they share.

  def make_actor(self, target_entropy: Optional[float]) -> networks.Actor:
    """The actor π; sets H, minus the number of actions by default."""
    default = -self.box.n_actions
    self.target_entropy = check_number(
      self.name, target_entropy=default if target_entropy is None else target_entropy
    )
    return networks.Actor(self.n_states, self.units['policy'], self.box, self.init_rng)

  def entropy_gap(self, batch: Batch, draws: Rng) -> tf.Tensor:
    """`E[log π(a|s) + H]`, a scalar: above 0 where π has less entropy than it should."""
    _, log_pi = self.pi(batch.s1).sample(draws)
    return tf.reduce_mean(log_pi) + self.target_entropy

  def make_optimizer(self, name: str, variables: Sequence[tf.Variable]) -> Adam:
    """The optimiser that the entry `name` of `optimizers` sets."""
    return Adam(self._learning_rates[name], variables)

  def update(self, name: str, loss: Loss, optimizer: str, *nets: tf.Module) -> Update:
    """An update of networks, with the optimiser and the weight decay that are set for it."""
    variables = [v for net in nets for v in net.trainable_variables]
    adam, decay = self.make_optimizer(optimizer, variables), self._decays.get(name, 0.0)
    return Update(name, loss, variables, adam, networks.kernels(*nets), decay)

  def update_scalar(self, name: str, loss: Loss, optimizer: str, variable: tf.Variable) -> Update:
    """An update of one number."""
    return Update(name, loss, [variable], self.make_optimizer(optimizer, [variable]))

  @functools.cached_property
  def updates(self) -> List[Update]:
    return self.make_updates()

  @property
  def state(self) -> Dict[str, object]:
    """Everything that a later step depends on besides the data, by its key in checkpoints."""
    slots = tf.Module()
    for update in self.updates:
      setattr(slots, update.name, update.optimizer.slots)
    return dict(
      policy=self.policy,
      agent=self.saved,
      global_step=self.global_step,
      optimizers=slots,
      seed=self.seed,
    )

  @property
  def step(self) -> int:
    """How many training steps are done."""
    return int(self.global_step)

  def restore(self, path: str, **more) -> None:
    """Takes up the state that was saved at `path`, and `more` objects that were saved with it.

    Published checkpoints lack some of an agent's state: that starts afresh.

    Raises:
      UserError: there is none, it is damaged, or of another agent or other sizes.
    """
    lacking = checkpoints.restore(
      path, 'agent', ('optimizers/', 'global_step', 'seed'), **self.state, **more
    )
    if lacking:
      logging.info('%s has no %s: they start afresh', path, ', '.join(sorted(lacking)))

  def compile(self, n: int) -> None:
    """Builds the loops that `train(n)` runs, which it does itself otherwise."""
    for loop, _ in self._loops_of(n):
      loop.get_concrete_function()

  def not_finite(self) -> str:
    """The key of a variable that is NaN or infinite; empty where there is none."""
    bad = (k for k, variable in self._floats.items() if not np.isfinite(variable.numpy()).all())
    return next(bad, '')

  @functools.cached_property
  def _floats(self) -> Dict[str, tf.Variable]:
    found = checkpoints.variables(**self.state)
    return {key: variable for key, variable in found.items() if variable.dtype.is_floating}

  def train(self, n: int) -> Dict[str, float]:
    """Runs n training steps; returns the numbers of the last, by their TensorBoard tags."""
    for loop, turns in self._loops_of(n):
      info = loop(tf.constant(turns))
    return {tag: float(x) for tag, x in info.items()}

  def _loops_of(self, n: int) -> List[Tuple[Callable, int]]:
    """The compiled loops that n steps take, with the turns of each; the bits are one loop's."""
    turns, rest = divmod(n, _UNROLLED) if n >= _SHORT else (0, n)
    loops = [(self._unrolled_loop, turns)] if turns else []
    return loops + ([(self._loop, rest)] if rest or not turns else [])

  @functools.cached_property
  def _loop(self) -> Callable:
    return self._make_loop(1)

  @functools.cached_property
  def _unrolled_loop(self) -> Callable:
    return self._make_loop(_UNROLLED)

  def _make_loop(self, n_unrolled: int) -> Callable:
    """`(turns) -> the numbers of the last step`, compiled, of so many steps a turn."""
    updates, extra_updates, targets = self.updates, self.extra_updates(), self.targets()

    def step() -> Info:
      now = self.global_step.read_value()
      draws = Rng(self.seed, rng.TRAIN, now)
      self.before_step(draws)
      batch = self.data.sample(self.batch_size, draws)
      self._move(targets, now)
      info = {}
      for update in updates:
        info.update(apply(update, batch, draws))
      self.global_step.assign_add(1)
      for update in extra_updates:
        apply(update, self.data.sample(self.batch_size, draws), draws)
      return info

    def train(turns):
      numbers = tf.function(step, autograph=False).get_concrete_function().structured_outputs
      none_yet = {tag: tf.zeros(x.shape, x.dtype) for tag, x in numbers.items()}
      # Every step gives its numbers, which one alone needs: a step that did not would be optimised
      # in another way, and differ in the last bits.
      _, infos = tf.while_loop(
        lambda i, _: i < turns,
        lambda i, _: (i + 1, [step() for _ in range(n_unrolled)]),
        (tf.constant(0), [none_yet] * n_unrolled),
      )
      info = infos[-1]
      for update in updates:
        if update.kernels:
          info[update.name + '_norm'] = update.norm()
      return info

    return tf.function(train, autograph=False, input_signature=[tf.TensorSpec([], tf.int32)])

  def _move(self, targets: Sequence[Tuple[tf.Module, tf.Module]], now: tf.Tensor) -> None:
    def move():
      for source, target in targets:
        for x, y in zip(source.variables, target.variables):
          # y + rate (x - y), in one pass less than with assign_add.
          tf.raw_ops.ResourceApplyGradientDescent(var=y.handle, alpha=self.update_rate, delta=y - x)

    if self.update_freq == 1:
      move()
    elif targets:
      tf.cond(now % self.update_freq == 0, move, lambda: None)


def apply(update: Update, batch: Batch, draws: Rng) -> Info:
  """Takes the gradient of an update's loss and lets its optimiser move its variables."""
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(update.variables)
    loss, info = update.loss(batch, draws)
    decayed = loss + update.decay * update.norm() if update.decay else loss
  gradients = tape.gradient(decayed, update.variables, unconnected_gradients='zero')
  update.optimizer.apply(update.variables, gradients)
  return {**info, update.name + '_loss': loss}


def copy(source: tf.Module, target: tf.Module) -> None:
  """Gives a target the values of its source."""
  for x, y in zip(source.variables, target.variables):
    y.assign(x)


def bounded(x: tf.Tensor, low: float, high: float) -> tf.Tensor:
  """`x` clipped to [low, high], with a gradient that outside can still move it back inside."""

  @tf.custom_gradient
  def clip(x):
    def gradient(dy):
      # Descent goes against the gradient: below the box a negative one leads back, above it a
      # positive one.
      stays_out = tf.logical_or((x <= low) & (dy > 0), (x >= high) & (dy < 0))
      return tf.where(stays_out, 0.0, dy)

    return tf.clip_by_value(x, low, high), gradient

  return clip(x)
