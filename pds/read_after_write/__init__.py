"""A user's newest records in the views of an indexer that has not seen them yet."""
