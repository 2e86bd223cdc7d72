from __future__ import annotations

import psycopg
import pytest
from appview_world import Provider, RefusedError, did

from protocol.car import read_car
from protocol.commit import parse_commit, verify_commit_signature
from protocol.mst import Tree
from protocol.repo import RepoReader

GET_RECORD = "com.atproto.repo.getRecord"
NOW_US = 4_000_000_000_000_000


def test_get_record_of_any_lexicon(provider: Provider) -> None:
    answer = provider.get(
        GET_RECORD,
        repo="alice.test",
        collection="org.example.garden.plant",
        rkey="fern",
    )
    assert answer["uri"] == provider.uris["strange"]
    assert answer["value"]["name"] == "fern"
    with pytest.raises(RefusedError) as refused:
        provider.get(
            GET_RECORD,
            repo="alice.test",
            collection="org.example.garden.plant",
            rkey="oak",
        )
    assert refused.value.name == "RecordNotFound"


def test_a_whole_repo_proves_itself(provider: Provider) -> None:
    body, _ = provider.ask("com.atproto.sync.getRepo", did=did("alice"))
    key = provider.world.keys["alice"].public
    reader = RepoReader(key, did("alice"), NOW_US)
    records = [*reader.feed(body)]
    head = reader.finish()
    written = provider.world.records["alice"]
    assert {f"{r.collection}/{r.rkey}" for r in records} == set(written)
    latest = provider.get("com.atproto.sync.getLatestCommit", did=did("alice"))
    assert latest["rev"] == head.rev
    status = provider.get("com.atproto.sync.getRepoStatus", did=did("alice"))
    assert status == {"did": did("alice"), "active": True, "rev": head.rev}


def test_one_record_with_its_proof(provider: Provider) -> None:
    for uri in (provider.uris["strange"], provider.uris["hello"]):
        collection, rkey = uri.split("/")[3:]
        body, _ = provider.ask(
            "com.atproto.sync.getRecord",
            did=did("alice"),
            collection=collection,
            rkey=rkey,
        )
        car = read_car(body)
        commit = parse_commit(car.blocks[car.root])
        verify_commit_signature(
            car.blocks[car.root], provider.world.keys["alice"].public
        )
        found = Tree(car.blocks.get, commit.data).get(f"{collection}/{rkey}".encode())
        assert found in car.blocks


def test_a_part_is_no_repo(provider: Provider) -> None:
    """Of whom only chosen collections are held nothing is given that must be whole."""
    name = did("alice")
    mark = "UPDATE repo SET selection = %s FROM actor WHERE id = actor AND did = %s"
    record = {"collection": "org.example.garden.plant", "rkey": "fern"}
    with psycopg.connect(provider.database) as conn:
        conn.execute(mark, (1, name))
    try:
        for method in ("getRepo", "getRecord", "getLatestCommit", "getRepoStatus"):
            more = record if method == "getRecord" else {}
            with pytest.raises(RefusedError) as refused:
                provider.ask(f"com.atproto.sync.{method}", did=name, **more)
            assert refused.value.name == "RepoNotFound"
        repos = provider.pages("com.atproto.sync.listRepos", "repos", limit=2)
        assert name not in {repo["did"] for repo in repos}
        assert provider.get(GET_RECORD, repo=name, **record)["value"]["name"] == "fern"
    finally:
        with psycopg.connect(provider.database) as conn:
            conn.execute(mark, (None, name))
    provider.ask("com.atproto.sync.getRepo", did=name)


def test_hidden_repos_say_why(provider: Provider) -> None:
    with pytest.raises(RefusedError) as refused:
        provider.ask("com.atproto.sync.getRepo", did=did("dan"))
    assert refused.value.name == "RepoDeactivated"
    with pytest.raises(RefusedError) as refused:
        provider.get("com.atproto.sync.getLatestCommit", did=did("nobody"))
    assert refused.value.name == "RepoNotFound"
    status = provider.get("com.atproto.sync.getRepoStatus", did=did("dan"))
    assert status == {"did": did("dan"), "active": False, "status": "deactivated"}


def test_list_repos_pages(provider: Provider) -> None:
    repos = provider.pages("com.atproto.sync.listRepos", "repos", limit=2)
    assert {repo["did"] for repo in repos} == {did(n) for n in provider.world.records}
    assert [r["status"] for r in repos if not r["active"]] == ["deactivated"]


def test_handles_resolve_here_or_outside(provider: Provider) -> None:
    resolve = "com.atproto.identity.resolveHandle"
    assert provider.get(resolve, handle="alice.test") == {"did": did("alice")}
    assert provider.get(resolve, handle="outside.example.com") == {
        "did": did("outside")
    }
    # The second is remembered by the network, of an account with another handle here.
    for handle in ("nobody.example.com", "renamed.example.com"):
        with pytest.raises(RefusedError) as refused:
            provider.get(resolve, handle=handle)
        assert refused.value.name == "HandleNotFound"


def test_headers_tell_the_viewers_own_revision(provider: Provider) -> None:
    _, headers = provider.ask(
        "app.bsky.actor.getProfile", actor="bob.test", viewer="alice"
    )
    latest = provider.get("com.atproto.sync.getLatestCommit", did=did("alice"))
    assert headers["atproto-repo-rev"] == latest["rev"]
    labelers = {"atproto-accept-labelers": f"{did('carol')};redact, {did('bob')}"}
    _, headers = provider.ask(
        "app.bsky.actor.getProfile", actor="bob.test", headers=labelers
    )
    assert headers["atproto-content-labelers"] == f"{did('carol')}, {did('bob')}"
    with pytest.raises(RefusedError):
        provider.ask(
            "app.bsky.actor.getProfile",
            actor="bob.test",
            headers={"atproto-accept-labelers": "not a did"},
        )
