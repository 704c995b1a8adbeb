"""Listening tests with people: made from folders of clips, taken in a browser, collected with statistics."""
