"""The views, by noun: each says who may call it, what it takes and gives, and asks the store."""
