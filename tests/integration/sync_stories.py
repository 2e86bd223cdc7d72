"""Stories of an account, its host and others: one for each row of the table of Sync 1.1
(test_sync_table.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from crawl_author import Author, account_frame, identity_frame, post
from sync_line import (
    NOW_US,
    SyncLine,
    body_of,
    car_of,
    path,
    with_commit,
    without_block,
)

from protocol.data import cbor
from protocol.data.cid import Cid, cid_for
from protocol.events.frames import encode_frame
from protocol.identity.keys import K256_ORDER
from protocol.limits import MAX_RECORD_BYTES
from protocol.repo.car import read_car
from protocol.syntax.did import Did

Story = Callable[[SyncLine], None]
SYNCHRONIZED: Final = "synchronized"
DESYNCHRONIZED: Final = "desynchronized"
FOREIGN = Did("did:plc:" + "z" * 24)
LIE = Cid(cid_for(b"a lie"))


def changed(**changes: Any) -> Story:
    """Return a commit of `second` whose message says something else in these fields."""
    return lambda line: line.write("second", **changes)


def numbered(seq: int) -> Story:
    """Return a commit under a sequence number that cannot be."""

    def story(line: SyncLine) -> None:
        line.author.write([("create", path("second"), post("second"))])
        line.send(line.author.frame(seq))

    return story


def commit_changed(**fields: Any) -> Story:
    """Return a commit of `second` whose signed block says something else."""

    def story(line: SyncLine) -> None:
        line.author.write([("create", path("second"), post("second"))])
        changes = with_commit(line.author, lambda commit: commit.update(fields))
        line.send(line.author.frame(line.next_seq(), **changes))

    return story


def ops_changed(change: Callable[[list[dict[str, Any]]], Any]) -> Story:
    """Return a commit of `second` and `third` that tells of other operations."""

    def story(line: SyncLine) -> None:
        names = ("second", "third")
        line.author.write([("create", path(name), post(name)) for name in names])
        ops = [
            {
                key: Cid(value) if type(value) is bytes else value
                for key, value in op.items()
            }
            for op in body_of(line.author)["ops"]
        ]
        change(ops)
        line.send(line.author.frame(line.next_seq(), ops=ops))

    return story


def dated(ahead_us: int) -> Story:
    """Return a commit whose revision is so far ahead of our clock."""

    def story(line: SyncLine) -> None:
        line.author.now_us = NOW_US + ahead_us - 1_000
        line.write("second")

    return story


def told(*accounts: tuple[bool, str | None], then: str | None = None) -> Story:
    """Send `#account` messages (active, status), then a commit."""

    def story(line: SyncLine) -> None:
        for active, status in accounts:
            frame = account_frame(line.author.did, line.next_seq(), active, status)
            line.send(frame)
        if then is not None:
            line.write(then)

    return story


def message(kind: str, **body: Any) -> Story:
    """Return one message of any kind about the account."""

    def story(line: SyncLine) -> None:
        fields = {"seq": line.next_seq(), "did": line.author.did, **body}
        line.send(encode_frame(kind, fields))

    return story


def by_other(line: SyncLine) -> None:
    author = line.author
    author.write([("create", path("second"), post("second"))])
    line.send(
        author.frame(1),
        author.sync_frame(2),
        account_frame(author.did, 3, False, "deleted"),
        identity_frame(author.did, 4),
        by=line.other,
    )


def by_relay(line: SyncLine) -> None:
    line.author.write([("create", path("second"), post("second"))])
    line.send(line.author.frame(1), by=line.relay)


def homeless(line: SyncLine) -> None:
    line.wait()
    line.settle_at(None)
    line.send(identity_frame(line.author.did, 1), by=line.relay)
    # As after a restart, or once the job of that event has read the document.
    line.author.write([("create", path("second"), post("second"))])
    spoilt = with_commit(line.author, _spoil_signature)
    line.send(line.author.frame(2, **spoilt), line.author.frame(3), by=line.relay)


def moved(line: SyncLine) -> None:
    line.wait()
    line.settle_at("other.example.com")
    line.author.write([("create", path("second"), post("second"))])
    line.send(line.author.frame(1), by=line.other)
    # The host it left has lost its say.
    line.send(account_frame(line.author.did, line.next_seq(), False, "deleted"))


def tombstoned(line: SyncLine) -> None:
    line.wait()
    del line.resolver.documents[line.author.did]
    line.author.write([("create", path("second"), post("second"))])
    line.send(line.author.frame(1), by=line.other)


def replayed(line: SyncLine) -> None:
    line.send(line.author.frame(line.next_seq()))
    older = line.author.frame(line.seq + 2)
    line.write("second")
    line.send_again(older)


def rotated(line: SyncLine) -> None:
    line.wait()
    line.author.key = Author(99).key
    line.settle_at("host.example.com")
    line.write("second")


def forged(line: SyncLine) -> None:
    line.wait()
    line.author.key = Author(99).key
    line.write("second")
    line.write("third")


def _spoil_signature(commit: dict[str, Any]) -> None:
    commit["sig"] = bytes(63) + b"\1"


def high_s(line: SyncLine) -> None:
    line.wait()
    line.author.write([("create", path("second"), post("second"))])

    def turn(commit: dict[str, Any]) -> None:
        sig = line.author.key.sign(cbor.encode(commit))
        s = K256_ORDER - int.from_bytes(sig[32:], "big")
        commit["sig"] = sig[:32] + s.to_bytes(32, "big")

    line.send(line.author.frame(line.next_seq(), **with_commit(line.author, turn)))


def from_before_the_rotation(line: SyncLine) -> None:
    line.wait()
    commit = line.author.frame(line.seq + 2)
    sync = line.author.sync_frame(line.seq + 3)
    rotated(line)
    line.forget_counts()
    line.wait()
    line.send_again(commit, sync)


def keyless(line: SyncLine) -> None:
    line.wait()
    line.resolver.put(line.author.did, "https://host.example.com", None)
    line.author.key = Author(99).key
    line.write("second")
    line.write("third")


def flipped(line: SyncLine) -> None:
    line.author.write([("create", path("second"), post("second"))])
    blocks = bytearray(body_of(line.author)["blocks"])
    blocks[-1] ^= 1
    line.send(line.author.frame(line.next_seq(), blocks=bytes(blocks)))


def truncated(line: SyncLine) -> None:
    line.author.write([("create", path("second"), post("second"))])
    car = read_car(body_of(line.author)["blocks"])
    only = {car.root: car.blocks[car.root]}
    line.send(line.author.frame(line.next_seq(), blocks=car_of(car.root, only)))


def without_record(line: SyncLine) -> None:
    line.author.write([("create", path("second"), post("second"))])
    record = cbor.encode(post("second"))
    changes = without_block(line.author, lambda cid, _: cid == cid_for(record))
    line.send(line.author.frame(line.next_seq(), **changes))


def broken_tree(line: SyncLine) -> None:
    line.author.write([("create", path("second"), post("second"))])
    not_a_node = cbor.encode({"e": [], "l": None, "x": 1})
    cid = cid_for(not_a_node)
    changes = with_commit(line.author, lambda commit: commit.update(data=Cid(cid)))
    car = read_car(changes["blocks"])
    blocks = car_of(car.root, car.blocks | {cid: not_a_node})
    line.send(line.author.frame(line.next_seq(), **changes | {"blocks": blocks}))


def lied_twice(line: SyncLine) -> None:
    """Return the same signed frame again and again asks for one fetch, not for many."""
    ops_changed(lambda ops: ops.pop())(line)
    assert line.state() == DESYNCHRONIZED
    line.to_resync.clear()
    line.send(line.author.frame(line.next_seq(), ops=[]))
    assert line.to_resync == set()


def large_record(line: SyncLine) -> None:
    line.author.write(
        [
            ("create", path("second"), post("second")),
            ("create", path("large"), post("x" * MAX_RECORD_BYTES)),
            ("create", "no-collection/third", post("third")),
        ]
    )
    line.send(line.author.frame(line.next_seq()))


def missed(line: SyncLine) -> None:
    line.author.write([("create", path("unseen"), post("unseen"))])
    line.write("second")
    line.write("third")


def hidden(line: SyncLine) -> None:
    """Return a commit left out, and a next one that says it follows what we hold."""
    held, _ = line.stored()
    line.author.write([("create", path("unseen"), post("unseen"))])
    line.write("second", since=held)


def missed_empty(line: SyncLine) -> None:
    line.author.write([])
    line.write("second")


def while_fetched(line: SyncLine) -> None:
    line.resyncing()
    line.write("second")
    assert line.query("SELECT count(*) FROM resync_buffer") == [(1,)]


def empty(line: SyncLine) -> None:
    line.author.write([])
    line.send(line.author.frame(line.next_seq()))
    assert line.stored() == (line.author.rev, line.author.data)
    line.write("second")


def synced(line: SyncLine) -> None:
    line.send(line.author.sync_frame(line.next_seq()))


def synced_elsewhere(line: SyncLine) -> None:
    line.author.write([("create", path("unseen"), post("unseen"))])
    synced(line)


def synced_forward(line: SyncLine) -> None:
    line.author.write([])
    synced(line)
    assert line.stored() == (line.author.rev, line.author.data)
    line.write("second")


def synced_backward(line: SyncLine) -> None:
    older = line.author.sync_frame(line.seq + 2)
    line.write("second")
    line.send_again(older)


def born(line: SyncLine) -> None:
    newborn = Author(2)
    line.resolver.put(newborn.did, "https://host.example.com", newborn.did_key)
    line.resolver.cache(newborn.did)
    newborn.write([("create", path("cradle"), post("cradle"))])
    line.send(newborn.frame(line.next_seq()))
    found = line.query(
        "SELECT state, rev FROM repo JOIN actor ON id = actor WHERE did = %s",
        newborn.did,
    )
    assert found == [(SYNCHRONIZED, newborn.rev)]


def renamed(line: SyncLine) -> None:
    line.send(identity_frame(line.author.did, line.next_seq(), "handle.invalid"))
    assert line.identities_to_refresh == {line.author.did}, (
        "to be looked up, not believed"
    )


def taken_down_here(line: SyncLine) -> None:
    line.take_down()
    line.write("second")
    line.send(account_frame(line.author.did, line.next_seq(), False, "suspended"))
    line.send(account_frame(line.author.did, line.next_seq(), True))
    assert line.query("SELECT takedown FROM actor") == [("spam",)]
