"""What the API reads: messages, conversations, contacts, statistics, exports. Nothing is written here."""
