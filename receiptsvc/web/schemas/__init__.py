"""The API's request and response schemas, one module a noun. No schema queries the database."""
