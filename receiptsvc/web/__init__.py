"""The Flask application: the query API and its errors, schemas and keys."""
