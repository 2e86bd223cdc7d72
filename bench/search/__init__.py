"""Search of the postgres engine over many made-up posts."""
