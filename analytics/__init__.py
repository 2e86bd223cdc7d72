"""Questions over the whole index: activity by time, and records for SQL."""
