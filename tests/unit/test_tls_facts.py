# SPDX-License-Identifier: Apache-2.0
"""What a hello says, from the tables to filters and to the screen."""

import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from tests.unit import view_samples as samples
from xdpprobe import flows
from xdpprobe.abi import load_abi
from xdpprobe.errors import UsageError
from xdpprobe.filter import Filter
from xdpprobe.records import of_records
from xdpprobe.snapshot import Snapshot
from xdpprobe.views.tables import tls_table


def hello(number: int, alpn: bytes) -> np.ndarray:
    """An entry of one cipher and one extension beside the server's name."""
    entry = np.zeros(1, load_abi().dtype("hello_entry"))
    entry["hash"], entry["version"], entry["named"] = number, 0x0304, 1
    entry["ciphers"], entry["extensions"], entry["alpn_length"] = 2, 2, len(alpn)
    entry["cipher"].view(">u2")[0, :2] = 0x0A0A, 0x1301
    entry["extension"].view(">u2")[0, :2] = 0, 43
    entry["alpn"][0, : len(alpn)] = np.frombuffer(alpn, np.uint8)
    return entry


@pytest.fixture
def table() -> Snapshot:
    """Three flows: TLS with h2, QUIC with h3 and ECH, and one without a hello."""
    snapshot = samples.empty()
    for index, port in enumerate((51001, 51002, 51003)):
        samples.put(snapshot, index, sport=port)
    flags = snapshot.enums["tls_flag"]
    snapshot.hot["protocol"][:3] = 1, 5, 1
    snapshot.cold["hello"][:2] = 77, 78
    snapshot.cold["tls_version"][:2] = 0x0304, 0x7F1C
    snapshot.cold["tls_flags"][:2] = (
        flags["TLS_ECH_GREASE"] | flags["TLS_RESUMED"],
        flags["TLS_ECH"] | flags["TLS_SNI_MISMATCH"],
    )
    return replace(snapshot, hellos=np.concatenate((hello(77, b"h2"), hello(78, b"h\x1b"))))


def ports(snapshot: Snapshot, text: str) -> list[int]:
    rows = Filter(text).rows(snapshot)
    return sorted(flow.sport for flow in flows.decode(snapshot, rows))


def test_rows(table: Snapshot) -> None:
    first, second, third = flows.decode(table, np.arange(3))
    assert first.ja4 is not None
    assert second.ja4 is not None
    digits = hashlib.sha256(b"1301").hexdigest()[:12]
    assert first.ja4.startswith(f"t13d0102h2_{digits}_")
    assert second.ja4 == "q13d01026b" + first.ja4[10:]
    assert (first.alpn, first.ech) == ("h2", "grease")
    assert (second.alpn, second.ech) == ("h\\x1b", "real")
    assert (third.alpn, third.ja4, third.ech) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ja4:t13*", [51001]),
        ("ja4:/^q/", [51002]),
        ("ja4:*", [51001, 51002]),
        ("alpn:h2", [51001]),
        ("alpn:H*", [51001, 51002]),
        ("ech:real", [51002]),
        ("ech:grease,none", [51001, 51003]),
        ("not ech:none", [51001, 51002]),
    ],
)
def test_filters(table: Snapshot, text: str, expected: list[int]) -> None:
    assert ports(table, text) == expected


def test_a_word_that_ech_does_not_know() -> None:
    with pytest.raises(UsageError, match="ech cannot be 'maybe'"):
        Filter("ech:maybe")


def test_a_hello_that_left_the_table(table: Snapshot) -> None:
    assert ports(replace(table, hellos=None), "ja4:*") == []


def test_records_tell_it_too(table: Snapshot) -> None:
    records = np.zeros(1, load_abi().dtype("flow_record"))
    records["hot"], records["cold"] = table.hot[0], table.cold[0]
    (flow,) = flows.decode(of_records(records, table), np.arange(1))
    assert flow.alpn == "h2"


def test_the_table_of_tls(table: Snapshot) -> None:
    out = io.StringIO()
    Console(file=out, width=100).print(tls_table(flows.decode(table, np.arange(3))))
    title, *lines = out.getvalue().splitlines()
    assert title.split() == ["FROM", "TO", "VERSION", "MARK", "ALPN", "ECH", "JA4"]
    first, second, third = (line.split()[2:] for line in lines)
    assert first[:4] == ["1.3", "resumed", "h2", "grease"]
    assert first[4].startswith("t13d0102h2_")
    assert second[:2] == ["0x7f1c", "mismatch"]
    assert third == []


@pytest.mark.parametrize(("width", "last"), [(80, "ECH"), (86, "ECH"), (87, "JA4")])
def test_a_narrow_table_of_tls(table: Snapshot, width: int, last: str) -> None:
    out = io.StringIO()
    Console(file=out, width=width).print(tls_table(flows.decode(table, np.arange(3))))
    assert out.getvalue().splitlines()[0].split()[-1] == last
