"""`send --file`: parses a file of messages, sends it in chunks, and resumes after an interruption."""
