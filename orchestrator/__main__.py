"""The `hdsweep` command from its first moment on: one that is interrupted while it is read in, or that
lacks a library, ends in a line as any other."""

import sys

INTERRUPTED, WRONG_INPUT = 130, 2
OURS = ("orchestrator", "trainables", "search_spaces")


def main() -> None:
    """Run the command."""
    try:
        from orchestrator.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if not name or name in OURS:
            raise
        print(
            f"error: the Python package `{name}` is not installed for {sys.executable}\n\n"
            "hint: install hdsweep again with what it needs, `pip install hdsweep` or `make install`",
            file=sys.stderr,
        )
        sys.exit(WRONG_INPUT)


if __name__ == "__main__":
    main()
