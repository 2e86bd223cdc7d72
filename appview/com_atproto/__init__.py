"""Methods of com.atproto that the read side answers."""
