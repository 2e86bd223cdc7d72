"""The long-running verbs, one file each: build the parts, run until told to stop."""
