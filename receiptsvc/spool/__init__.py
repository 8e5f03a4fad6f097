"""Callbacks that the database could not take: written to files, counted, and moved to the database later."""
