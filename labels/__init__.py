"""Labels: subscriptions to labelers, and the labels that this service issues."""
