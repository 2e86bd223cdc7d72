"""Writes a second of our PDS and of the reference PDS, on the same disk in one run.

The table goes to the file that REFERENCE_PDS_RATES names; times are never asserted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from pds_world import free_port
from reference_network import is_installed, reference_servers

from bench.request import connect
from bench.writes.pds import (
    ACCOUNTS,
    BATCH,
    BATCHES,
    Member,
    apply_batches,
    create_records,
    measure_rate,
    open_server,
    post,
)

pytestmark = [
    pytest.mark.reference,
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not is_installed(),
        reason="the reference servers are not installed: "
        "run tests/interop/reference/install",
    ),
]

RECORDS = 100


def test_writes_beside_the_reference() -> None:
    rates: dict[str, dict[str, float]] = {}
    with open_server() as (url, _):
        rates["ours"] = rates_of(url, "a.test")
    port = free_port()
    indexer = ("http://localhost:9", "did:web:localhost%3A9")
    with reference_servers(free_port(), port, *indexer):
        rates["theirs"] = rates_of(f"http://localhost:{port}", "test")
    lines = ["| writes a second | ours | theirs | ours / theirs |", "|---|---|---|---|"]
    for name, ours in rates["ours"].items():
        theirs = rates["theirs"][name]
        lines.append(f"| {name} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.1f} |")
    table = "\n".join(lines) + "\n"
    Path(os.environ.get("REFERENCE_PDS_RATES", os.devnull)).write_text(table)


def rates_of(url: str, domain: str) -> dict[str, float]:
    members = [sign_up(url, f"rate{number}.{domain}") for number in range(ACCOUNTS + 2)]
    create: Callable[..., int] = create_records
    one, batched, several = members[0], members[1], members[2:]
    return {
        "createRecord, one client": measure_rate(url, [partial(create, one, RECORDS)]),
        f"createRecord, {ACCOUNTS} clients": measure_rate(
            url, [partial(create, member, RECORDS) for member in several]
        ),
        f"records by applyWrites of {BATCH}": BATCH
        * measure_rate(url, [partial(apply_batches, batched, BATCHES, BATCH)]),
    }


def sign_up(url: str, handle: str) -> Member:
    body = {
        "handle": handle,
        "email": f"{handle}@example.com",
        "password": "correct horse battery",
    }
    with closing(connect(url)) as connection:
        made = post(connection, "com.atproto.server.createAccount", body)
    return Member(made["did"], made["accessJwt"])
