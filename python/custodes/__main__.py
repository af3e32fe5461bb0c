"""The command, also as ``python -m custodes``."""

import gc
import os


def main() -> None:
    """The entry point."""
    # What starting up makes stays for good: by default, the collector would go through all of it dozens of times.
    gc.set_threshold(50_000, 20, 20)
    # pydantic would look through all that is installed for plugins of its own.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from custodes.cli import main as run  # noqa: PLC0415 - only now

    run()


if __name__ == "__main__":
    main()
