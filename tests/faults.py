"""Faults of rules as a user reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from custodes.config import FaultsError
from custodes.rules import load_rules


def faults_of(path: Path) -> list[str]:
    """Returns the faults of a rule file that cannot be loaded."""
    with pytest.raises(FaultsError) as caught:
        load_rules([path])
    return [str(fault) for fault in caught.value.faults]
