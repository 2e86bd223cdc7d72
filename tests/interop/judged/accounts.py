"""The accounts that both indexers are asked about, and their records.

Each kind of relation, record and state that a view must respect occurs at least once.
Times are in the past, in another order than the record keys.
"""

from __future__ import annotations

from reference_network import post

from judged.records import (
    CAST,
    write_graph,
    write_media,
    write_named,
    write_posts,
    write_profiles,
    write_quotes,
    write_threads,
)
from judged.services import (
    write_declarations,
    write_documents,
    write_gallery,
    write_gone_lists,
    write_labelers,
    write_lists,
    write_mentions,
    write_verifications,
)
from judged.stage import Stage
from judged.states import (
    recreate_records,
    rename_accounts,
    write_blocks,
    write_gates,
    write_gone,
    write_keys,
    write_opted_out,
    write_repeats,
    write_times,
)


def settle_in(stage: Stage) -> None:
    """Create the accounts."""
    for name, server in CAST.items():
        stage.move_in(name, f"{name}.{'two' if server else 'one'}.test", server)


def play(stage: Stage) -> None:
    """Write all that our crawler finds at its start."""
    for scene in (
        write_profiles,
        write_graph,
        write_posts,
        write_threads,
        write_quotes,
        write_media,
        write_named,
        write_labelers,
        write_declarations,
        write_verifications,
        write_documents,
        write_lists,
        write_mentions,
        write_gallery,
    ):
        scene(stage)
    stage.settle()
    for scene in (
        write_gone_lists,
        write_gates,
        write_blocks,
        write_opted_out,
        write_times,
        write_keys,
        write_repeats,
        write_gone,
    ):
        scene(stage)
    stage.settle()


def play_on(stage: Stage) -> None:
    """Write live commits, and change accounts."""
    recreate_records(stage)
    stage.say("bob", "written live")
    stage.like("carol", "written live")
    stage.reply("alice", "a live reply", "written live", "written live")
    stage.remove("quinn verifies grace")
    stage.say("alice", "to the next century", createdAt="2148-01-01T00:00:00.000Z")
    rename_accounts(stage)
    post(
        stage.accounts["judy"].server,
        "com.atproto.server.deactivateAccount",
        {},
        token=stage.accounts["judy"].token,
    )
    stage.administer(
        "mallory",
        "com.atproto.admin.updateSubjectStatus",
        {
            "subject": {
                "$type": "com.atproto.admin.defs#repoRef",
                "did": stage.did("mallory"),
            },
            "takedown": {"applied": True, "ref": "1"},
        },
    )
    stage.administer(
        "niaj", "com.atproto.admin.deleteAccount", {"did": stage.did("niaj")}
    )
