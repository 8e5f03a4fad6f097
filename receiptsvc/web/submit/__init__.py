"""Checked submissions made into messages, each request at most once."""
