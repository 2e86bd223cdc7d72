"""Long-running commands, a module each."""
