"""Whether the store is right, and which processes are at work."""
