"""Identifiers and datetimes against arithmetic and the standard library."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from protocol.syntax import (
    AtUri,
    RecordKey,
    TidClock,
    datetime_from_us,
    datetime_us,
    is_datetime,
    is_tid,
    parse_at_uri,
    parse_did,
    parse_handle,
    parse_nsid,
    parse_path,
    tid_from_int,
    tid_time_us,
    tid_to_int,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The standard library's calendar, less a day on both sides for the offsets.
FIRST, LAST = datetime(1, 1, 2), datetime(9999, 12, 30)

tid_numbers = st.integers(0, 2**63 - 1)
segments = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9]{0,12}", fullmatch=True)
nsids = st.builds(
    lambda authority, name: parse_nsid(".".join([*authority, name])),
    st.lists(segments, min_size=2, max_size=4),
    names,
)
rkeys = (
    st.from_regex(r"[A-Za-z0-9._~:-]{1,20}", fullmatch=True)
    .filter(lambda key: key not in (".", ".."))
    .map(RecordKey)
)
dids = st.from_regex(
    r"did:[a-z]{1,5}:[a-zA-Z0-9._:%-]{0,12}[a-zA-Z0-9._-]", fullmatch=True
).map(parse_did)
handles = st.lists(segments, min_size=2, max_size=4).map(".".join).map(parse_handle)


@given(tid_numbers)
def test_tid_number_survives_a_round_trip(number: int) -> None:
    tid = tid_from_int(number)
    assert is_tid(tid)
    assert tid_to_int(tid) == number
    assert tid_time_us(tid) == number >> 10


@given(tid_numbers, tid_numbers)
def test_tids_sort_as_their_numbers(one: int, other: int) -> None:
    assert (tid_from_int(one) < tid_from_int(other)) == (one < other)


@given(st.lists(st.integers(0, 10**6), min_size=2), st.integers(0, 1023))
def test_tid_clock_only_rises(times: list[int], clock_id: int) -> None:
    ticks = iter(times)
    clock = TidClock(clock_id, lambda: next(ticks))
    made = [clock.next() for _ in times]
    assert all(one < other for one, other in pairwise(made))


@given(dids | handles, st.none() | nsids, st.none() | rkeys)
def test_at_uri_survives_a_round_trip(
    authority: str, collection: str, rkey: str
) -> None:
    uri = AtUri(authority, collection, rkey if collection else None)  # type: ignore[arg-type]
    assert parse_at_uri(str(uri)) == uri


@given(nsids, rkeys)
def test_path_survives_a_round_trip(collection: str, rkey: str) -> None:
    assert parse_path(f"{collection}/{rkey}") == (collection, rkey)


@given(
    st.datetimes(FIRST, LAST),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
    st.integers(0, 12),
)
def test_datetimes_equal_the_standard_library(
    moment: datetime, offset: int, digits: int
) -> None:
    zone = timezone(timedelta(minutes=offset))
    moment = moment.replace(tzinfo=zone)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    if digits:
        text += f".{moment.microsecond:06}000000"[: digits + 1]
        cut = 10 ** max(0, 6 - digits)
        moment = moment.replace(microsecond=moment.microsecond // cut * cut)
    else:
        moment = moment.replace(microsecond=0)
    sign = "-" if offset < 0 else "+"
    text += f"{sign}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    assert is_datetime(text)
    assert datetime_us(text) == (moment - EPOCH) // timedelta(microseconds=1)


@given(st.datetimes(FIRST, LAST, timezones=st.just(UTC)))
def test_time_survives_a_round_trip(moment: datetime) -> None:
    time_us = (moment - EPOCH) // timedelta(microseconds=1)
    text = datetime_from_us(time_us)
    assert is_datetime(text)
    assert datetime_us(text) == time_us // 1000 * 1000


@given(st.text(max_size=40))
def test_datetimes_of_any_text(text: str) -> None:
    if is_datetime(text):
        datetime_us(text)
