# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe peers` as far as it goes without a probe; the rest is in tests/net/test_peers.py."""

import pytest

from xdpprobe.cli import main


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("add", "PEER"),
        ("add 192.0.2.7", "--label"),
        ("add 192.0.2 --label intranet", "'192.0.2' is neither an address nor a prefix"),
        ("add 192.0.2.7 --label intranet --age -1", "'-1' is not a number"),
        ("add 192.0.2.7 --label intranet --age 999999999", "is more than 315360000 seconds"),
        ("import", "FILE"),
        ("export file", "file"),
        ("list --limit x", "'x' is not a number"),
        ("forget", "forget"),
    ],
)
def test_wrong_use(line: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peers", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert why in err
