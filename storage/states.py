"""States of repos and accounts.

They are apart from the tables, so that users do not load SQLAlchemy, which only
migrations need.
"""

from __future__ import annotations

from typing import Final

REPO_DESYNCHRONIZED: Final = "desynchronized"
REPO_RESYNCING: Final = "resyncing"
REPO_SYNCHRONIZED: Final = "synchronized"
REPO_STATES: Final = (REPO_DESYNCHRONIZED, REPO_RESYNCING, REPO_SYNCHRONIZED)

STATUS_ACTIVE: Final = "active"
STATUS_DELETED: Final = "deleted"
UPSTREAM_STATUSES: Final = (
    STATUS_ACTIVE,
    "deactivated",
    "takendown",
    "suspended",
    STATUS_DELETED,
    "desynchronized",
    "throttled",
    "inactive",
)
"""`active` means the upstream says the account may be shown; `inactive` is any
inactive status this project does not know."""
