"""One file a family of methods, each with its `METHODS`: NSID to handler."""
