"""Kept callbacks: written, queued, parked, counted, listed."""
