"""On the way to the gateway: attempts, the send gate, idempotency keys, suppressions."""
