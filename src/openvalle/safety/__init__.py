"""What protects people from misuse: marks in the sound, tags in the file, records of consent."""
