"""Callbacks from the gateway: bytes to receipts and replies."""
