"""The XRPC methods that a crawler calls (com.atproto.sync, com.atproto.server)."""

from __future__ import annotations

from typing import Final

DESCRIBE_SERVER: Final = "com.atproto.server.describeServer"
GET_BLOCKS: Final = "com.atproto.sync.getBlocks"
GET_LATEST_COMMIT: Final = "com.atproto.sync.getLatestCommit"
GET_REPO: Final = "com.atproto.sync.getRepo"
GET_REPO_STATUS: Final = "com.atproto.sync.getRepoStatus"
LIST_HOSTS: Final = "com.atproto.sync.listHosts"
LIST_REPOS: Final = "com.atproto.sync.listRepos"
LIST_REPOS_BY_COLLECTION: Final = "com.atproto.sync.listReposByCollection"
SUBSCRIBE_REPOS: Final = "com.atproto.sync.subscribeRepos"
