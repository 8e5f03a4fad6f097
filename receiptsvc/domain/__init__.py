"""What the words mean. Standard library only: no vendor, no database, no web."""
