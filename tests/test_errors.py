"""The checks of numbers that a person binds by gin: what passes, as what, and what is refused."""

import pytest

from brac.errors import UserError, check_number, check_whole, warn_of_clipping


@pytest.mark.parametrize('given, least, taken', [(3, 1, 3), (2e4, 1, 20000), (0.0, 0, 0)])
def test_a_whole_number_becomes_an_int(given, least, taken):
  checked = check_whole('f', least, x=given)
  assert checked == taken and type(checked) is int
  assert check_whole('f', 0, x=given, y=1.0) == (taken, 1)


@pytest.mark.parametrize(
  'wrong', [0, 0.5, 1e30, 10**19, 1e999, -1e999, float('nan'), True, '3', None, (3,)]
)
def test_what_is_no_whole_number_is_refused_by_name(wrong):
  with pytest.raises(UserError) as error:
    check_whole('f', 1, x=wrong)
  assert str(error.value) == f'f.x is a whole number from 1 to 1e+18, not {wrong!r}'


def test_a_whole_number_may_have_a_bound():
  assert check_whole('f', 1, 10, x=10) == 10
  with pytest.raises(UserError, match='f.x is a whole number from 1 to 10, not 11'):
    check_whole('f', 1, 10, x=11)


@pytest.mark.parametrize('given', [0, 1, 0.25])
def test_a_number_becomes_a_float(given):
  checked = check_number('f', 0, 1, x=given)
  assert checked == given and type(checked) is float
  assert check_number('f', x=given, y=2) == (given, 2.0)


@pytest.mark.parametrize('wrong', [1e39, -1e39, 10**39, 1e999, float('nan'), True, '3', None])
def test_a_number_is_finite_in_float32(wrong):
  with pytest.raises(UserError) as error:
    check_number('f', x=wrong)
  assert str(error.value) == f'f.x is a finite number (float32), not {wrong!r}'
  with pytest.raises(UserError, match=r'f.x is a number from 0 to 3.4e\+38, not '):
    check_number('f', 0, x=wrong)


def test_without_a_place_a_message_begins_with_the_parameter():
  with pytest.raises(UserError, match='^x is a number from 0 to 1, not 2'):
    check_number('', 0, 1, x=2)


def test_a_number_that_will_be_clipped_is_warned_of(caplog):
  with caplog.at_level('WARNING', 'absl'):
    warn_of_clipping('f', 0, 500, x=0.0, y=500.0)
    assert not caplog.messages
    warn_of_clipping('f', 0, 500, x=1000.0, y=-1.0)
  assert caplog.messages == [
    'f.x is 1000, outside of [0, 500], and clipped to it',
    'f.y is -1, outside of [0, 500], and clipped to it',
  ]
