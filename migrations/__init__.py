"""The migrations, and what several of them do alike."""
