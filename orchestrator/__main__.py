"""The `hdsweep` command from its first moment on: also one that is interrupted while it is read in."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command."""
    try:
        from orchestrator.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
