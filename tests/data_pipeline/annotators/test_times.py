import hypothesis.strategies as st
import pytest
from hypothesis import given

from data_pipeline.annotators.times import is_time, parse_seconds
from svtas_jax.errors import InputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0), ("12.5", 12.5), ("12,5", 12.5), (" .5 ", 0.5), ("1e3", 1000)),
        *(("12.5s", 12.5), ("3 sec", 3), ("350 ms", 0.35), ("350msec", 0.35)),
        *(("1:02.5", 62.5), ("75:00", 4500), ("0:01:02,25", 62.25), ("2:00:00", 7200)),
        *(("00:00:01:250", 1.25), ("-1:30", -90), ("-3", -3)),
    ],
)
def test_times_are_seconds(text, seconds):
    assert is_time(text)
    assert parse_seconds(text, "a.csv, line 1") == seconds


@pytest.mark.parametrize("text", ["", "soon", "1.234,5", "1:2:3:4:5", "1h", "12.5.1"])
def test_what_is_no_time_is_named(text):
    with pytest.raises(InputError, match="a.csv, line 1: .* is no time; write seconds"):
        parse_seconds(text, "a.csv, line 1")


@pytest.mark.parametrize("text", ["1:60", "0:60:00", "nan", "1e999", "0:00:61:10"])
def test_impossible_times_are_named(text):
    assert is_time(text)
    with pytest.raises(InputError, match="a.csv, line 1: "):
        parse_seconds(text, "a.csv, line 1", fps=25)


def drop_code(frame, *, rate=30):
    """Numbers frames as SMPTE does: minutes but each tenth begin with ;02, or ;04."""
    tens, rest = divmod(frame, rate * 600 - 9 * rate // 15)
    minute = 0
    if rest >= rate * 60:
        minute, rest = divmod(rest - rate * 60, rate * 60 - rate // 15)
        minute, rest = minute + 1, rest + rate // 15
    hours, minutes = divmod(10 * tens + minute, 60)
    return f"{hours:02}:{minutes:02}:{rest // rate:02};{rest % rate:02}"


@given(frame=st.integers(0, 10_000_000), rate=st.sampled_from([30, 60]))
def test_codes_that_drop_numbers_are_frames(frame, rate):
    fps = rate * 1000 / 1001
    found = parse_seconds(drop_code(frame, rate=rate), "", fps=fps)
    assert round(found * fps, 6) == frame


@given(frame=st.integers(0, 10_000_000), rate=st.sampled_from([24, 25, 30, 50]))
def test_codes_are_frames(frame, rate):
    seconds, last = divmod(frame, rate)
    code = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{last:02}"
    for fps in (rate, rate * 1000 / 1001):
        assert round(parse_seconds(code, "", fps=fps) * fps, 6) == frame


def test_codes_drop_numbers_only_where_they_may():
    with pytest.raises(InputError, match="29.97 and 59.94.*--fps=25"):
        parse_seconds("00:00:01;12", "a.csv", fps=25)
