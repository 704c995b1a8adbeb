"""From prepared tokens to a packed, judged model in a given time."""
