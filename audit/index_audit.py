"""One run of the audit over the index, with its report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from audit.auditor import ERROR, check_all
from audit.repair import clear_repo
from audit.repo_audit import RepoAudit, describe_fault, list_synchronized, recount_stats
from audit.row_audit import audit_whole
from audit.samples import SOUND, UNSOUND
from network.http.client import Fetcher
from protocol.data.cid import cid_to_text
from storage.postgres.pool import Conn, Pool
from storage.records.interning import Interner

_PAGE: Final = 1_000


class Report(Protocol):
    """Receiver of lines and progress."""

    def say(self, message: str) -> None: ...

    def count(self, what: str, done: int, total: int) -> None: ...


def synchronized_repos(conn: Conn) -> Iterator[str]:
    """Yield the DIDs of all synchronized repos."""
    after = ""
    while page := list_synchronized(conn, after=after, limit=_PAGE):
        yield from page
        after = page[-1]
    conn.commit()


class IndexAudit:
    """One run of the audit over the index; `all_sound` is its result."""

    def __init__(
        self,
        report: Report,
        conn: Conn,
        interner: Interner,
        *,
        repair: bool,
        as_json: bool,
    ) -> None:
        self._report = report
        self._conn = conn
        self._interner = interner
        self._repair = repair
        self._as_json = as_json
        self._partial = 0
        self.all_sound = True

    def compare_roots(self, dids: Sequence[str], most_link_bytes: int | None) -> None:
        """Rebuild each repo's root and rows, and compare."""
        for done, did in enumerate(dids, start=1):
            found = audit_whole(
                self._conn, self._interner, did, most_link_bytes=most_link_bytes
            )
            self._partial += found.keeps is not None
            if self._as_json:
                print(json.dumps(_as_fields(found)))
            elif not found.ok:
                line = f"{found.did} rev {found.rev}: {describe_fault(found)}"
                self._report.say(line)
            if not found.ok:
                self.all_sound = False
                if self._repair:
                    self._conn.commit()
                    now = datetime.now(UTC)
                    clear_repo(self._conn, self._interner, found.did, now, ERROR)
            self._report.count("audited", done, len(dids))
        self._conn.commit()

    def compare_hosts(
        self, open_fetcher: Callable[[], Fetcher], pool: Pool, dids: Sequence[str]
    ) -> None:
        """Compare each repo with its host's latest commit."""
        verdicts: Counter[str] = Counter()
        findings = check_all(
            open_fetcher, pool, self._interner, dids, repair=self._repair
        )
        for finding in findings:
            self.all_sound = self.all_sound and finding.verdict not in UNSOUND
            verdicts[finding.verdict] += 1
            self._report.count("hosts", verdicts.total(), len(dids))
            if self._as_json:
                print(json.dumps(asdict(finding)))
            elif finding.verdict not in SOUND:
                detail = f" ({finding.detail})" if finding.detail else ""
                self._report.say(f"{finding.did}: {finding.verdict}{detail}")
        if not self._as_json:
            shown = (f"{number} {verdict}" for verdict, number in verdicts.items())
            self._report.say(f"compared with hosts: {', '.join(shown) or 'none'}")

    def compare_counts(self) -> None:
        """Recount the statistics tables."""
        audited = recount_stats(self._conn, repair=self._repair)
        self.all_sound = self.all_sound and audited.ok
        for table, number in audited.wrong.items():
            self._report.say(f"{table}: {number} wrong rows")

    def summarize(self, repos: int) -> None:
        """Print the result."""
        verdict = "nothing wrong found" if self._partial else "all match"
        verdict = verdict if self.all_sound else "NOT all match"
        self._report.say(f"{repos} repos audited, {verdict}")
        if self._partial:
            self._report.say(
                f"{self._partial} of them are partial: only --hosts can prove those"
            )


def _as_fields(found: RepoAudit) -> dict[str, Any]:
    return {
        "did": found.did,
        "rev": found.rev,
        "ok": found.ok,
        "fault": describe_fault(found),
        "partial": None if found.keeps is None else sorted(found.keeps),
        "root": cid_to_text(found.root) if found.root else None,
        "signed": cid_to_text(found.signed) if found.signed else None,
        "records": found.records,
        "dropped": found.dropped,
    }
