"""Kinds of alarms, with their meaning and advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class AlarmKind(StrEnum):
    """Kinds of alarms. Closed: each is a label of a metric."""

    CRAWL_SILENT = "crawl_silent"
    TASK_LATE = "task_late"
    HOST_STALLED = "host_stalled"
    HOST_SLOW = "host_slow"
    ALL_SLOW = "all_slow"
    HOST_AWAY = "host_away"
    LAG = "lag"
    HOST_CLOCK = "host_clock"
    OUR_CLOCK = "our_clock"
    QUEUE_FULL = "queue_full"
    SEARCH_BEHIND = "search_behind"
    SEARCH_FAILING = "search_failing"
    REPOS_WAITING = "repos_waiting"
    BUFFER_FULL = "buffer_full"
    IDENTITIES_WAITING = "identities_waiting"
    MIRROR_STUCK = "mirror_stuck"
    LABELER_AWAY = "labeler_away"
    MANY_DROPS = "many_drops"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Meaning of an alarm, and advice."""

    means: str
    advice: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """A current problem. `subject` is a host, a task or a part of this index."""

    kind: AlarmKind
    subject: str
    detail: str

    @property
    def explanation(self) -> Explanation:
        return EXPLANATIONS[self.kind]


EXPLANATIONS: Final[Mapping[AlarmKind, Explanation]] = {
    AlarmKind.CRAWL_SILENT: Explanation(
        "The live ingest sent no heartbeat for a minute: it exited or hangs.",
        "See the end of logs/crawl.log. `bigworld up` restarts it; `bigworld crawl` "
        "runs it alone. Nothing is lost: cursors are stored with the data.",
    ),
    AlarmKind.TASK_LATE: Explanation(
        "A scheduled task is overdue: the worker or the schedule does not run, the "
        "broker is down, or the task fails each time.",
        "See logs/worker.log for its name; run `bigworld worker --beat`.",
    ),
    AlarmKind.HOST_STALLED: Explanation(
        "The stream of a busy host is open but sends nothing, for longer than any "
        "recent pause. Relays are checked at once, other hosts after their first day.",
        "Ask its operator, or press “Crawl again” on its page. If all hosts stall at "
        "once, it is our network or our database.",
    ),
    AlarmKind.HOST_SLOW: Explanation(
        "A host sends less than a tenth of its usual rate.",
        "Compare with other hosts on the status page: if it is the only one, the fault "
        "is on its side.",
    ),
    AlarmKind.ALL_SLOW: Explanation(
        "All hosts together send less than a tenth of the usual rate, so that the "
        "cause is most likely here.",
        "Check the lag. A large lag means that the ingest is slow (database, disk, "
        "processor); a small one that the network is quiet or unreachable.",
    ),
    AlarmKind.HOST_AWAY: Explanation(
        "A configured host or a relay is offline or throttled, or its stream failed "
        "to open twice.",
        "Its page shows the reason and the next try. “Crawl again” retries an offline "
        "host now; `bigworld host unban` ends a throttling.",
    ),
    AlarmKind.LAG: Explanation(
        "Events arrive long after they happened: the ingest falls behind, or catches "
        "up after a pause.",
        "If it does not shrink: check the queue, raise BIGWORLD_SHARDS, give the "
        "database a faster disk.",
    ),
    AlarmKind.HOST_CLOCK: Explanation(
        "A host's clock is ahead of ours: its commits may be refused as coming from "
        "the future.",
        "Tell its operator. If several hosts are affected, check the clock here.",
    ),
    AlarmKind.OUR_CLOCK: Explanation(
        "The clocks of several hosts agree that ours is late.",
        "Set the clock of this machine (NTP): until then commits are refused.",
    ),
    AlarmKind.QUEUE_FULL: Explanation(
        "The queue of unverified frames is full, so that the sockets are read no "
        "faster than frames are verified.",
        "Nothing is lost. If it persists: raise BIGWORLD_SHARDS, check the database.",
    ),
    AlarmKind.SEARCH_BEHIND: Explanation(
        "Many search documents are queued: search does not show recent records.",
        "See the task drain_search; `bigworld search rebuild` rebuilds the index.",
    ),
    AlarmKind.SEARCH_FAILING: Explanation(
        "The search engine refuses documents or does not answer.",
        "Nothing is lost: documents wait in the outbox. Check that the server of "
        "BIGWORLD_SEARCH_URL runs, its disk, its key and its version.",
    ),
    AlarmKind.REPOS_WAITING: Explanation(
        "Many repos are desynchronized and wait to be fetched.",
        "Normal in the first hours. Otherwise `bigworld repo list --state "
        "desynchronized` shows the errors.",
    ),
    AlarmKind.BUFFER_FULL: Explanation(
        "Many live events wait until their repos are fetched.",
        "See `bigworld repo list --state resyncing`: a fetch that hangs holds them.",
    ),
    AlarmKind.IDENTITIES_WAITING: Explanation(
        "Many DID documents wait to be fetched: handles and migrations are late.",
        "The directory may be slow or refuse requests: mirror it, or set "
        "BIGWORLD_PLC_URL to a nearer one.",
    ),
    AlarmKind.MIRROR_STUCK: Explanation(
        "The mirror of the PLC directory makes no progress: identities are resolved "
        "by the directory itself.",
        "It retries, and reads everything again if the directory renumbered its "
        "operations. If the directory was reset, delete its row in plc_feed: "
        "everything is read again, verified operations stay.",
    ),
    AlarmKind.LABELER_AWAY: Explanation(
        "The stream of a labeler fails for half an hour, or has sent nothing for three "
        "days. Its new labels are not shown, and labels that it took back still are.",
        "The status page shows the last error. It is retried, and continues behind the "
        "last message. Remove it from BIGWORLD_LABELERS if it ended.",
    ),
    AlarmKind.MANY_DROPS: Explanation(
        "A large share of the events is dropped for one reason.",
        "docs/reference/drop-reasons.md explains the reason; the hosts' pages show "
        "the source. A single host: `bigworld host ban`. All hosts: a bug here.",
    ),
    AlarmKind.QUARANTINE: Explanation(
        "Our own code failed on inputs, which are quarantined.",
        "The table quarantined_frame holds their bytes and the error: report it.",
    ),
}
