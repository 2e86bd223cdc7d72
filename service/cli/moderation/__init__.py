"""Commands of moderation: takedowns, labels, reports."""
