"""Brings the database to this release's tables. Several processes may try at once: one does it, the others wait."""
