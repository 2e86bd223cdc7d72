"""com.atproto.moderation.createReport: a report for the operators of this service."""

from __future__ import annotations

from typing import Any, Final

from appview.pipeline import BlockingMethod, Params
from appview.session import RequestContext
from appview.shapes.procedure import require_account_of
from appview.views.common import datetime_text, present
from network.xrpc.server import AuthMode, XrpcError
from protocol.syntax import is_did
from storage.private.reports import TooManyReportsError, put_report

REPO_REF: Final = "com.atproto.admin.defs#repoRef"
STRONG_REF: Final = "com.atproto.repo.strongRef"
MAX_TYPE_CHARS: Final = 200
MAX_URI_CHARS: Final = 2_000


class _CreateReport(BlockingMethod):
    """The subject may be unknown to the index: operators see what was reported."""

    auth: AuthMode = "required"

    def run(self, context: RequestContext, params: Params) -> dict[str, Any]:
        reporter = require_account_of(context)
        kind = _text(params["reasonType"], MAX_TYPE_CHARS, "reasonType")
        uri, cid = _subject_of(params["subject"])
        reason = params.get("reason")
        try:
            with context.app.private.write() as conn:
                report = put_report(
                    conn,
                    reporter,
                    subject=uri,
                    cid=cid,
                    reason_type=kind,
                    # Postgres holds no NUL in a text.
                    reason=None if reason is None else reason.replace("\0", " "),
                )
        except TooManyReportsError as error:
            raise XrpcError(
                "RateLimitExceeded", str(error), 429, {"Retry-After": "3600"}
            ) from error
        return present(
            id=report.id,
            reasonType=report.reason_type,
            reason=report.reason,
            subject=params["subject"],
            reportedBy=reporter,
            createdAt=datetime_text(report.created_at),
        )


def _subject_of(subject: dict[str, Any]) -> tuple[str, str]:
    """Return DID or AT-URI, and the CID of a record. Raises XrpcError."""
    kind = subject.get("$type")
    if kind == REPO_REF:
        return _text(subject["did"], MAX_URI_CHARS, "subject"), ""
    if kind == STRONG_REF:
        uri = _text(subject["uri"], MAX_URI_CHARS, "subject")
        if not is_did(uri.removeprefix("at://").partition("/")[0]):
            raise XrpcError("InvalidRequest", "subject: give a DID, no handle", 400)
        return uri, str(subject["cid"])
    raise XrpcError("InvalidRequest", "subject: neither an account nor a record", 400)


def _text(value: str, limit: int, name: str) -> str:
    if len(value) > limit or "\0" in value:
        raise XrpcError("InvalidRequest", f"{name}: too long, or holds a NUL", 400)
    return value


METHOD: Final = _CreateReport()
