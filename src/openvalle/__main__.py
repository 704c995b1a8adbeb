"""`python -m openvalle` is the command `openvalle`."""

from openvalle.cli.main import main

if __name__ == "__main__":
    main()
