"""The page of the operator's decisions: reports, takedowns, labels, and the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from appview.app import AppView
from labels.signed_label import LabelError, label_json
from service.moderation import Moderation
from service.web.host_page import from_our_page
from service.web.rendering import SAME_ORIGIN, PageFrame
from storage.private.decisions import MAX_REASON_CHARS, load_decisions, log_decision
from storage.private.own_labels import newest_labels
from storage.private.reports import close_report, load_reports
from storage.private.takedowns import (
    InvalidSubjectError,
    TooManyTakedownsError,
    load_takedowns,
    parse_subject,
)

PATH: Final = "/moderation"
OPERATOR: Final = "admin page"
_SHOWN: Final = 100
_MAX_BODY: Final = 20_000


class RefusedDecisionError(Exception):
    """A decision that cannot be carried out, with the reason."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The fields of a form."""

    subject: str
    value: str
    reason: str


class ModerationPage:
    """The page and its form."""

    def __init__(self, moderation: Moderation, threads: CapacityLimiter) -> None:
        self._moderation = moderation
        self._threads = threads
        self._actions: Mapping[str, Callable[[Decision], str]] = {
            "takedown": self._take_down,
            "undo": self._undo,
            "label": self._label,
            "unlabel": self._unlabel,
            "close": self._close,
        }

    def page(self, request: Request) -> dict[str, Any]:
        """Return the values of the template."""
        with self._moderation.private.read() as conn:
            return {
                "title": "Moderation",
                "said": request.query_params.get("said", "")[:500],
                "reports": load_reports(conn, limit=_SHOWN),
                "takedowns": load_takedowns(conn, limit=_SHOWN, newest=True),
                "labels": [label_json(raw) for raw in newest_labels(conn, _SHOWN)],
                "decisions": load_decisions(conn, limit=_SHOWN),
            }

    async def decide(self, request: Request) -> Response:
        """Carry out a decision, and redirect to the page (303)."""
        if not from_our_page(request):
            return PlainTextResponse("use the form on the page", 403)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY:
                return PlainTextResponse("the form is too large", 413)
        fields = dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=20))
        act = self._actions.get(fields.get("action", ""))
        if act is None:
            return PlainTextResponse("unknown action", 400)
        decision = Decision(
            fields.get("subject", "").strip(),
            fields.get("value", "").strip(),
            fields.get("reason", "").replace("\0", " ").strip()[:MAX_REASON_CHARS],
        )
        said = await run_sync(_answer, act, decision, limiter=self._threads)
        return RedirectResponse(f"{PATH}?{urlencode({'said': said})}", 303)

    def _take_down(self, decision: Decision) -> str:
        if not decision.reason:
            raise RefusedDecisionError("a takedown needs a reason")
        subject = parse_subject(decision.subject)
        self._moderation.take_down(subject, operator=OPERATOR, reason=decision.reason)
        return f"{subject} is taken down"

    def _undo(self, decision: Decision) -> str:
        subject = parse_subject(decision.subject)
        before = self._moderation.undo(
            subject, operator=OPERATOR, reason=decision.reason
        )
        if before is None:
            raise RefusedDecisionError(f"{subject} is not taken down")
        return f"{subject} is shown again"

    def _label(self, decision: Decision) -> str:
        if not decision.reason:
            raise RefusedDecisionError("a label needs a reason")
        return self._issue(decision, neg=False)

    def _unlabel(self, decision: Decision) -> str:
        return self._issue(decision, neg=True)

    def _issue(self, decision: Decision, *, neg: bool) -> str:
        issued = self._moderation.issue(
            decision.subject,
            decision.value,
            operator=OPERATOR,
            reason=decision.reason,
            neg=neg,
        )
        if issued is None:
            raise RefusedDecisionError("this service has not given that label")
        state = "no longer labelled" if neg else "labelled"
        return f"{decision.subject} is {state} {decision.value}"

    def _close(self, decision: Decision) -> str:
        number = int(decision.value) if decision.value.isdecimal() else 0
        with self._moderation.private.write() as conn:
            report = close_report(conn, min(number, 2**62))
            if report is None:
                raise RefusedDecisionError("there is no such open report")
            log_decision(
                conn,
                operator=OPERATOR,
                action=f"close report {number}",
                subject=report.subject,
                reason=decision.reason,
            )
        return f"report {number} is closed"


def _answer(act: Callable[[Decision], str], decision: Decision) -> str:
    """Return the result of a decision in words."""
    try:
        return act(decision)
    except (RefusedDecisionError, InvalidSubjectError, TooManyTakedownsError) as error:
        return f"Refused: {error}"
    except LabelError as error:
        return f"Refused: {error.fault.value.replace('_', ' ')}"


def moderation_routes(
    app: AppView, moderation: Moderation, threads: CapacityLimiter
) -> list[Route]:
    """Return the routes of the page and of its form, for the operator only."""
    page = ModerationPage(moderation, threads)
    show = PageFrame(app, threads).route("moderation.html", page.page, SAME_ORIGIN)
    return [Route(PATH, show), Route(PATH, page.decide, methods=["POST"])]
