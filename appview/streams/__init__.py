"""What we verified, sent on: the stream of repos, and Jetstream."""
