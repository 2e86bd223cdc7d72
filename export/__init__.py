"""The index as a folder of open files that follows it, deletions included."""
