"""The XRPC methods that a crawler calls (com.atproto.sync, com.atproto.server)."""

from __future__ import annotations

from typing import Final

DESCRIBE_SERVER: Final = "com.atproto.server.describeServer"
GET_REPO: Final = "com.atproto.sync.getRepo"
GET_REPO_STATUS: Final = "com.atproto.sync.getRepoStatus"
LIST_HOSTS: Final = "com.atproto.sync.listHosts"
LIST_REPOS: Final = "com.atproto.sync.listRepos"
SUBSCRIBE_REPOS: Final = "com.atproto.sync.subscribeRepos"
