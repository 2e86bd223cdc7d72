"""Progress towards a scope, and estimates, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from crawler.scope.estimate import Estimate
from storage.repos.scope_progress import ScopeProgress
from storage.repos.scope_rows import Scope


def as_fields(scope: Scope, progress: ScopeProgress) -> dict[str, Any]:
    """Return scope and progress as JSON fields."""
    return {
        "scope": scope.kind,
        "seeds": list(scope.seeds),
        "collections": list(scope.collections),
        "keep": list(scope.keep),
        **asdict(progress),
        "total": progress.total,
        "done": progress.done,
        "seconds_left": progress.seconds_left,
    }


def describe(scope: Scope, progress: ScopeProgress) -> list[str]:
    """Return scope and progress as lines of text."""
    named = ", ".join(scope.seeds or scope.collections)
    lines = [
        f"scope: {scope.kind}" + (f" ({named})" if named else ""),
        f"repos: {progress.done} of {progress.total} accounts; "
        f"{progress.lately} fetched in the last ten minutes",
    ]
    if scope.keep:
        lines.append(f"collections kept of each repo: {', '.join(scope.keep)}")
    if progress.partial:
        lines.append(f"partial repos (chosen collections only): {progress.partial}")
    if progress.gone:
        lines.append(f"unavailable: {progress.gone}")
    if progress.outside:
        lines.append(f"to be removed: {progress.outside}")
    left = progress.seconds_left
    if left is None:
        lines.append("no progress: see `bigworld doctor`")
    elif left:
        lines.append(f"left: about {in_hours(left / 3_600)}")
    return lines


def in_hours(hours: float) -> str:
    """Format a duration in hours, or in seconds if it is short."""
    return f"{hours:,.1f} hours" if hours >= 0.1 else f"{hours * 3_600:,.0f} seconds"


def explain(found: Estimate) -> list[str]:
    """Return an estimate and its basis as lines of text."""
    counted, basis = found.counted, found.basis
    least = "" if counted.complete else "at least "
    source = "measured on this index" if basis.own else "from reports and benchmarks"
    lines = [
        f"accounts: {least}{counted.accounts:,}",
        f"records: {least}{found.records:,} ({source}: "
        f"{basis.records_per_account:.0f} an account)",
        f"disk: {least}{_size(found.disk_bytes)} "
        f"({basis.bytes_per_record:.0f} bytes a record)",
        f"time: {least}{in_hours(found.hours)} (for {found.slowest})",
    ]
    if counted.unanswered:
        missed = ", ".join(counted.unanswered)
        lines.append(f"not counted, no reply or no such listing: {missed}")
    if found.over_cap:
        lines.append("more than BIGWORLD_ACCOUNT_CAP admits: raise it first")
    return lines


def _size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
