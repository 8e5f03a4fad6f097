"""Receives callbacks: checks the token, keeps the bytes, answers. No parsing, no look-ups, no vendor."""
