"""Health of the store: verification of everything derived, heartbeats of the workers."""
