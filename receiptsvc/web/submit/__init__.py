"""Turns checked submissions into messages, each idempotent request at most once."""
