"""Messages and what was recorded of them. Only `transitions` writes a status."""
