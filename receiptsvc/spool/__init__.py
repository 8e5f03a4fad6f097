"""Callbacks that the database could not take: written to files, counted, and handed over later."""
