"""A process for the work that tests kill, started once: its imports take seconds."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.sae_core.killable import worker


@pytest.fixture(scope="session")
def killable() -> Iterator[subprocess.Popen[str]]:
    """See `killable.start` and `killable.end`."""
    with worker() as process:
        yield process
