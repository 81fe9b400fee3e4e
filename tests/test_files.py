"""Files that are whole or absent, however many programs write them."""

import os

import pytest

from brac import files
from brac.errors import UserError


def make(kind, path, text):
  """Writes a file, or a folder with one in it."""
  if kind == 'folder':
    os.makedirs(path)
    path = os.path.join(path, 'file')
  with open(path, 'w', encoding='utf-8') as f:
    f.write(text)


def text_of(kind, path):
  return (path / 'file' if kind == 'folder' else path).read_text()


@pytest.fixture(params=['here', 'on a poor file system'])
def anywhere(request):
  if request.param != 'here':
    request.getfixturevalue('poor')


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_of_two_that_make_one_thing_the_first_to_end_has_made_it(kind, tmp_path, anywhere):
  path = tmp_path / 'new' / 'made.txt'
  with pytest.raises(UserError, match=f'{path} is there already, and was not when this began'):
    with files.making(str(path)) as first:
      make(kind, first, 'one')
      with files.making(str(path)) as second:
        make(kind, second, 'another')
  assert text_of(kind, path) == 'another'
  assert os.listdir(tmp_path / 'new') == ['made.txt']


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_what_comes_at_the_last_moment_is_not_replaced(kind, tmp_path, monkeypatch):
  path = tmp_path / 'made'
  real = os.path.lexists

  def lexists(asked):
    there = real(asked)
    if asked == str(path):
      make(kind, path, 'of another')
    return there

  monkeypatch.setattr(os.path, 'lexists', lexists)
  with pytest.raises(UserError, match=f'cannot write {path}: '), files.making(str(path)) as made:
    make(kind, made, 'ours')
  assert text_of(kind, path) == 'of another'
  assert os.listdir(tmp_path) == ['made']


@pytest.mark.parametrize('kind', ['file', 'folder'])
@pytest.mark.parametrize('error', [OSError(28, 'No space left'), KeyboardInterrupt(), ValueError()])
def test_what_fails_leaves_nothing(kind, error, tmp_path):
  expected = UserError if isinstance(error, OSError) else type(error)
  with pytest.raises(expected), files.making(str(tmp_path / 'made')) as made:
    make(kind, made, 'half')
    raise error
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_others_may_read_what_was_made(kind, tmp_path):
  with files.making(str(tmp_path / 'made')) as made:
    make(kind, made, 'ours')
  make(kind, tmp_path / 'plain', 'theirs')
  modes = [os.stat(tmp_path / name).st_mode for name in ('made', 'plain')]
  assert modes[0] == modes[1]


def test_files_of_two_that_replace_them_are_one_s_or_the_other_s(tmp_path):
  for name in ('a', 'b', 'kept'):
    (tmp_path / name).write_text('before')
  with files.replacing(str(tmp_path)) as first:
    make('file', os.path.join(first, 'a'), 'one')
    with files.replacing(str(tmp_path)) as second:
      assert os.listdir(second) == []
      for name in ('a', 'b', 'c'):
        make('file', os.path.join(second, name), 'another')
      assert (tmp_path / 'a').read_text() == 'before'
    assert (tmp_path / 'a').read_text() == 'another'
  found = {name: (tmp_path / name).read_text() for name in os.listdir(tmp_path)}
  assert found == {'a': 'one', 'b': 'another', 'c': 'another', 'kept': 'before'}


def test_what_fails_replaces_nothing(tmp_path):
  (tmp_path / 'a').write_text('before')
  with pytest.raises(UserError, match=f'cannot write to {tmp_path}: No space left'):
    with files.replacing(str(tmp_path)) as made:
      make('file', os.path.join(made, 'a'), 'half')
      raise OSError(28, 'No space left')
  assert (tmp_path / 'a').read_text() == 'before' and os.listdir(tmp_path) == ['a']
