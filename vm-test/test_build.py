# SPDX-License-Identifier: Apache-2.0
"""The object that another machine's compiler makes: the tests of the data plane use the one that
was built where the guest was started, for BPF knows no architecture."""

import subprocess
from pathlib import Path

import pytest

from xdpprobe.loader import load_object
from xdpprobe.settings import PRIVACY, TUNNELS

PROJECT = Path(__file__).resolve().parent.parent
MOST_WORK = {"tunnels": TUNNELS.index("inner"), "privacy": PRIVACY.index("cut")}


@pytest.mark.parametrize("constants", [{}, MOST_WORK], ids=["plain", "most work"])
def test_an_object_built_here_loads(constants: dict[str, int], tmp_path: Path) -> None:
    built = tmp_path / "classify.bpf.o"
    subprocess.run([PROJECT / "tools/build.sh", built], check=True, timeout=500)
    with load_object(constants, flows=1024, names=1024, path=built) as loaded:
        assert len(loaded.array("flow_hot")) == 1024
