# SPDX-License-Identifier: Apache-2.0
"""What all tests share: the same examples every run, and a word for what needs root."""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests import effort, shortcuts

ROOMS_OF_ROOT = {"bpf", "net"}

# Deterministic, and no database of earlier failures in the tree.
settings.register_profile("xdpprobe", derandomize=True, database=None, deadline=None)
settings.load_profile("xdpprobe")

# What a shell starts in the background ignores it, as does all that is started from there.
signal.signal(signal.SIGINT, signal.default_int_handler)

if effort.SHARE < 1:
    shortcuts.take()


def pytest_collection_finish() -> None:
    """What there is by now stays: the garbage collector need not look at it again and again, which
    took a twentieth of a guest's time."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what only root can run, with that as the reason."""
    if os.geteuid() == 0:
        return
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in ROOMS_OF_ROOT:
            item.add_marker(pytest.mark.skip(reason="needs root: sudo make test"))
