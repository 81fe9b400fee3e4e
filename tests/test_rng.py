"""No two draws have the same key."""

from brac import rng
from brac.rng import Rng


def test_draws_of_other_seeds_streams_and_steps_have_other_keys():
  keys, n_streams = [], rng.VALUE + 1
  for seed in range(3):
    for stream in range(n_streams):
      for step in range(3):
        draws = Rng(seed, stream, step)
        keys += [tuple(draws._next_key().numpy()) for _ in range(50)]
  assert len(set(keys)) == len(keys) == 3 * n_streams * 3 * 50


def test_a_step_of_many_draws_has_none_of_the_next():
  # With c_iter = 1000 a dual agent draws some 3000 times.
  many, following = Rng(0, rng.TRAIN, 4), Rng(0, rng.TRAIN, 5)
  keys = {tuple(many._next_key().numpy()) for _ in range(4000)}
  assert len(keys) == 4000
  assert keys.isdisjoint(tuple(following._next_key().numpy()) for _ in range(50))
