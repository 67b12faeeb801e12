# SPDX-License-Identifier: Apache-2.0
"""Attaching as on kernels before 6.6, which have no TCX; and what is to be seen of it."""

import json
from pathlib import Path

import pytest

from tests import effort
from tests.net.conftest import End
from xdpprobe import links
from xdpprobe.attach import attach


def qdiscs(end: End) -> list[str]:
    """Kinds of the queueing disciplines of an interface."""
    said = end.namespace.run("tc", "-j", "qdisc", "show", "dev", end.interface)
    return [entry["kind"] for entry in json.loads(said.stdout)]


@pytest.fixture
def without_tcx(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that kernels before 6.6 take; clsact works the same on later ones, of which this
    machine's own kernel is one: guests need not all show it."""
    if effort.SHARE < 1 and not links.use_clsact():
        pytest.skip("this kernel has TCX")
    monkeypatch.setattr(links, "use_clsact", lambda: True)


def attach_here(end: End, bpffs: Path) -> None:
    """Attaches in this process, where `without_tcx` holds."""
    attach([end.interface], bpffs=bpffs, netns_name=end.namespace.name)
