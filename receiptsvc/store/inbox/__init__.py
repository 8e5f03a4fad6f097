"""The inbox of kept callbacks: write, claim, settle, park, count, list. What they say is not read here."""
