"""Films of policies: an episode of each, from the same start, with return and step in the picture.

A gif takes what is installed anyway; an mp4 takes the extra `brac[video]`.
"""

import contextlib
import importlib
import io
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from brac import environments, files, rng, rollouts, runs
from brac.errors import UserError, blaming, first_line
from brac.policies import Policy

SUFFIXES = ('.gif', '.mp4')
_STEPS_PER_SECOND = 30.0  # of environments that do not say
_MOST_GIF_FPS = 50  # what browsers show as it is
_GIF_COLORS = 128
# A picture gets a palette of its own where so much of it would be off by so much, of 255.
_MOST_OFF, _CLEARLY = 0.002, 64
_SMALL = 240, 180  # pixels


class Shot(NamedTuple):
  """One moment of a film, of k policies."""

  step: int
  returns: np.ndarray  # [k], so far
  ended: np.ndarray  # [k], whether the episode is over
  pictures: list[np.ndarray]  # k of [H, W, 3] uint8, with what is written into them


def shoot(
  env_name: str,
  policies: dict[str, Policy],
  seed: int,
  at_step: int = 0,
  most_steps: int = 1000,
  width: int = 480,
  height: int = 360,
  fps: float = 30.0,
) -> tuple[float, Iterator[Shot]]:
  """Films an episode of each policy, all from the same start, until the last of them ends.

  The start is that of the first episode of an evaluation: see `rollouts.Evaluator`.

  Args:
    env_name: the environment.
    policies: by what is written into their pictures.
    seed: of all that is drawn.
    at_step: the training step of the evaluation.
    most_steps: after how many steps the film ends at the latest.
    width: of the picture of a policy, in pixels, at most.
    height: likewise.
    fps: pictures a second at most; the film is as fast as the environment's own time.

  Returns:
    The pictures a second, and the shots, which are taken as they are asked for.

  Raises:
    UserError: the environment goes wrong or draws nothing, or nothing here can draw.
  """
  own = environments.described(env_name).steps_per_second or _STEPS_PER_SECOND
  every = max(1, math.ceil(own / fps))
  shots = _shots(env_name, policies, seed, at_step, most_steps, (width, height), every)
  return own / every, shots


def of_evaluation(
  env_name: str, policies: dict[str, Policy], seed: int, at_step: int, most_steps: int
) -> dict[str, bytes]:
  """A short film of each policy in the first episode of an evaluation, as a small gif.

  Raises:
    UserError: see `shoot`.
  """
  rate, shots = shoot(env_name, policies, seed, at_step, most_steps, *_SMALL, fps=15)
  return {
    name: gif(pictures, rate)
    for name, pictures in zip(policies, zip(*(shot.pictures for shot in shots)))
  }


def try_out(env_name: str) -> None:
  """Raises UserError where an environment draws nothing, or nothing here can draw."""
  with environments.make_batch(env_name, 1, 0) as env:
    env.reset()
    env.picture(0, *_SMALL)


def _shots(env_name, policies, seed, at_step, most_steps, size, every) -> Iterator[Shot]:
  k = len(policies)
  start = environments.row_seeds(rollouts.seed_of(seed, rng.EVALUATE, at_step), 1)
  act = rollouts.compiled(list(policies.values()), 1, seed, rng.EVALUATE)
  with environments.make_batch(env_name, k, start * k) as env:
    rollout = rollouts.Rollout(env, act)
    returns, lengths, ended = np.zeros(k), np.zeros(k, int), np.zeros(k, bool)
    pictures, drawn = [None] * k, np.zeros(k, bool)  # the last ones, of what has ended
    for step in range(most_steps + 1):
      if step:
        steps = rollout.advance(~ended)
        returns[steps.rows] += steps.reward
        lengths[steps.rows] = step
        ended[steps.rows] = steps.end != environments.GOES_ON
      over = ended.all() or step == most_steps
      if step % every == 0 or over:
        for i, name in enumerate(policies):
          if not drawn[i]:
            picture = env.picture(i, *size)
            pictures[i] = _written(picture, size, name, lengths[i], returns[i], ended[i])
        drawn = ended.copy()
        yield Shot(step, returns.copy(), drawn, list(pictures))
      if over:
        return


def _written(picture: np.ndarray, most: tuple[int, int], name, step, value, ended) -> np.ndarray:
  """A picture with the name of the policy, the step and the return in its upper left corner.

  What an environment draws larger than `most` (width, height) becomes smaller.
  """
  import matplotlib
  from PIL import Image, ImageDraw, ImageFont

  image = Image.fromarray(picture)
  image.thumbnail(most)
  # It comes with matplotlib, and has the signs of all that a label may say.
  path = os.path.join(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
  size = max(9, image.height // 20)
  text = f'{name}\nstep {step}{", ended" if ended else ""}\nreturn {value:.1f}'
  ImageDraw.Draw(image).multiline_text(
    (size // 2, size // 3), text, 'white', ImageFont.truetype(path, size),
    stroke_width=max(1, size // 10), stroke_fill='black',
  )  # fmt: skip
  return np.asarray(image)


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
  """One picture of several, with sides of an even number of pixels, as mp4 has them."""
  whole = np.concatenate(pictures, axis=1)
  return np.pad(whole, [*((0, n % 2) for n in whole.shape[:2]), (0, 0)], mode='edge')


def check_output(path: str) -> None:
  """What can be known before there is a film: whether it can be written there.

  Raises:
    UserError: the suffix is another one, something is there already, or what encodes is missing.
  """
  suffix = os.path.splitext(path)[1]
  if suffix not in SUFFIXES:
    raise UserError(f'--output {path}: a film ends in {" or ".join(SUFFIXES)}')
  if os.path.lexists(path):
    raise UserError(f'--output {path} is there already')
  if suffix == '.mp4':
    with blaming('an mp4 takes pip install brac[video], a gif does not'):
      importlib.import_module('imageio')
      encoder = importlib.import_module('imageio_ffmpeg')
    with blaming('an mp4 takes ffmpeg, a gif does not'):
      if not shutil.which(encoder.get_ffmpeg_exe()):
        raise ValueError(f'there is no program {encoder.get_ffmpeg_exe()}')


def check_fps(path: str, fps: float) -> None:
  """Raises UserError where a file cannot show so many pictures a second."""
  if path.endswith('.gif') and fps > _MOST_GIF_FPS:
    raise UserError(f'--fps {fps:g}: a gif shows {_MOST_GIF_FPS} pictures a second at most')


def write(path: str, frames: Iterable[np.ndarray], fps: float) -> None:
  """Writes a film of pictures `[H, W, 3]`, of even sides, which is complete or absent.

  Raises:
    UserError: it cannot be written.
  """
  try:
    with files.making(path) as made:
      _ENCODERS[os.path.splitext(path)[1]](made, frames, fps)
  except (UserError, runs.Stopped):  # of what is filmed
    raise
  except Exception as error:  # an encoder raises what it likes
    raise UserError(f'cannot write {path}: {first_line(error)}') from error


def _write_mp4(path: str, frames: Iterable[np.ndarray], fps: float) -> None:
  import imageio.v2 as imageio

  writer = imageio.get_writer(path, format='FFMPEG', fps=fps, macro_block_size=2, quality=7)
  with contextlib.closing(writer):  # also where there is an error
    for frame in frames:
      writer.append_data(frame)


def _write_gif(path: str, frames: Iterable[np.ndarray], fps: float) -> None:
  with open(path, 'wb') as f:
    f.write(gif(frames, fps))


_ENCODERS = {'.gif': _write_gif, '.mp4': _write_mp4}


def _share_off(frame: np.ndarray, shown: np.ndarray) -> float:
  """The share of the pixels that are shown in a color that is clearly another."""
  return float(np.mean(np.abs(frame.astype(np.int16) - shown).max(axis=-1) > _CLEARLY))


def gif(frames: Iterable[np.ndarray], fps: float) -> bytes:
  """An animated gif, which begins again at its end, after its last picture stood for a second."""
  from PIL import Image

  images, palette = [], None
  for frame in frames:
    image = Image.fromarray(frame)
    # The palette is that of the picture before, so that what stands still costs no room, unless
    # something of another color came into the picture.
    shown = image.quantize(palette=palette, dither=Image.Dither.NONE) if palette else None
    if not shown or _share_off(frame, np.asarray(shown.convert('RGB'))) > _MOST_OFF:
      shown = palette = image.quantize(colors=_GIF_COLORS, dither=Image.Dither.NONE)
    images.append(shown)
  # In the format's unit of 10 ms, rounded so that the film as a whole has the right speed.
  ends = [round(100 * i / fps) for i in range(len(images) + 1)]
  durations = [10 * (end - start) for start, end in zip(ends, ends[1:])]
  durations[-1] += 1000
  file = io.BytesIO()
  images[0].save(
    file, 'GIF', save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=True
  )
  return file.getvalue()
