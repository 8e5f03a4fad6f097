"""What the API asks. Nothing is written here."""
