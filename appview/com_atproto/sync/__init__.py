"""Methods of com.atproto.sync."""
