"""The command `openvalle`, also as `python -m openvalle`: signals are heard before anything heavy is imported."""

from openvalle import stop


def main() -> None:
    """Entry point of the command `openvalle`."""
    stop.listen()
    from openvalle.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
