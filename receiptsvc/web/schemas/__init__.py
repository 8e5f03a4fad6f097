"""The shapes of what the API takes and gives, by noun. No schema asks the database."""
