"""Operation lists that do not match their commit: none is believed.

Commits are signed, of both curves. And all pairs of 128 small trees, of which the
default run takes a share.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest

from bench.fake_accounts import START_US, FakeAccounts
from crawler.live.verify import verify_commit
from protocol.data import cbor
from protocol.data.cid import cid_for
from protocol.errors import ProtocolError
from protocol.events.frames import decode_frame
from protocol.identity.keys import PrivateKey, PublicKey
from protocol.mst import (
    EMPTY_ROOT,
    Tree,
    TreeOp,
    build_nodes,
    build_root,
    height,
    invert,
)
from protocol.repo.car import car_block, car_header
from protocol.repo.commit import sign_commit
from protocol.syntax import Did, tid_from_int

Op = dict[str, Any]
Lie = Callable[[list[Op], random.Random, list[str]], None]
LATER_US = START_US * 2


def some_cid(rng: random.Random) -> bytes:
    return cid_for(rng.randbytes(8))


def unknown_path(rng: random.Random) -> str:
    return f"app.bsky.feed.post/3k{rng.randrange(10**9):09}"


def leave_out(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    del ops[rng.randrange(len(ops))]


def leave_out_all(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    ops.clear()


def repeat(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    ops.insert(rng.randrange(len(ops) + 1), dict(rng.choice(ops)))


def repeat_path_otherwise(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    path = rng.choice(ops)["path"]
    ops.append({"action": "delete", "path": path, "cid": None, "prev": some_cid(rng)})


def add_create(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    path = rng.choice((unknown_path(rng), rng.choice(known)))
    ops.append({"action": "create", "path": path, "cid": some_cid(rng)})


def add_update(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    path = rng.choice((unknown_path(rng), rng.choice(known)))
    ops.append(
        {"action": "update", "path": path, "cid": some_cid(rng), "prev": some_cid(rng)}
    )


def add_delete(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    path = rng.choice((unknown_path(rng), rng.choice(known)))
    ops.append({"action": "delete", "path": path, "cid": None, "prev": some_cid(rng)})


def change_cid(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    op = rng.choice(ops)
    op["cid"] = rng.choice((some_cid(rng), None, op.get("prev"), b"", EMPTY_ROOT))


def change_prev(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    op = rng.choice(ops)
    op["prev"] = rng.choice((some_cid(rng), None, op["cid"], b"", EMPTY_ROOT))


def flip_bit_of_cid(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    op = rng.choice(ops)
    name = rng.choice([name for name in ("cid", "prev") if op.get(name) is not None])
    changed = bytearray(op[name])
    changed[rng.randrange(36)] ^= 1 << rng.randrange(8)
    op[name] = bytes(changed)


def change_action(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    op = rng.choice(ops)
    others = {"create", "update", "delete", "", "Create", None} - {op["action"]}
    op["action"] = rng.choice(sorted(others, key=str))


def create_with_prev(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    op = rng.choice(ops)
    op.update(action="create", prev=some_cid(rng), cid=op["cid"] or some_cid(rng))


def delete_with_cid(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    op = rng.choice(ops)
    op.update(
        action="delete",
        cid=op["cid"] or some_cid(rng),
        prev=op.get("prev") or some_cid(rng),
    )


def change_path(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    op = rng.choice(ops)
    end = op["path"][-1]
    op["path"] = rng.choice(
        (
            unknown_path(rng),
            rng.choice(known),
            op["path"][:-1] + ("2" if end != "2" else "z"),
            op["path"] + "2",
            op["path"].upper(),
            f" {op['path']}",
        )
    )


def swap_paths(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    op, path = rng.choice(ops), rng.choice(known)
    other = rng.choice(ops)
    op["path"], other["path"] = other["path"], path if other is op else op["path"]


def swap_sides(ops: list[Op], rng: random.Random, known: list[str]) -> None:
    """Return the operations of the undoing commit."""
    op = rng.choice(ops)
    cid, prev = op["cid"], op.get("prev")
    action = {"create": "delete", "delete": "create"}.get(op["action"], "update")
    op.update(action=action, cid=prev, prev=cid)


LIES: tuple[Lie, ...] = (
    leave_out,
    leave_out_all,
    repeat,
    repeat_path_otherwise,
    add_create,
    add_update,
    add_delete,
    change_cid,
    change_prev,
    flip_bit_of_cid,
    change_action,
    create_with_prev,
    delete_with_cid,
    change_path,
    swap_paths,
    swap_sides,
)


def as_said(ops: Iterable[Op]) -> Counter[tuple[Any, ...]]:
    """Return the claims of a list, without their order."""
    return Counter((op["action"], op["path"], op["cid"], op.get("prev")) for op in ops)


def is_believed(body: dict[str, Any], key: PublicKey) -> bool:
    try:
        event = verify_commit(body, key, LATER_US)
    except ProtocolError:
        return False
    # Without prevData a message is let through with nothing proven and no operations.
    return event.prev_data is not None


def count_believed(seed: int, commits: int) -> tuple[list[str], Counter[str]]:
    """Change each commit in every way; return (believed lists, tries by kind)."""
    rng = random.Random(seed)
    society = FakeAccounts(8, seed=seed, records=150, p256_share=0.3)
    keys = society.keys
    believed: list[str] = []
    tried: Counter[str] = Counter()
    for raw in society.frames(commits, others=False):
        body = decode_frame(raw).body
        known = [key.decode() for key in society.member(body["repo"]).live]
        assert is_believed(body, keys[body["repo"]])
        true = as_said(body["ops"])
        for lie in LIES:
            ops = copy.deepcopy(body["ops"])
            lie(ops, rng, known)
            if as_said(ops) == true:
                continue
            tried[lie.__name__] += 1
            if is_believed({**body, "ops": ops}, keys[body["repo"]]):
                believed.append(f"{lie.__name__}: {ops} for {body['ops']}")
    return believed, tried


def test_false_operation_lists_are_refused() -> None:
    believed, tried = count_believed(seed=44, commits=680)
    assert believed == []
    assert tried.total() >= 10_000
    assert min(tried[lie.__name__] for lie in LIES) >= 400


@pytest.mark.long
def test_hundred_thousand_false_operation_lists_are_refused() -> None:
    believed, tried = count_believed(seed=45, commits=6_700)
    assert believed == []
    assert tried.total() >= 100_000


def test_false_prev_data_is_refused() -> None:
    rng = random.Random(46)
    society = FakeAccounts(4, seed=46, records=60)
    tried = 0
    before: dict[str, list[bytes]] = {}
    for raw in society.frames(250, others=False):
        body = decode_frame(raw).body
        key = society.keys[body["repo"]]
        roots = before.setdefault(body["repo"], [EMPTY_ROOT, some_cid(rng)])
        # Also those that were the truth a moment ago, and the commit's own.
        for root in {*roots[-4:], EMPTY_ROOT, society.member(body["repo"]).data}:
            if root != body["prevData"]:
                assert not is_believed({**body, "prevData": root}, key)
                tried += 1
        roots.append(body["prevData"])
    assert tried > 900


def test_operation_with_another_action_is_refused() -> None:
    society = FakeAccounts(5, seed=49, records=60)
    tried: Counter[str] = Counter()
    for raw in society.frames(1_200, others=False):
        body = decode_frame(raw).body
        if all(op["action"] == "create" for op in body["ops"]):
            continue
        for index, op in enumerate(body["ops"]):
            for action in {"create", "update", "delete"} - {op["action"]}:
                ops = copy.deepcopy(body["ops"])
                ops[index]["action"] = action
                assert not is_believed({**body, "ops": ops}, society.keys[body["repo"]])
                tried[op["action"]] += 1
    assert tried["update"] >= 40
    assert tried["delete"] >= 80
    assert tried["create"] >= 100


def first_commit(count: int) -> tuple[dict[str, Any], PublicKey]:
    """Return the message of a repo created with some records."""
    nothing: dict[bytes, bytes] = {}
    tree, key, did = Tree(nothing.get), PrivateKey("k256", b"\x08" * 32), "did:web:a.b"
    values = {f"test.app.note/{n}": cbor.encode({"n": n}) for n in range(count)}
    for path, value in values.items():
        tree.put(path.encode(), cid_for(value))
    rev = tid_from_int(START_US << 10)
    signed = sign_commit(Did(did), tree.root(), rev, key)
    blocks = {cid_for(signed): signed} | tree.new_blocks()
    blocks |= {cid_for(value): value for value in values.values()}
    body = {
        "seq": 1,
        "repo": did,
        "rev": rev,
        "since": None,
        "commit": cid_for(signed),
        "blocks": car_header(cid_for(signed))
        + b"".join(car_block(cid, raw) for cid, raw in blocks.items()),
        "ops": [
            {"action": "create", "path": path, "cid": cid_for(value)}
            for path, value in values.items()
        ],
    }
    return body, key.public


def test_first_commit_with_extra_operations_is_refused() -> None:
    society = FakeAccounts(6, seed=47, records=0)
    seen = 0
    for raw in society.births():
        t, body = decode_frame(raw)[1:]
        if t != "#commit":
            continue
        key = society.keys[body["repo"]]
        assert is_believed(body, key)
        op = {"action": "create", "path": "app.bsky.feed.post/a", "cid": EMPTY_ROOT}
        assert not is_believed({**body, "ops": [op]}, key)
        seen += 1
    assert seen == 6


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_first_commit_with_unlisted_records_is_refused(count: int) -> None:
    body, key = first_commit(count)
    assert is_believed(body, key)
    for index in range(count):
        ops = body["ops"][:index] + body["ops"][index + 1 :]
        assert not is_believed({**body, "ops": ops}, key)
    assert not is_believed({**body, "ops": []}, key)


# Seven keys in order whose heights make trees of every shape.
HEIGHTS = (0, 1, 0, 2, 0, 0, 1)


def seven_keys() -> list[bytes]:
    found: list[bytes] = []
    number = 0
    for wanted in HEIGHTS:
        while height(b"test.app.note/%06d" % number) != wanted:
            number += 1
        found.append(b"test.app.note/%06d" % number)
        number += 1
    return found


def check_pairs(pairs: Iterable[tuple[int, int]]) -> int:
    """Prove the way between trees in both directions; return the number of pairs."""
    keys = seven_keys()
    trees = []
    for bits in range(128):
        items = [(key, cid_for(key)) for n, key in enumerate(keys) if bits >> n & 1]
        nodes = list(build_nodes(items))
        blocks = {node.cid: node.raw for node in nodes}
        trees.append((dict(items), build_root(items), blocks))
    assert len({root for _, root, _ in trees}) == 128
    checked = 0
    for one, two in pairs:
        (old, root, blocks), (new, new_root, new_blocks) = trees[one], trees[two]
        ops = [
            TreeOp(key, new.get(key), old.get(key))
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
        tree = Tree(blocks.get, root)
        for op in ops:
            if op.cid is None:
                tree.delete(op.key)
            else:
                tree.put(op.key, op.cid)
        assert tree.root() == new_root
        proof = tree.proof_blocks([op.key for op in ops])
        assert proof.items() <= new_blocks.items()
        assert invert(proof, new_root, ops, root) == root
        for op in ops:
            fewer = [other for other in ops if other is not op]
            # With one left out, the way back ends at a tree that has it still.
            assert invert(new_blocks, new_root, fewer, root) != root
        checked += 1
    return checked


def all_pairs() -> list[tuple[int, int]]:
    return list(product(range(128), range(128)))


def test_proofs_lead_between_some_small_trees() -> None:
    pairs = random.Random(48).sample(all_pairs(), 1_024)
    assert check_pairs(pairs) == 1_024


@pytest.mark.long
def test_proofs_lead_between_all_small_trees() -> None:
    assert check_pairs(all_pairs()) == 16_384
