"""The command line: `openvalle`, a command a function."""
