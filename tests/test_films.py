"""Films of policies: what is in them, and the files that they become."""

import ctypes.util
import io
import os
import subprocess
import sys

import gym
import numpy as np
import pytest
from environment_helpers import needs_library
from gym.envs.classic_control.pendulum import PendulumEnv
from PIL import Image

from brac import environments, films
from brac.errors import UserError
from brac.networks import Actor, Box
from brac.policies import ActorPolicy
from brac.rng import INIT, Rng
from brac.rollouts import Evaluator


class Undrawn(PendulumEnv):
  """Draws nothing that is a picture."""

  def render(self, mode='human'):
    return 'a pendulum'


gym.register('TestUndrawn-v0', entry_point=Undrawn, max_episode_steps=5)
for i, metadata in enumerate([None, {'render_fps': 'fast'}, {'render_fps': float('nan')}, {}]):
  kind = type('Odd', (PendulumEnv,), {'metadata': metadata})
  gym.register(f'TestOddMetadata{i}-v0', entry_point=kind)


def make_policies(env_name, n):
  env = environments.described(env_name)
  specs = env.observation_spec, env.action_spec
  actors = [Actor(specs[0].shape[0], (8,), Box.of(specs[1]), Rng(i, INIT)) for i in range(n)]
  return {f'policy {i}': ActorPolicy(*specs, actor, mode=True) for i, actor in enumerate(actors)}


@pytest.mark.parametrize(
  'env_name', [pytest.param('Hopper-v2', marks=needs_library), 'Pendulum-v1']
)
def test_a_film_is_of_the_first_episode_of_an_evaluation(env_name):
  policies = make_policies(env_name, 2)
  rate, shots = films.shoot(env_name, policies, 3, at_step=20, width=160, height=120, fps=50)
  shots = list(shots)
  returns = Evaluator(env_name, policies, 1, 3).run(20)
  np.testing.assert_array_equal(shots[-1].returns, [r[0] for r in returns.values()])
  assert shots[-1].ended.all() and not shots[-2].ended.all()
  every = shots[1].step
  assert [shot.step for shot in shots[:-1]] == [*range(0, shots[-1].step, every)]
  # As fast as the environment itself: Hopper has 125 steps a second, gym's pendulum says 30.
  assert rate == {'Hopper-v2': 125, 'Pendulum-v1': 30}[env_name] / every <= 50
  # Below what is written, the same start, and soon not the same any more.
  first, last = ([picture[60:] for picture in shots[i].pictures] for i in (0, -1))
  np.testing.assert_array_equal(*first)
  assert np.any(last[0] != last[1]) and np.any(first[0] != last[0])


def test_a_film_ends_where_it_is_asked_to_and_its_pictures_are_the_environments():
  env_name = 'Pendulum-v1'
  policies = make_policies(env_name, 1)
  *_, shot = films.shoot(env_name, policies, 0, most_steps=7, width=500, height=500)[1]
  assert shot.step == 7 and not shot.ended.any()
  with environments.make_batch(env_name, 1, 0) as env:
    env.reset()
    own = env.picture(0, 10, 10)
  (picture,) = shot.pictures
  assert picture.shape == own.shape and picture.dtype == np.uint8
  written = np.flatnonzero(np.any(picture != own, axis=2).any(axis=0))
  assert written[0] < 50  # in the upper left corner
  assert (picture[:100, :200] == 0).all(axis=2).any()  # white with a black edge, on white


@needs_library
def test_what_a_row_draws_is_its_own_state_whatever_its_size():
  with environments.make_batch('Walker2d-v2', 2, 0) as env:
    env.reset()
    actions = np.ones([2, 6], np.float32)
    env.step(actions)
    before = env.state
    pictures = [env.picture(row, 80, 60) for row in (0, 1)]
    assert pictures[0].shape == (60, 80, 3) and np.any(pictures[0] != pictures[1])
    assert env.picture(0, 100, 60).shape == (60, 100, 3)
    np.testing.assert_array_equal(env.picture(0, 80, 60), pictures[0])
    assert env.state == before


@pytest.mark.parametrize('i', range(4))
def test_an_environment_need_not_tell_how_fast_it_is(i):
  assert environments.described(f'TestOddMetadata{i}-v0').steps_per_second is None


@pytest.mark.parametrize(
  'env_name, error',
  [('TestUndrawn-v0', 'TestUndrawn-v0 cannot be drawn: it gave <U10 of shape')],
)
def test_an_environment_without_pictures_is_an_error(env_name, error):
  with pytest.raises(UserError, match=error):
    films.try_out(env_name)


@pytest.mark.parametrize(
  'variable, value',
  # No library that draws; one that is there and finds no driver.
  [('MUJOCO_GL', 'disabled'), ('__EGL_VENDOR_LIBRARY_FILENAMES', '/none.json')],
)
def test_nothing_that_draws_is_an_error_of_one_line(variable, value):
  code = """
from brac import films
films.try_out('Hopper-v2')
"""
  env = {**os.environ, 'MUJOCO_GL': 'egl', variable: value, 'TF_CPP_MIN_LOG_LEVEL': '3'}
  done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
  assert done.returncode == 1
  assert done.stderr.splitlines()[-1].startswith(
    'brac.errors.UserError: no picture can be drawn here, which takes libEGL or libOSMesa: '
  )
  assert 'Exception ignored' not in done.stderr


def test_where_egl_does_not_work_osmesa_is_taken_or_the_error_names_both():
  code = "from brac import films; films.try_out('Hopper-v2')"
  env = {**os.environ, '__EGL_VENDOR_LIBRARY_FILENAMES': '/none.json'}
  env = {name: value for name, value in env.items() if name not in ('DISPLAY', 'MUJOCO_GL')}
  done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
  assert 'Exception ignored' not in done.stderr
  if ctypes.util.find_library('OSMesa'):
    assert done.returncode == 0, done.stderr
  else:
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and ': egl: ' in last and '; osmesa: ' in last


# --- Files ----------------------------------------------------------------------------------------


def frames(n=5, height=31, width=50):
  """A white square that moves over grey."""
  for i in range(n):
    frame = np.full([height, width, 3], 128, np.uint8)
    frame[10:20, 3 * i : 3 * i + 10] = 255
    yield films.side_by_side([frame, frame // 2])


def test_pictures_stand_side_by_side_with_even_sides():
  frame = next(frames())
  assert frame.shape == (32, 100, 3)
  assert tuple(frame[15, 5]) == (255,) * 3 and tuple(frame[15, 55]) == (127,) * 3


def test_a_gif_has_the_frames_and_begins_again(tmp_path):
  path = str(tmp_path / 'new' / 'film.gif')
  films.check_output(path)
  films.write(path, frames(), 20)
  assert os.listdir(tmp_path / 'new') == ['film.gif']
  with Image.open(path) as image:
    assert (image.n_frames, image.size, image.info['loop']) == (5, (100, 32), 0)
    for i, frame in enumerate(frames()):
      image.seek(i)
      assert image.info['duration'] == (1050 if i == 4 else 50)
      np.testing.assert_allclose(np.asarray(image.convert('RGB')), frame, atol=2)


def test_a_gif_is_as_fast_as_it_is_told_where_10_ms_do_not_divide_a_picture():
  with Image.open(io.BytesIO(films.gif(frames(50, width=200), 17.86))) as image:
    durations = []
    for i in range(image.n_frames):
      image.seek(i)
      durations.append(image.info['duration'])
  assert len(durations) == 50 and set(durations[:-1]) == {50, 60}
  assert sum(durations) - 1000 == pytest.approx(50 * 1000 / 17.86, abs=5)


def test_a_gif_shows_what_comes_into_the_picture_later():
  coming = [np.full([32, 100, 3], 255, np.uint8) for _ in range(4)]
  for i, color in enumerate([(255, 0, 0), (0, 0, 255), (0, 128, 0)]):
    for frame in coming[i + 1 :]:
      frame[8 * i : 8 * i + 8, 10:30] = color
  with Image.open(io.BytesIO(films.gif(coming, 20))) as image:
    for i, frame in enumerate(coming):
      image.seek(i)
      np.testing.assert_allclose(np.asarray(image.convert('RGB')), frame, atol=2)


def test_a_gif_of_one_picture_is_one(tmp_path):
  with Image.open(io.BytesIO(films.gif(frames(1), 20))) as image:
    assert image.n_frames == 1


def test_an_mp4_has_the_frames(tmp_path):
  pytest.importorskip('imageio_ffmpeg', reason='pip install brac[video]')
  import imageio.v2 as imageio

  path = str(tmp_path / 'film.mp4')
  films.check_output(path)
  films.write(path, frames(), 12.5)
  assert os.listdir(tmp_path) == ['film.mp4']
  with imageio.get_reader(path, format='FFMPEG') as reader:
    read = [frame for frame in reader]  # whose length is infinite
    assert reader.get_meta_data()['fps'] == 12.5
  assert len(read) == 5
  for there, frame in zip(read, frames()):
    assert there.shape == frame.shape
    assert np.abs(there.astype(int) - frame).mean() < 6


@pytest.mark.parametrize('suffix', films.SUFFIXES)
def test_a_film_that_breaks_off_leaves_nothing(tmp_path, suffix):
  if suffix == '.mp4':
    pytest.importorskip('imageio_ffmpeg', reason='pip install brac[video]')

  def broken():
    yield from frames(2)
    raise UserError('the environment cannot be stepped')

  with pytest.raises(UserError, match='^the environment cannot be stepped$'):
    films.write(str(tmp_path / f'film{suffix}'), broken(), 20)
  assert not os.listdir(tmp_path)


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
  (tmp_path / 'file').write_text('mine')
  with pytest.raises(UserError, match='cannot write .*file/film.gif: ') as raised:
    films.write(str(tmp_path / 'file' / 'film.gif'), frames(), 20)
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
  'missing, error',
  [
    ('imageio', r'an mp4 takes pip install brac\[video\], a gif does not: .*imageio'),
    ('imageio_ffmpeg', r'an mp4 takes pip install brac\[video\], a gif does not: .*imageio_ffmpeg'),
  ],
)
def test_without_the_extra_there_is_a_gif_and_no_mp4(tmp_path, monkeypatch, missing, error):
  monkeypatch.setitem(sys.modules, missing, None)
  films.check_output(str(tmp_path / 'film.gif'))
  with pytest.raises(UserError, match=error):
    films.check_output(str(tmp_path / 'film.mp4'))


def test_without_ffmpeg_there_is_no_mp4(tmp_path, monkeypatch):
  pytest.importorskip('imageio_ffmpeg', reason='pip install brac[video]')
  monkeypatch.setenv('IMAGEIO_FFMPEG_EXE', str(tmp_path / 'ffmpeg'))
  with pytest.raises(UserError, match='an mp4 takes ffmpeg, a gif does not: there is no program'):
    films.check_output(str(tmp_path / 'film.mp4'))
