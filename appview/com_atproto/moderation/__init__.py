"""Methods of com.atproto.moderation."""
