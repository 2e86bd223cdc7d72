"""One file an algorithm, each with one `FEED`."""
