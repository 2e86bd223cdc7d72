"""`bigworld repo audit --hosts` over more repos than connections."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from audit import auditor, index_audit
from audit.repo_audit import RepoAudit
from service.cli import repo
from service.runtime.config import Config
from storage.postgres.pool import Conn
from storage.records.interning import Interner

DIDS = [f"did:plc:{letter * 24}" for letter in "abcdefgh"]


def test_audit_compares_as_many_repos_at_once_as_connections(
    index_db: str, conn: Conn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with conn.transaction():
        conn.execute(
            "WITH made AS (INSERT INTO actor (did) SELECT unnest(%s::text[])"
            " RETURNING id) INSERT INTO repo (actor, state)"
            " SELECT id, 'synchronized' FROM made",
            (DIDS,),
        )
    together = threading.Barrier(auditor._AT_ONCE)

    def audit(_: Any, interner: Interner, did: str, **__: Any) -> RepoAudit:
        # Every thread holds its connection before the first one interns a name.
        if threading.current_thread() is not threading.main_thread():
            together.wait(10)
        interner.rkeys([f"of {did} in {threading.current_thread().name}"])
        return RepoAudit(did, "", b"", b"", b"", b"", 0, 0)

    for module in (auditor, index_audit):
        monkeypatch.setattr(module, "audit_whole", audit)
    config = Config.read(home=tmp_path, database_url=index_db)
    assert repo.audit_index(
        config, DIDS, counts=False, repair=False, as_json=True, ask_hosts=True
    )
