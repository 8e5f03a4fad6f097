"""From the gateway: the bytes of callbacks to receipts and replies."""
