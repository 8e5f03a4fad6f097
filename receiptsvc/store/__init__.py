"""The database: tables, and functions that take a session and never commit."""
