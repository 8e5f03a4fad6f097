"""The gunicorn worker and its HTTP server: an event loop that answers callbacks, and threads for the rest."""
