"""``python -m custodes`` is ``custodes``."""

from custodes.cli import main

main()
