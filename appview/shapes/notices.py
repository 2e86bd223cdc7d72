"""The viewer's notifications: the source of the list and of the count."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from appview.hydration.state import State
from appview.rule_checks import Case
from appview.rules import Place, decide
from appview.session import RequestContext, Session
from appview.shapes.procedure import private_account_of
from appview.skeletons.notifications import (
    Cause,
    Notice,
    NoticeKey,
    Reason,
    Slot,
    Subscribed,
    find_notices,
)
from storage.private.notification_settings import NotificationSettings, load_settings
from storage.records.addresses import find_actors


@dataclass(frozen=True, slots=True)
class Inbox:
    """Notifications of a viewer by its settings.

    With `priority` only those of followed accounts. `reasons` are those asked for.
    `pushed`: by the settings of pushes, not of the list.
    """

    settings: NotificationSettings
    priority: bool
    reasons: frozenset[Reason]
    pushed: bool = False

    def _allows(self, reason: Reason) -> bool:
        choose = self.settings.pushes if self.pushed else self.settings.shows
        return choose(reason.preference)

    def fetch(
        self,
        session: Session,
        limit: int,
        *,
        after: NoticeKey | None = None,
        since: datetime | None = None,
    ) -> list[Notice]:
        """Return notices, wanted or not, newest first."""
        viewer = session.viewer_actor
        if viewer is None:
            return []
        return find_notices(
            session.conn,
            viewer,
            [reason for reason in self.reasons if self._allows(reason)],
            limit,
            after=after,
            since=since,
            subscribed=self._subscribed(session),
        )

    def _subscribed(self, session: Session) -> Subscribed:
        held = self.settings.subscriptions
        ids = find_actors(session.conn, [s.did for s in held]) if held else {}
        known = [s for s in held if s.did in ids]
        return Subscribed(
            [ids[s.did] for s in known],
            [s.since for s in known],
            [s.post for s in known],
            [s.reply for s in known],
        )

    def wanted(self, notices: Collection[Notice]) -> list[Notice]:
        """Return notices with a cause that the settings let through."""
        return [notice for notice in notices if any(self._causes(notice))]

    def _causes(self, notice: Notice) -> list[Cause]:
        if self.priority and not notice.followed:
            return []
        settings = self.settings
        return [
            cause
            for cause in notice.causes
            if self._allows(cause.reason)
            and (notice.followed or not settings.only_follows(cause.reason.preference))
        ]

    def shown_cause(self, state: State, notice: Notice) -> Cause | None:
        """Return the first cause of a loaded notice that the rules let through.

        None if the client did not ask for its reason.
        """
        if not _is_shown(state, notice):
            return None
        for cause in self._causes(notice):
            if _holds(state, notice, cause):
                return cause if cause.reason in self.reasons else None
        return None


def open_inbox(
    context: RequestContext,
    reasons: Sequence[str] | None,
    priority: bool | None,
    *,
    pushed: bool = False,
) -> Inbox:
    """Read the viewer's settings; hold no connection of the index."""
    account = private_account_of(context)
    with context.app.private.read() as conn:
        settings = load_settings(conn, account)
    known = {reason.value: reason for reason in Reason}
    asked = known.values() if reasons is None else map(known.get, reasons)
    return Inbox(
        settings,
        settings.priority if priority is None else priority,
        frozenset(reason for reason in asked if reason is not None),
        pushed,
    )


def _is_shown(state: State, notice: Notice) -> bool:
    removed = notice.slot is Slot.REMOVED_VERIFICATION
    case = Case(notice.actor, None if removed else notice.record)
    return decide(state, Place.NOTICE, case) is None


def _holds(state: State, notice: Notice, cause: Cause) -> bool:
    """Return True unless a rule hides a notice for this cause."""
    subject = cause.subject
    if subject is not None:
        case = Case(subject.actor, subject)
        if decide(state, Place.NOTICE_SUBJECT, case) is not None:
            return False
    if cause.reason is Reason.LIKE_VIA_REPOST or (
        cause.reason is Reason.REPOST_VIA_REPOST
    ):
        return not _is_of_own_post(state, notice)
    if cause.reason is Reason.REPLY:
        case = Case(notice.actor, notice.record, subject=subject)
        return decide(state, Place.NOTICE_REPLY, case) is None
    if cause.reason is Reason.SUBSCRIBED_POST:
        return decide(state, Place.NOTICE_SUBSCRIBED, Case(notice.actor)) is None
    if cause.reason is Reason.QUOTE and subject is not None:
        case = Case(subject.actor, subject, quoted_by=notice.record)
        return decide(state, Place.NOTICE_QUOTED, case) is None
    return True


def _is_of_own_post(state: State, notice: Notice) -> bool:
    """Return True for a like or repost of its own account's post."""
    record = state.records.get(notice.record)
    subject = record.value.get("subject") if record else None
    uri = subject.get("uri") if isinstance(subject, dict) else None
    did = state.actors[notice.actor].did
    return isinstance(uri, str) and uri.startswith(f"at://{did}/")
