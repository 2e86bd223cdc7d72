"""State that accounts keep with the provider and that no repo holds.

The index can be rebuilt from the network, this cannot: it has a database of its own, in
which accounts are named by DID.
"""
