"""One module a collection, all of the same shape (see source.Collection)."""
