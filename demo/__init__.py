"""The demo network: its accounts, their records, and the seeding over HTTP.

`plan_network` is pure and deterministic; `seed_network` writes a plan to real servers.
"""
