from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bench import imports, verify
from bench.fake_accounts import LIKE, POST, PROFILE, START_US, FakeAccounts, made_repo
from bench.recorded import CURVES, FOLDER_VARIABLE
from crawler.live.verify import verify_commit, verify_sync
from protocol.data import cbor
from protocol.data.cid import cid_for
from protocol.events.frames import decode_frame
from protocol.mst import EMPTY_ROOT
from protocol.repo.whole_repo import RepoReader

NOW_US = START_US + 3_600_000_000


class Silence:
    def count(self, what: str, done: int, total: int) -> None:
        assert 0 < done <= total


def test_same_seed_gives_the_same_bytes() -> None:
    one = list(FakeAccounts(4, seed=3, records=60).frames(60))
    two = list(FakeAccounts(4, seed=3, records=60).frames(60))
    other = list(FakeAccounts(4, seed=4, records=60).frames(60))
    assert one == two
    assert one != other


def test_frames_are_valid_and_follow_each_other() -> None:
    society = FakeAccounts(8, seed=9, records=200, p256_share=0.5)
    assert {key.curve for key in society.keys.values()} == {"k256", "p256"}
    data = {member.did: member.data for member in society.members}
    held = {member.did: dict(member.records) for member in society.members}
    kinds: Counter[str | None] = Counter()
    actions: Counter[str] = Counter()
    for seq, raw in enumerate(society.frames(1_200), 1):
        frame = decode_frame(raw)
        kinds[frame.t] += 1
        assert frame.body["seq"] == seq
        if frame.t == "#commit":
            did = frame.body["repo"]
            event = verify_commit(frame.body, society.keys[did], NOW_US)
            assert event.prev_data == data[event.did]
            assert not event.drops
            data[event.did] = event.data
            for op in event.ops:
                actions[op.action] += 1
                path = f"{op.collection}/{op.rkey}".encode()
                if op.value is None:
                    del held[event.did][path]
                else:
                    held[event.did][path] = op.value
        elif frame.t == "#sync":
            did = frame.body["did"]
            proven = verify_sync(frame.body, society.keys[did], NOW_US)
            assert proven.data == data[proven.did]
    assert set(kinds) == {"#commit", "#sync", "#identity", "#account"}
    assert set(actions) == {"create", "update", "delete"}
    for member in society.members:
        assert member.data == data[member.did]
        assert member.records == held[member.did]


def test_births_are_empty_repos() -> None:
    society = FakeAccounts(3, seed=2, records=0)
    kinds = []
    for raw in society.births():
        frame = decode_frame(raw)
        kinds.append(frame.t)
        if frame.t == "#commit":
            key = society.keys[frame.body["repo"]]
            event = verify_commit(frame.body, key, NOW_US)
            assert (event.since, event.prev_data, event.data) == (
                None,
                EMPTY_ROOT,
                EMPTY_ROOT,
            )
    assert kinds == ["#identity", "#account", "#commit", "#sync"] * 3
    for raw in society.frames(40, others=False):
        body = decode_frame(raw).body
        assert verify_commit(body, society.keys[body["repo"]], NOW_US).prev_data


def test_car_holds_the_records_of_its_account() -> None:
    member, car = made_repo(500)
    reader = RepoReader(member.key.public, member.did, NOW_US)
    found = [record for piece in car for record in reader.feed(piece)]
    assert reader.finish().data == member.data
    assert {f"{one.collection}/{one.rkey}".encode(): one.value for one in found} == (
        member.records
    )
    assert len(found) == 500
    kinds = Counter(one.collection for one in found)
    assert kinds[PROFILE] == 1
    assert kinds[LIKE] > kinds[POST] > 40
    for one in found:
        value = cbor.decode(one.value)
        assert isinstance(value, dict)
        assert value["$type"] == one.collection
        assert cid_for(one.value) == one.cid


def test_targets_of_likes_are_skewed() -> None:
    society = FakeAccounts(10, seed=1, records=400)
    targets: Counter[str] = Counter()
    for member in society.members:
        for key, raw in member.records.items():
            if key.startswith(LIKE.encode()):
                targets[cbor.decode_fast(raw)["subject"]["uri"]] += 1
    most = [count for _, count in targets.most_common()]
    assert sum(most[: len(most) // 10]) > sum(most) / 3
    did = next(iter(targets)).split("/")[2]
    assert society.member(did).records  # type: ignore[arg-type]


@pytest.mark.parametrize("bench", [verify, imports])
def test_quick_run_completes(bench: object) -> None:
    metrics = bench.run(True, Silence())  # type: ignore[attr-defined]
    assert metrics[0].metric in ("commits_per_s_per_core", "records_per_s_per_core")
    assert metrics[0].value > 0
    assert metrics[0].floor is not None
    assert metrics[0].value < metrics[0].floor
    names = {metric.metric for metric in metrics}
    assert len(names) == len(metrics)
    if bench is imports:
        assert "peak_mib" in names


def test_verify_measures_recorded_frames(
    reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {f"recorded_{curve}_commits_per_s_per_core" for curve in CURVES}
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert not rates & {metric.metric for metric in verify.run(True, Silence())}
    monkeypatch.setenv(FOLDER_VARIABLE, str(reference))
    metrics = {metric.metric: metric for metric in verify.run(True, Silence())}
    assert rates <= metrics.keys()
    for rate in rates:
        floor = metrics[rate].floor
        assert floor is not None
        assert 0 < metrics[rate].value < floor
