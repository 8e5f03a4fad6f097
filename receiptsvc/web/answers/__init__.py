"""Answers that the API and the ops page share, put together from the store and the state of the service."""
