"""The message record: transitions and what is derived from them. Only `transitions` writes a status."""
