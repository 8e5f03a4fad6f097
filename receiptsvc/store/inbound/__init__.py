"""Inbound messages: replies and the opt-outs among them."""
