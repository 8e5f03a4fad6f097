"""What every endpoint shares: keys, parsing, errors, caching."""
