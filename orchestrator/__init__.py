"""Who runs trials, when to stop, and where it is written."""
