"""`send --file`: parse a file of messages, send it in parts, go on after an interruption."""
