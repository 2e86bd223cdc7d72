"""Changed frames: no lie is accepted, the verifier never fails, and no frame is slow.

Thousands by default; the long run takes a million, in ten parts.
"""

from __future__ import annotations

import random

import psutil
import pytest
from frame_fuzz import CHANGES, NOW_US, Fuzzer, Outcome, add_and_shuffle_blocks

from bench.fake_accounts import FakeAccounts
from crawler.live import verify
from crawler.live.verify import verify_commit
from protocol.errors import ProtocolError
from protocol.events.frames import decode_frame
from protocol.repo.whole_repo import RepoReader

SLOWEST_S = 0.25
"""CPU time of one frame."""


def judge(seed: int, count: int) -> Outcome:
    fuzzer = Fuzzer(seed)
    memory = psutil.Process().memory_info().rss
    outcome = fuzzer.run(count)
    assert outcome.faults == []
    assert set(outcome.tried) == {change.__name__ for change in CHANGES}
    assert outcome.tried.total() > count * 0.9
    assert outcome.slowest < SLOWEST_S
    assert psutil.Process().memory_info().rss - memory < 64 * 2**20
    # Both verdicts must occur.
    assert outcome.taken.total() > count / 100
    assert len(outcome.refused) >= 5
    return outcome


def test_changed_frame_never_makes_an_unsigned_claim() -> None:
    judge(seed=4, count=6_000)


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(40, 50))
def test_million_changed_frames_make_no_unsigned_claim(seed: int) -> None:
    outcome = judge(seed, count=100_000)
    print(
        f"\nseed {seed}: {outcome.tried.total()} frames, {outcome.taken.total()} taken,"
        f" slowest {outcome.slowest * 1_000:.1f} ms"
    )


def test_planted_verifier_faults_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    for check, what in (
        ("verify_commit_signature", "nobody signed"),
        ("_check_inversion", "other operations"),
    ):
        with monkeypatch.context() as planted:
            fuzzer = Fuzzer(seed=5)
            planted.setattr(verify, check, lambda *_: None)
            faults = fuzzer.run(2_500).faults
        assert any(what in fault or "another tree" in fault for fault in faults), check


@pytest.mark.parametrize("name", ["cid", "prev"])
@pytest.mark.parametrize("size", [37, 255, 256, 65_534, 65_535, 100_000])
def test_link_of_any_length_is_refused(name: str, size: int) -> None:
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


def test_harmless_changes_are_accepted() -> None:
    outcome = Fuzzer(seed=6).run(500, [add_and_shuffle_blocks])
    assert outcome.taken.total() > 300


def count_prefixes(seed: int, repos: int, records: int) -> int:
    """Check that no prefix of some repos is accepted as a whole one."""
    tried = 0
    for number in range(repos):
        society = FakeAccounts(0, seed=seed + number)
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


def test_prefix_of_a_repo_is_refused() -> None:
    assert count_prefixes(seed=21, repos=3, records=5) > 4_000


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_prefixes_of_twenty_repos_are_refused() -> None:
    assert count_prefixes(seed=22, repos=20, records=12) > 90_000


def test_prefix_of_a_message_makes_no_false_claim() -> None:
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
