"""The hosts that may speak for an account: its own, a relay, and a new one."""

from __future__ import annotations

import pytest
from crawl_author import account_frame, identity_frame, post
from gate_bench import HONEST, OTHER, Bench, reasons, synchronize

from crawler.scope.admission import LOOKUP_JOB
from protocol.events.drops import DropReason
from protocol.events.event import AccountEvent
from storage import jobs
from storage.hosts import host_rows


def test_a_host_cannot_speak_for_the_accounts_of_another(bench: Bench) -> None:
    honest, liar = bench.stream(), bench.stream(OTHER, source="request_crawl")
    known, unknown = bench.author(1), bench.author(2, known=False)
    for author in (known, unknown):
        author.write([("create", "app.bsky.feed.post/a", post("mine"))])
    bench.take(honest, known.frame(1))
    known.write([("create", "app.bsky.feed.post/b", post("forged?"))])
    for n in range(0, 40, 4):
        passed = bench.take(
            liar,
            known.frame(n + 1),
            unknown.frame(n + 2),
            account_frame(known.did, n + 3, False, "deleted"),
            identity_frame(known.did, n + 4),
        )
        assert passed.events == []
        assert passed.to_resync == set()
        bench.settle()
    reason = DropReason.WRONG_HOST
    assert passed.drops.keys() == {(reason, liar.host)}
    # At most one a minute on average, and five ahead of time.
    assert bench.lookups <= 14
    assert bench.repo(known) == (HONEST, "desynchronized")
    assert bench.repo(unknown) == ("", "")


@pytest.mark.parametrize("known", [True, False])
def test_a_relay_of_our_choice_may_forward(bench: Bench, known: bool) -> None:
    relay = bench.stream("relay.example.com", relay=True)
    author = bench.author(1, known=known)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    assert len(bench.take(relay, author.frame(1)).events) == known
    bench.settle()
    assert bench.repo(author)[0] == HONEST
    with bench.pool.connection() as conn:
        host = host_rows.find_hosts(conn, [HONEST])[HONEST]
    assert (host.state, host.source) == (
        host_rows.HOST_RELAYED,
        host_rows.SOURCE_DOCUMENT,
    )


def test_a_migration_is_accepted_after_one_refresh(bench: Bench) -> None:
    old, new = bench.stream(), bench.stream(OTHER)
    author = bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old home"))])
    bench.take(old, author.frame(1))
    synchronize(bench, author)
    bench.resolver.put(author.did, f"https://{OTHER}", author.did_key)
    author.write([("create", "app.bsky.feed.post/b", post("new home"))])
    passed = bench.take(new, author.frame(1))
    assert reasons(passed) == {DropReason.WRONG_HOST: 1}
    bench.settle()
    assert bench.resolver.asked == [(author.did, True)]
    assert bench.repo(author) == (OTHER, "desynchronized"), (
        "what was dropped is fetched"
    )
    author.write([("create", "app.bsky.feed.post/c", post("new home"))])
    assert len(bench.take(new, author.frame(2)).events) == 1
    # The old host has lost its say.
    passed = bench.take(old, account_frame(author.did, 2, False, "deleted"))
    assert passed.events == []
    assert reasons(passed) == {DropReason.WRONG_HOST: 1}


@pytest.mark.parametrize("frames", [1, 2])
def test_status_sent_before_a_move_is_noticed_is_applied(
    bench: Bench, frames: int
) -> None:
    old, new = bench.stream(), bench.stream(OTHER)
    author = bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old home"))])
    bench.take(old, author.frame(1))
    bench.resolver.put(author.did, f"https://{OTHER}", author.did_key)
    bench.take(new, account_frame(author.did, 1, False, "deleted"))
    if frames > 1:
        bench.take(new, identity_frame(author.did, 2))
    [event] = bench.settle().events
    assert isinstance(event, AccountEvent)
    assert (event.status, event.host) == ("deleted", new.host)


def test_gate_sees_a_move_that_another_process_noticed(bench: Bench) -> None:
    old, new = bench.stream(), bench.stream(OTHER)
    author = bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old home"))])
    bench.take(old, author.frame(1))
    bench.resolver.put(author.did, f"https://{OTHER}", author.did_key)
    bench.resolver.cache(author.did)
    # The new host is believed at once, the old one for a second at most.
    author.write([("create", "app.bsky.feed.post/b", post("new home"))])
    assert len(bench.take(new, author.frame(1)).events) == 1
    bench.resolver.put(author.did, f"https://{HONEST}", author.did_key)
    bench.resolver.cache(author.did)
    bench.time += 1.0
    frame = account_frame(author.did, 2, False, "deleted")
    assert reasons(bench.take(new, frame)) == {DropReason.WRONG_HOST: 1}


def test_account_named_by_a_wrong_host_first_is_resolved_for_its_host(
    bench: Bench,
) -> None:
    liar = bench.stream("liar.example.com", source="request_crawl")
    stream = bench.stream(source="request_crawl")
    author = bench.author(1, known=False)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    bench.take(liar, *(identity_frame(author.did, n) for n in range(1, 300)))
    bench.take(stream, author.frame(1))
    with bench.pool.connection() as conn:
        [job] = jobs.claim_jobs(conn, LOOKUP_JOB, limit=9, lease_s=0.0)
    assert set(job.named_by) == {liar.host, stream.host}
    bench.settle()
    assert bench.repo(author) == (HONEST, "desynchronized")


def test_wrong_host_alone_admits_no_account(bench: Bench) -> None:
    liar = bench.stream("liar.example.com", source="request_crawl")
    author = bench.author(1, known=False)
    bench.take(liar, *(identity_frame(author.did, n) for n in range(1, 300)))
    bench.settle()
    assert bench.lookups == 1
    assert bench.repo(author) == ("", "")
    with bench.pool.connection() as conn:
        assert HONEST not in host_rows.find_hosts(conn, [HONEST])


def test_frames_of_a_wrong_host_resync_nothing(bench: Bench) -> None:
    liar = bench.stream("liar.example.com", source="request_crawl")
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("hi"))])
    bench.take(stream, author.frame(1))
    synchronize(bench, author)
    passed = bench.take(liar, *(identity_frame(author.did, n) for n in range(1, 300)))
    assert reasons(passed) == {DropReason.WRONG_HOST: 299}
    bench.settle()
    assert bench.repo(author) == (HONEST, "synchronized")
