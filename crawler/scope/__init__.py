"""The scope: members, admission, reconciliation."""
