"""What every command shares: output, refusals, options, the database."""
