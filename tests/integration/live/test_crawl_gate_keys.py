"""Signing keys at the gate: rotation, revocation, and bounded refreshes."""

from __future__ import annotations

from crawl_author import Author, post
from gate_bench import HONEST, Bench, reasons, synchronize

from crawler.scope.admission import LOOKUP_JOB
from protocol.events.drops import DropReason
from storage.hosts import host_rows


def test_a_rotated_key_costs_one_refresh_and_one_fetch(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old key"))])
    bench.take(stream, author.frame(1))
    synchronize(bench, author)
    author.key = Author(99).key
    bench.resolver.put(author.did, f"https://{HONEST}", author.did_key)
    author.write([("create", "app.bsky.feed.post/b", post("new key"))])
    passed = bench.take(stream, author.frame(2))
    assert reasons(passed) == {DropReason.BAD_SIGNATURE: 1}
    assert passed.marks == {stream.host: 2}
    bench.settle()
    assert bench.resolver.asked == [(author.did, True)]
    assert bench.repo(author)[1] == "desynchronized"
    author.write([("create", "app.bsky.feed.post/c", post("new key"))])
    assert [event.seq for event in bench.take(stream, author.frame(3)).events] == [3]


def test_a_rotated_key_that_is_in_postgres_costs_nothing(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old key"))])
    bench.take(stream, author.frame(1))
    author.key = Author(99).key
    bench.resolver.put(author.did, f"https://{HONEST}", author.did_key)
    bench.resolver.cache(author.did)
    author.write([("create", "app.bsky.feed.post/b", post("new key"))])
    assert len(bench.take(stream, author.frame(2)).events) == 1


def test_a_revoked_key_is_believed_for_a_second_at_most(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("old key"))])
    bench.take(stream, author.frame(1))
    bench.resolver.put(author.did, f"https://{HONEST}", Author(99).did_key)
    bench.resolver.cache(author.did)
    bench.time += 1.0
    author.write([("create", "app.bsky.feed.post/b", post("old key"))])
    passed = bench.take(stream, author.frame(2))
    assert reasons(passed) == {DropReason.BAD_SIGNATURE: 1}


def test_bad_signatures_cannot_make_us_ask_more_than_once_a_minute(
    bench: Bench,
) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.take(stream, author.frame(1))
    author.key = Author(99).key
    now = 0
    for n in range(2, 302):
        bench.time += 1
        author.write([("create", f"app.bsky.feed.post/{n}", post("forged"))])
        passed = bench.take(stream, author.frame(n))
        assert passed.events == []
        assert reasons(passed) == {DropReason.BAD_SIGNATURE: 1}
        now += passed.lookups[author.did].wait == 0.0
    # Five minutes, and five ahead of their time.
    assert now <= 10


def test_one_host_cannot_make_us_refresh_the_keys_of_many(bench: Bench) -> None:
    stream = bench.stream("liar.example.com", source=host_rows.SOURCE_REQUEST_CRAWL)
    authors = [bench.author(n, "liar.example.com") for n in range(40)]
    lookups = 0
    for n, author in enumerate(authors):
        author.write([("create", "app.bsky.feed.post/a", post("a"))])
        assert len(bench.take(stream, author.frame(n + 1)).events) == 1
    for n, author in enumerate(authors):
        author.key = Author(99).key
        author.write([("create", "app.bsky.feed.post/b", post("forged"))])
        passed = bench.take(stream, author.frame(n + 100))
        assert passed.events == []
        # Without a lookup the fetch refreshes the key.
        assert passed.to_resync | set(passed.lookups) == {author.did}
        lookups += len(passed.lookups)
    assert 0 < lookups <= 20


def test_an_outage_of_the_directory_forgets_no_key(bench: Bench) -> None:
    stream, author = bench.stream(), bench.author(1)
    author.write([("create", "app.bsky.feed.post/a", post("a"))])
    bench.take(stream, author.frame(1))
    right, author.key = author.key, Author(99).key
    author.write([("create", "app.bsky.feed.post/b", post("forged"))])
    bench.take(stream, author.frame(2))
    bench.resolver.down = True
    bench.settle()
    assert bench.jobs()[LOOKUP_JOB] == 1, "it is tried again"
    author.key = right
    author.write([("create", "app.bsky.feed.post/c", post("c"))])
    assert len(bench.take(stream, author.frame(3)).events) == 1
