"""The command, also as ``python -m custodes``."""

import atexit
import gc
import os


def main() -> None:
    """The entry point."""
    # Imported modules stay until the end, so garbage collection during import and at exit is wasted time; the command
    # line enables the collector after the import.
    gc.disable()
    atexit.register(gc.freeze)
    # Prevents pydantic from searching all installed packages for plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from custodes.cli import main as run  # noqa: PLC0415 - only now

    run()


if __name__ == "__main__":
    main()
