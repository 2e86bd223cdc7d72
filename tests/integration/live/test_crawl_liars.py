"""Twenty-four hosts over real sockets; three send forged data, and no row is theirs.

They send forged signatures, valid commits of other hosts and deletions, and serve
forged repos. Meanwhile one account moves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from crawl_author import Author, account_frame, identity_frame, post
from crawl_world import (
    CrawlWorld,
    FakeHost,
    rebuild_root,
    refused,
    wait_for_stream,
    wait_until,
)

from storage.hosts import host_rows
from storage.records.record_codec import decompress

HONEST, LIARS = 21, 3
FORGED = "forged"


@pytest.fixture
def world(index_db: str) -> Iterator[CrawlWorld]:
    opened = CrawlWorld(index_db)
    yield opened
    opened.close()


def write(host: FakeHost, author: Author, count: int, text: str = "true") -> None:
    for _ in range(count):
        path = f"app.bsky.feed.post/{author.new_rkey()}"
        host.post(author, ("create", path, post(f"{text} words of {author.did}")))


def forger_of(number: int, *, stolen_key: bool = False) -> Author:
    """Return an author with the DID of an account, and with its key if `stolen_key`."""
    forger = Author(number)
    if not stolen_key:
        forger.key = Author(700 + number).key
    return forger


def lie(liar: FakeHost, number: int, author: Author) -> int:
    """Return all that a host can say of an account that is not its own; how many
    frames."""
    forger = forger_of(number)
    thief = forger_of(number, stolen_key=True)
    before = len(liar.frames)
    write(liar, forger, 1, FORGED)
    write(liar, thief, 1, FORGED)
    liar.send(forger.sync_frame)
    liar.send(thief.sync_frame)
    liar.send(author.frame)
    liar.send(author.sync_frame)
    for active, status in ((False, "deleted"), (False, "takendown"), (True, None)):
        liar.send(
            lambda seq, active=active, status=status: account_frame(
                author.did, seq, active, status
            )
        )
    liar.send(lambda seq: identity_frame(author.did, seq, "forged.example.com"))
    # Its repo and its listing are forged too.
    liar.authors[author.did] = thief
    return len(liar.frames) - before


def find_foreign(world: CrawlWorld) -> list[str]:
    """Return every trace of the forgeries in the tables, one line each."""
    found = [
        f"record of {did}"
        for did, value in world.query(
            "SELECT did, value FROM record JOIN actor ON actor.id = actor"
        )
        if FORGED.encode() in decompress(value)
    ]
    found += [
        f"repo of {did} at {name}"
        for did, name in world.query(
            "SELECT did, hostname FROM repo JOIN actor ON actor.id = actor"
            " JOIN host ON host.id = host WHERE source = 'request_crawl'"
        )
    ]
    found += [
        f"{did} is {status}"
        for did, status in world.query("SELECT did, upstream_status FROM actor")
        if status != "active"
    ]
    found += [
        f"{count} accounts of {name}"
        for name, count in world.query(
            "SELECT hostname, accounts FROM host WHERE source = 'request_crawl'"
        )
        if count
    ]
    return found


def judged(world: CrawlWorld, *speakers: FakeHost) -> bool:
    """Return True if all that these hosts have said so far has been judged."""
    cursors = dict(
        world.query(
            "SELECT url, min(seq) FROM host_cursor JOIN host ON id = host GROUP BY url"
        )
    )
    return all(cursors.get(host.url, 0) >= host.frames[-1][0] for host in speakers)


def wait_among_lies(
    world: CrawlWorld, check: Callable[[], bool], seconds: float, what: str
) -> None:
    """Wait until `check` is true; fail at once if a forged row appears."""
    wait_until(
        lambda: find_foreign(world) or check(),
        seconds,
        lambda: f"{what}; dropped are {world.drops()}",
    )
    assert find_foreign(world) == []


def wait_for_quiet(world: CrawlWorld) -> None:
    """Wait until documents may be requested again."""
    asked = -1
    while asked != len(world.resolver.asked):
        asked = len(world.resolver.asked)
        time.sleep(1.5)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_three_hostile_hosts_among_twenty_four_leave_no_row(world: CrawlWorld) -> None:
    honest = [world.add_host() for _ in range(HONEST)]
    liars = [
        world.add_host(source=host_rows.SOURCE_REQUEST_CRAWL) for _ in range(LIARS)
    ]
    authors = [
        world.add_author(n, host, "p256" if n % 3 == 0 else "k256")
        for n, host in enumerate(honest)
    ]
    # Some accounts are known before the forged frames, some only from them.
    for n in range(0, HONEST, 2):
        write(honest[n], authors[n], 3)
    told = 0
    with world.crawling(strike_limit=10**6, account_cap=None):
        # A reader that runs is not yet connected: what is said before is not heard.
        wait_for_stream(*honest, *liars, seconds=240)
        wait_until(lambda: world.follows(*authors[::2]), 240, "the known ones")
        for n in range(1, HONEST, 2):
            authors[n].write([])
        for liar in liars:
            told += sum(lie(liar, n, author) for n, author in enumerate(authors))
        for n, author in enumerate(authors):
            write(honest[n], author, 3)
        wait_among_lies(world, lambda: world.follows(*authors), 240, "all of them")
        wait_among_lies(world, lambda: judged(world, *liars), 240, "all the lies")
        assert refused(world) == told, world.drops()

        # One account moves; the old host still sends frames for it.
        # Its document was refreshed a moment ago, and may not be again yet.
        wait_for_quiet(world)
        moving, old, new = authors[4], honest[4], honest[5]
        forger = forger_of(4, stolen_key=True)
        world.resolver.put(moving.did, new.url, moving.did_key)
        new.authors[moving.did] = old.authors.pop(moving.did)
        asked = len(world.resolver.asked)
        write(new, moving, 1)
        wait_until(lambda: world.follows(moving), 120, "the one that moved")
        looks = [did for did, _ in world.resolver.asked[asked:] if did == moving.did]
        assert len(looks) <= 3
        write(old, forger, 2, FORGED)
        write(new, moving, 2)
        wait_among_lies(world, lambda: world.follows(moving), 120, "moved, again")
        wait_among_lies(world, lambda: judged(world, old), 120, "two lies more")
    assert find_foreign(world) == []
    assert world.query("SELECT count(*) FROM resync_buffer") == [(0,)]
    assert told == LIARS * HONEST * 10
    assert refused(world) == told
    homes = dict(
        world.query(
            "SELECT did, url FROM repo JOIN actor ON actor.id = actor"
            " JOIN host ON host.id = host"
        )
    )
    assert homes == {
        author.did: (new if author is moving else honest[n]).url
        for n, author in enumerate(authors)
    }
    with world.pool.connection() as conn:
        for author in authors:
            assert rebuild_root(conn, author.did) == author.data
    assert all(liar.repo_requests == [] for liar in liars)


@pytest.mark.parametrize("fault", ["forged", "flipped", "cut", "of another"])
def test_repo_not_signed_by_its_owner_is_refused(world: CrawlWorld, fault: str) -> None:
    host = world.add_host()
    author, other = world.add_author(1, host), world.add_author(2, host)
    for someone in (author, other):
        for n in range(20):
            path = f"app.bsky.feed.post/{someone.new_rkey()}"
            someone.write([("create", path, post(f"true words {n}"))])
    forger = forger_of(1)
    forger.write([("create", "app.bsky.feed.post/a", post(FORGED))])
    flipped = bytearray(author.repo())
    flipped[flipped.index(b"true words 7") + 5] ^= 1
    host.repo_bytes[author.did] = {
        "forged": forger.repo(),
        "flipped": bytes(flipped),
        "cut": author.repo()[:-1],
        "of another": other.repo(),
    }[fault]
    with world.crawling():
        wait_until(lambda: world.follows(other))
        wait_until(lambda: host.repo_requests.count(author.did) >= 2)
        assert not world.follows(author)
        rows = world.query("SELECT did FROM record JOIN actor ON actor.id = actor")
        assert set(rows) == {(other.did,)}
        del host.repo_bytes[author.did]
        wait_until(lambda: world.follows(author))
    with world.pool.connection() as conn:
        assert rebuild_root(conn, author.did) == author.data


def test_move_right_after_a_lookup_heals_by_the_next_commit(world: CrawlWorld) -> None:
    old, new = world.add_host(), world.add_host()
    author = world.add_author(1, old)
    with world.crawling(refresh_interval=5.0):
        wait_for_stream(old, new)
        write(old, author, 2)
        wait_until(lambda: world.follows(author))
        looked = time.monotonic()
        world.resolver.put(author.did, new.url, author.did_key)
        new.authors[author.did] = old.authors.pop(author.did)
        write(new, author, 1)
        wait_until(lambda: world.drops().get("wrong_host"))
        # The document may not be asked for again yet, so this one is lost for now.
        assert not world.follows(author)
        time.sleep(max(0.0, looked + 5.2 - time.monotonic()))
        write(new, author, 1)
        wait_until(lambda: world.follows(author))
    with world.pool.connection() as conn:
        assert rebuild_root(conn, author.did) == author.data


def test_listing_of_foreign_accounts_admits_none(world: CrawlWorld) -> None:
    elsewhere = world.add_host(known=False)
    liar = world.add_host(source=host_rows.SOURCE_REQUEST_CRAWL)
    for n in range(10):
        author = world.add_author(n, elsewhere)
        author.write([("create", "app.bsky.feed.post/a", post("true words"))])
        liar.authors[author.did] = author
    own = world.add_author(20, liar)
    own.write([("create", "app.bsky.feed.post/a", post("true words"))])
    world.execute("UPDATE host SET state = %s", host_rows.HOST_STREAMING)
    assert world.tasks().list_repos()["admitted"] == 1
    rows = world.query("SELECT did FROM repo JOIN actor ON actor.id = actor")
    assert rows == [(own.did,)]
    # Nor do we learn of a host by its word.
    assert world.query("SELECT url FROM host") == [(liar.url,)]
