"""The limits of the gate: lookups, new accounts, transactions and commits."""

from __future__ import annotations

from typing import Any

import pytest
from crawl_author import Author, account_frame, identity_frame, post
from gate_bench import OTHER, Bench, reasons

from crawler.live import gate_frame
from crawler.settings import CrawlSettings
from protocol.events.drops import DropReason
from protocol.events.event import AccountEvent, IdentityEvent
from storage.hosts import host_rows


def test_an_untrusted_host_brings_few_accounts_and_few_lookups(bench: Bench) -> None:
    bench.settings = CrawlSettings(host_accounts_per_day=20)
    bench.gate = bench.make_gate()
    stream = bench.stream(OTHER, source="request_crawl")
    lookups = 0
    frames = []
    template = Author(0)
    template.write([("create", "app.bsky.feed.post/a", post("spam"))])
    for n in range(1, 701):
        if n <= 100:
            author = bench.author(n, OTHER, known=n <= 50)
            author.write([("create", "app.bsky.feed.post/a", post("spam"))])
            frames.append(author.frame(n))
        else:
            did = f"did:plc:{n:a>24}".translate(str.maketrans("0189", "bcde"))
            frames.append(template.frame(n, repo=did))
    for n in range(0, 700, 50):
        passed = bench.take(stream, *frames[n : n + 50])
        lookups += len(passed.lookups)
        bench.settle()
    assert lookups <= 200
    with bench.pool.connection() as conn:
        row = conn.execute("SELECT count(*) FROM actor").fetchone()
    assert row == (20,)


def test_many_unknown_accounts_cost_a_handful_of_transactions(bench: Bench) -> None:
    stream = bench.stream()
    authors = [bench.author(n, f"h{n % 3}.example.com") for n in range(60)]
    frames = [identity_frame(a.did, n) for n, a in enumerate(authors[:30], 1)]
    frames += [identity_frame(f"did:plc:{n:024}", n) for n in range(31, 150)]
    bench.runs = 0
    passed = bench.take(stream, *frames)
    assert sum(passed.drops.values()) == len(passed.lookups) == 149
    assert bench.runs <= 6


def writes(author: Author, seqs: range) -> list[bytes]:
    frames = []
    for seq in seqs:
        path = f"app.bsky.feed.post/{author.new_rkey()}"
        author.write([("create", path, post(str(seq)))])
        frames.append(author.frame(seq))
    return frames


@pytest.mark.parametrize("relay", [False, True])
def test_account_over_its_commit_budget_is_throttled(
    bench: Bench, relay: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tenth of a commit a second: ten at once.
    bench.settings = CrawlSettings(account_commits_per_s=0.1)
    bench.gate = bench.make_gate()
    source = host_rows.SOURCE_CONFIGURED if relay else host_rows.SOURCE_REQUEST_CRAWL
    stream = bench.stream(source=source, relay=relay)
    hot, calm = bench.author(1), bench.author(2)
    bench.take(stream, *writes(hot, range(1, 2)), *writes(calm, range(2, 3)))
    proven: list[str] = []
    real = gate_frame.verify.verify_commits

    def verify_commits(messages: Any, now_us: int) -> Any:
        proven.extend(body["repo"] for body, _, _ in messages)
        return real(messages, now_us)

    monkeypatch.setattr(gate_frame.verify, "verify_commits", verify_commits)
    passed = bench.take(
        stream,
        *writes(hot, range(3, 30)),
        *writes(calm, range(30, 31)),
        hot.sync_frame(31),
        identity_frame(hot.did, 32),
        account_frame(hot.did, 33, True),
    )
    assert proven == [hot.did] * 9 + [calm.did]
    assert reasons(passed) == {DropReason.THROTTLED: 19}
    assert (passed.throttled, passed.to_resync) == ({hot.did}, set())
    assert passed.has_followups
    assert passed.marks == {stream.host: 33}, "it keeps nobody's cursor waiting"
    assert stream.throttled == 19
    # The status of an account is applied once, and is not passed over.
    told = [type(event) for event in passed.events if event.did == hot.did]
    assert told[9:] == [IdentityEvent, AccountEvent]
    bench.time += bench.settings.account_cooldown + 10.1
    passed = bench.take(stream, *writes(hot, range(34, 35)))
    assert (reasons(passed), len(passed.events)) == ({}, 1)


def test_accounts_of_configured_hosts_have_no_commit_budget(bench: Bench) -> None:
    bench.settings = CrawlSettings(account_commits_per_s=0.1)
    bench.gate = bench.make_gate()
    stream, author = bench.stream(), bench.author(1)
    passed = bench.take(stream, *writes(author, range(1, 40)))
    assert (reasons(passed), len(passed.events)) == ({}, 39)
