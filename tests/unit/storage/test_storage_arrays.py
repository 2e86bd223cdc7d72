"""Array literals, compared with lists."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.postgres.arrays import bytes_array, int_array, int_columns, text_array
from storage.postgres.copy import copy_rows
from storage.postgres.pool import Conn

_SETTINGS = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def ask(conn: Conn, kind: str, literal: str) -> Any:
    row = conn.execute(f"SELECT %s::{kind}[]", (literal,)).fetchone()
    assert row is not None
    return row[0]


@_SETTINGS
@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_integers(conn: Conn, values: list[int]) -> None:
    assert ask(conn, "int8", int_array(values)) == values


@_SETTINGS
@given(
    values=st.lists(
        st.none()
        | st.sampled_from(["NULL", "null", '"', "\\", "{", "}", ",", "", " "])
        | st.text(st.characters(exclude_characters="\x00", codec="utf-8")),
        max_size=20,
    )
)
def test_texts(conn: Conn, values: list[str | None]) -> None:
    assert ask(conn, "text", text_array(values)) == values


@_SETTINGS
@given(values=st.lists(st.none() | st.binary(max_size=40), max_size=20))
def test_bytes(conn: Conn, values: list[bytes | None]) -> None:
    assert ask(conn, "bytea", bytes_array(values)) == values


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("int8", [-(2**63), 0, 2**63 - 1]),
        ("int2", []),
        ("int4", [1, None]),
        ("text", ["NULL", "", 'a"b\\', "नमस्ते"]),
        ("text", ["a", None]),
        ("bool", [True, False]),
        ("float8", [1.5, 2.0]),
        ("timestamptz", [datetime(1066, 10, 14, tzinfo=UTC)]),
        ("bytea", [b"\0", b"\\"]),
    ],
)
def test_lists_are_parameters(conn: Conn, kind: str, values: list[Any]) -> None:
    row = conn.execute(f"SELECT %s::{kind}[]", (values,)).fetchone()
    assert row is not None
    assert row[0] == values


def test_list_of_texts_with_nul_is_refused(conn: Conn) -> None:
    with pytest.raises(psycopg.DataError):
        conn.execute("SELECT %s::text[]", (["a\0b"],))


def test_columns() -> None:
    assert int_columns([(1, 2), (3, -4)], 2) == ["{1,3}", "{2,-4}"]
    assert int_columns([], 3) == ["{}", "{}", "{}"]


@_SETTINGS
@given(
    arrays=st.lists(
        st.none()
        | st.lists(
            st.text(st.characters(exclude_characters="\x00", codec="utf-8")), max_size=4
        ),
        max_size=10,
    )
)
def test_texts_in_binary_copies(conn: Conn, arrays: list[list[str] | None]) -> None:
    conn.execute("CREATE TEMP TABLE IF NOT EXISTS copied (id int4, texts text[])")
    conn.execute("TRUNCATE copied")
    rows = list(enumerate(arrays))
    copy_rows(conn, "copied", ("id", "texts"), ("int4", "text[]"), rows)
    held = conn.execute("SELECT id, texts FROM copied ORDER BY id").fetchall()
    assert held == rows
