"""Methods of app.bsky.notification."""
