"""What an agent is: networks, a list of updates, what it says of itself, its saved state.

An agent declares. Its updates are listed in the order of the paper, each with its loss, its
variables and its optimizer; `loop` draws the batches, takes the gradients, applies them and moves
the targets.
"""

import functools
from collections.abc import Collection, Sequence
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf
from absl import logging

from brac import checkpoints, networks, rng
from brac.agents.loop import Info, Loop, Loss, Update
from brac.data.replay import Dataset
from brac.data.transitions import Batch
from brac.errors import check_number, check_whole
from brac.hyperparameters import one_for_each, read_model_params
from brac.optimizers import Adam, learning_rate
from brac.policies import ActorPolicy, Policy
from brac.rng import Rng
from brac.signatures import hands_on_to

MAX_COUNT = 10**9  # TensorFlow counts rows and turns of a loop in 32 bits
# The parameters of `Agent` that an experiment gives; the others are the experiment's own, for gin.
GIVEN = ('observation_spec', 'action_spec', 'data', 'seed')
MAX_ROWS = 10**6  # that a batch may be blown up to: 1 GB for each layer of 300 units


class Clone(NamedTuple):
  """The clone of the behavior policy that an agent needs."""

  parameter: str  # of the agent: takes the path of its checkpoint
  agent: str  # leaves such a checkpoint, `agent_behavior`, and is the name of the preset that does


class Agent:
  """The base of the agents.

  A subclass names what its parameters list (`UNITS` and `NUMBERS` for `model_params`, `OPTIMIZERS`,
  `DECAYS`), makes its networks, and says its `make_updates`, `targets` and `policies`. What it puts
  on `self.saved` is saved under the key `agent`. Its `__init__` has the parameters that it adds and
  hands the others on by `**`: its signature, which gin and `help` read, shows them all.

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
    update_rate: rate of the Polyak averaging by which the targets follow their sources.
    discount: γ.
  """

  name: str  # of the class, by which gin users bind its parameters: 'sac_agent.Agent'

  UNITS: tuple[str, ...] = ('q', 'policy')
  # With the default of those that may be left out.
  NUMBERS: dict[str, Optional[float]] = {'n_q': None}
  OPTIMIZERS: tuple[str, ...] = ()
  DECAYS: tuple[str, ...] = ('q', 'p')
  reads_next_actions = False  # whether a loss depends on a2, the data's next action
  ESTIMATES: tuple[str, ...] = ()  # the names of what `estimate` gives
  CLONE: Optional[Clone] = None  # the clone of the behavior policy that it needs, if any

  def __init_subclass__(cls):
    super().__init_subclass__()
    cls.name = f'{cls.__module__.rpartition(".")[2]}.{cls.__name__}'
    # The parameters of `Agent` itself are the experiments', by which they are bound.
    if '__init__' in vars(cls) and cls.__mro__[1] is not Agent:
      hands_on_to(cls.__mro__[1])(cls.__init__)

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
    self.batch_size = check_whole('', 1, MAX_COUNT, batch_size=batch_size)
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
    self.init_draws = Rng(seed, rng.INIT)
    # As in the published code, whose restore refuses another type.
    self.global_step = tf.Variable(0, dtype=tf.int32)
    self.saved = tf.Module()

  # What a subclass says of training.

  def make_updates(self) -> list[Update]:
    """The updates of a step, in their order."""
    raise NotImplementedError

  def extra_updates(self) -> list[Update]:
    """Updates after the step's own, each on a fresh batch."""
    return []

  def targets(self) -> list[tuple[tf.Module, tf.Module]]:
    """Pairs of a network and the target copy that follows it."""
    return []

  # What a subclass says of itself.

  @property
  def policy(self) -> tf.Module:
    """The network that is saved under the key `policy`: the actor, if there is one."""
    return self.pi

  def policies(self) -> dict[str, Policy]:
    """The policies that are evaluated, by name; `main` first."""
    return {'main': ActorPolicy(self.observation_spec, self.action_spec, self.pi, True)}

  @property
  def judged_by(self) -> str:
    """The name of the policy whose returns are the agent's results."""
    return 'main'

  def acting_policy(self) -> Policy:
    """The policy that online training acts with: a sample of the actor."""
    return ActorPolicy(self.observation_spec, self.action_spec, self.pi)

  def leaves(self) -> dict[str, dict[str, object]]:
    """What is saved beside `agent`, by the file's name: objects by their keys in it."""
    return {}

  def validate(self, batch: Batch, draws: Rng) -> Info:
    """The numbers that tell how well it does on rows that it is not trained on: all its losses."""
    info = {}
    for update in self.updates:
      loss, more = update.loss(batch, draws)
      info.update({**more, update.name + '_loss': loss})
    return info

  def estimate(self) -> dict[str, float]:
    """What it tells at each evaluation besides its policies' returns, by the names `ESTIMATES`."""
    return {}

  def identity(self) -> dict[str, object]:
    """What a run of it is besides gin's parameters: it goes on with nothing else."""
    return {}

  def remarks(self, total_train_steps: int) -> list[str]:
    """What there is to warn of before a training of so many steps."""
    return []

  # What they share.

  def make_actor(self, target_entropy: Optional[float] = None) -> networks.Actor:
    """The actor π; sets H, minus the number of actions by default."""
    default = -self.box.n_actions
    self.target_entropy = check_number(
      self.name, target_entropy=default if target_entropy is None else target_entropy
    )
    return networks.Actor(self.n_states, self.units['policy'], self.box, self.init_draws)

  def entropy_gap(self, batch: Batch, draws: Rng) -> tf.Tensor:
    """`E[log π(a|s) + H]`, a scalar: above 0 where π has less entropy than it should."""
    _, log_pi = self.pi(batch.s1).sample(draws)
    return tf.reduce_mean(log_pi) + self.target_entropy

  def make_optimizer(self, name: str, variables: Sequence[tf.Variable]) -> Adam:
    """The optimizer that the entry `name` of `optimizers` sets."""
    return Adam(self._learning_rates[name], variables)

  def update(
    self, name: str, loss: Loss, optimizer: str, *nets: tf.Module, every: int = 1
  ) -> Update:
    """An update of networks, with the optimizer and the weight decay that are set for it."""
    variables = [v for net in nets for v in net.trainable_variables]
    adam, decay = self.make_optimizer(optimizer, variables), self._decays.get(name, 0.0)
    return Update(name, loss, variables, adam, networks.kernels(*nets), decay, every)

  def update_scalar(self, name: str, loss: Loss, optimizer: str, variable: tf.Variable) -> Update:
    """An update of one number."""
    return Update(name, loss, [variable], self.make_optimizer(optimizer, [variable]))

  # What is done with them.

  @functools.cached_property
  def updates(self) -> list[Update]:
    """The updates of a step, made once.

    Raises:
      ValueError: a variable that they train, or of a target, is not saved, and would be lost where
        a run is stopped.
    """
    updates = self.make_updates()
    saved = checkpoints.variables(policy=self.policy, agent=self.saved).values()
    self._check_saved({v.ref() for v in saved}, updates)
    return updates

  def _check_saved(self, saved: Collection, updates: Sequence[Update]) -> None:
    changing = {f'update {u.name!r}': u.variables for u in updates}
    changing['targets'] = [v for _, target in self.targets() for v in target.variables]
    for what, variables in changing.items():
      if not all(v.ref() in saved for v in variables):
        raise ValueError(f'{self.name}: {what}: not all is saved, which self.saved is for')

  @functools.cached_property
  def loop(self) -> Loop:
    """The compiled loop of an agent that nothing acts before."""
    return Loop(self)

  def train(self, n: int) -> dict[str, float]:
    """Runs n training steps; returns the numbers of the last, by their TensorBoard tags."""
    return self.loop.train(n)

  @property
  def step(self) -> int:
    """How many training steps are done."""
    return int(self.global_step)

  @property
  def state(self) -> dict[str, object]:
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

  def restore(self, path: str, **more) -> None:
    """Restores the state that was saved at `path`, and `more` objects that were saved with it.

    Published checkpoints lack some of an agent's state: that starts afresh.

    Raises:
      UserError: there is none, it is damaged, or of another agent or other sizes.
    """
    lacking = checkpoints.restore(
      path, 'agent', ('optimizers/', 'global_step', 'seed'), **self.state, **more
    )
    if lacking:
      logging.info('%s has no %s: they start afresh', path, ', '.join(sorted(lacking)))

  def not_finite(self) -> str:
    """The key of a variable that is NaN or infinite; empty where there is none."""
    bad = (k for k, variable in self._floats.items() if not np.isfinite(variable.numpy()).all())
    return next(bad, '')

  @functools.cached_property
  def _floats(self) -> dict[str, tf.Variable]:
    found = checkpoints.variables(**self.state)
    return {key: variable for key, variable in found.items() if variable.dtype.is_floating}


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
