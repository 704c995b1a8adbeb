"""Files of books -> chapters: a module for each format, and the door in `load`."""
