"""Other systems on the same list: a command, a folder of clips, a speech endpoint, other libraries' models."""
