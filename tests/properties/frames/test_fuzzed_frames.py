"""A million changed frames: none is taken that says what its signer did not, none
makes the verifier fail, none takes long.

Twelve thousand by default; the long run takes a million, in ten parts.
"""

from __future__ import annotations

import random

import psutil
import pytest
from frame_fuzz import CHANGES, NOW_US, Fuzzer, Outcome, add_and_shuffle_blocks

from bench.accounts import Society
from crawler.live import verify
from crawler.live.verify import verify_commit
from protocol.errors import ProtocolError
from protocol.events.frames import decode_frame
from protocol.repo.whole_repo import RepoReader

SLOWEST_S = 0.25
"""CPU time; what one frame takes from everybody else's."""


def judge(seed: int, count: int) -> Outcome:
    fuzzer = Fuzzer(seed)
    memory = psutil.Process().memory_info().rss
    outcome = fuzzer.run(count)
    assert outcome.faults == []
    # Every way was tried, and most frames of it could be made.
    assert set(outcome.tried) == {change.__name__ for change in CHANGES}
    assert outcome.tried.total() > count * 0.9
    assert outcome.slowest < SLOWEST_S
    assert psutil.Process().memory_info().rss - memory < 64 * 2**20
    # Both verdicts are met, or the judge had nothing to judge.
    assert outcome.taken.total() > count / 100
    assert len(outcome.refused) >= 5
    return outcome


def test_no_changed_frame_says_what_nobody_signed() -> None:
    judge(seed=4, count=12_000)


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(40, 50))
def test_none_of_a_million_changed_frames_says_what_nobody_signed(seed: int) -> None:
    outcome = judge(seed, count=100_000)
    print(
        f"\nseed {seed}: {outcome.tried.total()} frames, {outcome.taken.total()} taken,"
        f" slowest {outcome.slowest * 1_000:.1f} ms"
    )


def test_a_verifier_that_asks_nobody_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted faults, one at a time: the judge sees each."""
    for check, what in (
        ("verify_commit_signature", "nobody signed"),
        ("_check_inversion", "other operations"),
    ):
        with monkeypatch.context() as planted:
            fuzzer = Fuzzer(seed=5)
            planted.setattr(verify, check, lambda *_: None)
            faults = fuzzer.run(4_000).faults
        assert any(what in fault or "another tree" in fault for fault in faults), check


@pytest.mark.parametrize("name", ["cid", "prev"])
@pytest.mark.parametrize("size", [37, 255, 256, 65_534, 65_535, 100_000])
def test_a_link_of_any_length_is_refused_in_peace(name: str, size: int) -> None:
    """Found by the long run: one longer than its head could say made us fail."""
    fuzzer = Fuzzer(seed=4, frames=60)
    tried = 0
    for raw in fuzzer.frames:
        body = decode_frame(raw).body
        if not body.get("ops") or body["ops"][0].get(name) is None:
            continue
        first = {**body["ops"][0], name: b"\xff" * size}
        with pytest.raises(ProtocolError):
            verify_commit(
                {**body, "ops": [first, *body["ops"][1:]]},
                fuzzer.keys[body["repo"]],
                NOW_US,
            )
        tried += 1
    assert tried > 0


def test_what_is_harmless_is_taken() -> None:
    outcome = Fuzzer(seed=6).run(500, [add_and_shuffle_blocks])
    assert outcome.taken.total() > 300


# Files and messages that end early.


def count_prefixes(seed: int, repos: int, records: int) -> int:
    """Every beginning of so many repos; none is a whole one."""
    tried = 0
    for number in range(repos):
        society = Society(0, seed=seed + number)
        member = society.add(records + number)
        car = b"".join(society.car(member))
        assert is_whole(member.did, member.key.public, car)
        for end in range(len(car)):
            assert not is_whole(member.did, member.key.public, car[:end]), end
        tried += len(car)
    return tried


def is_whole(did: object, key: object, car: bytes) -> bool:
    reader = RepoReader(key, did, NOW_US)  # type: ignore[arg-type]
    try:
        reader.feed(car)
        reader.finish()
    except ProtocolError:
        return False
    return True


def test_no_beginning_of_a_repo_is_taken_for_all_of_it() -> None:
    assert count_prefixes(seed=21, repos=3, records=5) > 4_000


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_no_beginning_of_twenty_repos_is_taken_for_all_of_it() -> None:
    assert count_prefixes(seed=22, repos=20, records=12) > 90_000


def test_no_beginning_of_a_message_says_something_else() -> None:
    fuzzer = Fuzzer(seed=7, frames=60)
    rng = random.Random(7)
    tried = taken = 0
    for raw in fuzzer.frames[:30]:
        _, t, body = decode_frame(raw)
        if t != "#commit":
            continue
        blocks = body["blocks"]
        for end in sorted(rng.sample(range(len(blocks)), min(len(blocks), 150))):
            cut = {**body, "blocks": blocks[:end]}
            tried += 1
            try:
                event = verify_commit(cut, fuzzer.keys[body["repo"]], NOW_US)
            except ProtocolError:
                continue
            taken += 1
            assert fuzzer.find_lie(event) is None
    assert tried > 3_000
    assert taken < tried / 20
