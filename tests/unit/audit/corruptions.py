"""Statements that corrupt the index."""

from __future__ import annotations

from indexer_world import LIKE

A = "(SELECT id FROM actor WHERE did = %(did)s)"
ONE = f"actor = {A} AND rkey = (SELECT max(rkey) FROM post WHERE actor = {A})"
LIKE_ID = f"(SELECT id FROM collection WHERE nsid = '{LIKE}')"
CORRUPTIONS = {
    "row missing": f"DELETE FROM record WHERE {ONE}",
    "edge missing": f"DELETE FROM record WHERE actor = {A} AND collection = {LIKE_ID}",
    "row changed": f"UPDATE record SET value = %(other)s WHERE {ONE}",
    "row damaged": rf"UPDATE record SET value = '\x01ffff00ff' WHERE {ONE}",
    "row emptied": rf"UPDATE record SET value = '\x' WHERE {ONE}",
    "row of a lost dictionary": rf"UPDATE record SET value = '\x7700' WHERE {ONE}",
    "extra row": f"INSERT INTO record SELECT actor, collection, rkey + 7, value"
    f" FROM record WHERE {ONE}",
    "row moved": f"UPDATE record SET rkey = rkey + 7 WHERE {ONE}",
    "dropped record forgotten": f"INSERT INTO dropped_record VALUES"
    rf" ({A}, '\x00', '\x6162632f64', %(cid)s, 'x')",
    "wrong root": f"UPDATE repo SET data = %(cid)s WHERE actor = {A}",
    "commit of another": f"UPDATE repo SET commit = (SELECT commit FROM repo"
    f" WHERE actor <> {A} LIMIT 1) WHERE actor = {A}",
    "commit damaged": f"UPDATE repo SET commit = '\\x00' WHERE actor = {A}",
    "wrong rev": f"UPDATE repo SET rev = '3zzzzzzzzzzzz' WHERE actor = {A}",
}
