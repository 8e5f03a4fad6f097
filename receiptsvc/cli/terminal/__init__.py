"""Shared by all commands: output, API errors, options, and the database."""
