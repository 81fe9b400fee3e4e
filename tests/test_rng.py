"""No two draws have the same key."""

from brac.rng import Rng


def test_draws_of_other_seeds_streams_and_steps_have_other_keys():
  keys = []
  for seed in range(3):
    for stream in range(5):
      for step in range(3):
        draws = Rng(seed, stream, step)
        keys += [tuple(draws._next_key().numpy()) for _ in range(50)]
  assert len(set(keys)) == len(keys) == 3 * 5 * 3 * 50
