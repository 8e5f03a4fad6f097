"""What `make bench-…` runs: measurements of the service against alternatives, on this machine. Nothing imports it."""
