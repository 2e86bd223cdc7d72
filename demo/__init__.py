"""The people of the demo network: who they are, what they write, whom they follow.

`plan_society` is pure and deterministic; `settle` (seeding) carries a plan out over
HTTP, on servers that know nothing of it.
"""
