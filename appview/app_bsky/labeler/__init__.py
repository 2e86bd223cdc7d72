"""Methods of app.bsky.labeler."""
