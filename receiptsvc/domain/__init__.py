"""The rules of the field, as pure functions and values: standard library and phonenumbers only, no vendor, no I/O."""
