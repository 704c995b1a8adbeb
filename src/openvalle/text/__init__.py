"""Text in, phone symbols out: normalisation, pronunciation, long-text chunks; needs no torch, no network."""
