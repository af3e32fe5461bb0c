"""The command, also as ``python -m custodes``."""

import atexit
import gc
import os


def main() -> None:
    """The entry point."""
    # What is loaded stays for good: the collector need not go through it dozens of times meanwhile (the command line
    # turns it on when all is there), nor take it apart when the process ends.
    gc.disable()
    atexit.register(gc.freeze)
    # pydantic would look through all that is installed for plugins of its own.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from custodes.cli import main as run  # noqa: PLC0415 - only now

    run()


if __name__ == "__main__":
    main()
