"""Sound <-> tokens: the built-in codec, and those of others."""
