"""Commands of the group `bigworld feed`."""
