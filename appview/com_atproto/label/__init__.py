"""Methods of com.atproto.label."""
