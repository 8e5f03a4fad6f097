"""The callbacks' way in: check the token, keep the bytes, answer. No parsing, no look-ups, no vendor."""
