"""The simulated gateway, over real HTTP. Knows the wire and nothing of the service."""
