# SPDX-License-Identifier: Apache-2.0
"""How peers are written, one by one and as lists: what is meant, and what is refused and why."""

import contextlib
import io
import ipaddress
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpprobe import peer_file, peer_text
from xdpprobe.errors import DataError
from xdpprobe.peer_file import Said

LABELS = {"bittorrent": 700, "intranet": 7168}
Write = Callable[..., Path]


def shown(text: str) -> list[str]:
    return [peer_text.show(peer) for peer in peer_text.parse(text)]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("192.0.2.7", ["192.0.2.7"]),
        ("192.0.2.7:6881/udp", ["192.0.2.7:6881/udp"]),
        ("192.0.2.7:6881", ["192.0.2.7:6881/tcp", "192.0.2.7:6881/udp"]),
        ("2001:DB8::7", ["2001:db8::7"]),
        ("::ffff:192.0.2.7", ["192.0.2.7"]),
        ("[2001:db8::7]:443/tcp", ["[2001:db8::7]:443/tcp"]),
        ("192.0.2.0/24", ["192.0.2.0/24"]),
        ("0.0.0.0/0", ["0.0.0.0/0"]),
        ("192.0.2.7/32", ["192.0.2.7/32"]),
        ("2001:db8::/32", ["2001:db8::/32"]),
        ("2000::/3", ["2000::/3"]),
        ("2001:db8::7/128", ["2001:db8::7/128"]),
    ],
)
def test_what_is_meant(text: str, meant: list[str]) -> None:
    assert shown(text) == meant


def test_octets_are_those_of_the_kernels_key() -> None:
    (peer,) = peer_text.parse("192.0.2.7:6881/udp")
    mapped = bytes(10) + b"\xff\xff" + bytes((192, 0, 2, 7))
    assert peer == mapped + (6881).to_bytes(2, "big") + bytes((17, 0))
    assert peer_text.parse("192.0.2.7") == [mapped + bytes(4)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is neither an address nor a prefix"),
        ("example.com", "is neither an address nor a prefix"),
        ("192.0.2", "is neither an address nor a prefix"),
        ("192.0.2.07", "is neither an address nor a prefix"),
        ("192.0.2.7 ", "is neither an address nor a prefix"),
        ("192.0.2.7\0", "is neither an address nor a prefix"),
        ("fe80::1%eth0", "is neither an address nor a prefix"),
        ("192.0.2.7:0", "'0' is no port"),
        ("192.0.2.7:65536", "'65536' is no port"),
        ("192.0.2.7:http", "'http' is no port"),
        ("192.0.2.7:" + "9" * 5000, "is no port"),
        ("192.0.2.7:53/sctp", "'sctp' is no protocol"),
        ("192.0.2.7/udp", "has a protocol and no port"),
        ("2001:db8::7/udp", "has a protocol and no port"),
        ("[2001:db8::7]", "is no address with a port"),
        ("[192.0.2.7]:53", "is no address with a port"),
        ("[2001:db8::7:53", "is no address with a port"),
        ("192.0.2.1/24", "is not how that prefix is written"),
        ("2001:DB8::/32", "is not how that prefix is written"),
        ("192.0.2.0/024", "is not how that prefix is written"),
        ("192.0.2.0/33", "has more than 32 bits"),
        ("2001:db8::/129", "has more than 128 bits"),
        ("192.0.2.0/", "is no prefix"),
        ("192.0.2.0/x", "is no prefix"),
        ("::/0", "takes in the IPv4 addresses"),
        ("::/80", "takes in the IPv4 addresses"),
    ],
)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(peer_text.Mistake) as caught:
        peer_text.parse(text)
    assert why in caught.value.why


@given(st.ip_addresses(), st.integers(1, 65535), st.sampled_from(["tcp", "udp"]))
def test_addresses_are_read_as_the_standard_library_does(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, l4: str
) -> None:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return
    wide = isinstance(address, ipaddress.IPv6Address)
    for text in (str(address), f"[{address}]:{port}/{l4}" if wide else f"{address}:{port}/{l4}"):
        (peer,) = peer_text.parse(text)
        assert peer[:16].endswith(address.packed)
        assert peer_text.parse(peer_text.show(peer)) == [peer]


@given(st.ip_addresses(), st.data())
def test_prefixes_are_read_as_the_standard_library_does(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, data: st.DataObject
) -> None:
    bits = data.draw(st.integers(0, address.max_prefixlen))
    network = ipaddress.ip_network((address, bits), strict=False)
    if network.version == 6 and network.overlaps(ipaddress.ip_network("::ffff:0:0/96")):
        return
    peer = peer_text.parse_prefix(str(network))
    assert peer_text.is_prefix(peer)
    assert peer[:16].endswith(network.network_address.packed)
    assert peer_text.show(peer) == str(network)


@given(st.text(max_size=60))
def test_whatever_is_written_is_a_peer_or_a_mistake(text: str) -> None:
    with contextlib.suppress(peer_text.Mistake):
        assert all(len(peer) == peer_text.SIZE for peer in peer_text.parse(text))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(data: str | bytes) -> Path:
        path = tmp_path / "peers.txt"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return put


def read(path: Path, label: str = "", seconds: int = 0, most: int = 100) -> dict[str, Said]:
    found = peer_file.read(path, LABELS.get, label, seconds, most)
    return {peer_text.show(peer): said for peer, said in found.items()}


def test_a_list(write: Write) -> None:
    path = write(
        "# comment, ünïcode\n"
        "\n"
        "192.0.2.7:6881/udp\tbittorrent   3600 # until then\r\n"
        "192.0.2.7 intranet\n"
        "198.51.100.0/24 intranet 0\n"
        "192.0.2.8 bittorrent\n"
        "192.0.2.8 bittorrent"
    )
    assert read(path, seconds=60) == {
        "192.0.2.7:6881/udp": Said(700, 3600),
        "192.0.2.7": Said(7168, 60),
        "198.51.100.0/24": Said(7168, 0),
        "192.0.2.8": Said(700, 60),
    }


def test_a_list_of_bare_addresses(write: Write) -> None:
    assert read(write("192.0.2.7\n192.0.2.8 bittorrent\n"), "intranet") == {
        "192.0.2.7": Said(7168, 0),
        "192.0.2.8": Said(700, 0),
    }


@pytest.mark.parametrize(
    ("data", "line", "why"),
    [
        ("192.0.2.7 intranet\n192.0.2 intranet\n", 2, "'192.0.2' is neither an address"),
        ("192.0.2.7\n", 1, "names no application"),
        ("\n\n192.0.2.7 nobody\n", 3, "no application or protocol is called 'nobody'"),
        ("192.0.2.7 intranet soon\n", 1, "'soon' is no number of seconds"),
        ("192.0.2.7 intranet -1\n", 1, "'-1' is no number of seconds"),
        ("192.0.2.7 intranet 999999999\n", 1, "is no number of seconds"),
        ("192.0.2.7 intranet 1 2\n", 1, "4 words"),
        ("192.0.2.7 intranet\n192.0.2.7 bittorrent\n", 2, "192.0.2.7 stands in a line before"),
        ("192.0.2.7 intr\u00e4net\n", 1, "is not ASCII"),
        (b"\xff\xfe\n", 1, "is not ASCII"),
        ("# " + "x" * 1000 + "\n", 1, "is longer than 1000 bytes"),
        ("x" * 5000, 1, "is longer than 1000 bytes"),
        ("".join(f"10.0.0.{i} intranet\n" for i in range(101)), 101, "more than 100 peers"),
    ],
)
def test_the_first_mistake_in_a_list(write: Write, data: str | bytes, line: int, why: str) -> None:
    path = write(data)
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.where == f"{path}:{line}"
    assert why in caught.value.why
    assert "\n" not in str(caught.value)


def test_an_own_application_is_explained(write: Write) -> None:
    with pytest.raises(DataError) as caught:
        read(write("192.0.2.7 mine\n"))
    assert "write an [[app]] with an id from 7168 to 8191" in caught.value.hint


def test_a_list_has_an_end(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_file, "FILE_LIMIT", 100)
    with pytest.raises(DataError, match=r"peers\.txt:101: is larger than 100 bytes"):
        read(write("\n" * 200))


def test_what_is_no_list(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, why in (
        (fifo, "is no regular file"),
        (tmp_path, "is a directory"),
        (tmp_path / "none", "no such file or directory"),
    ):
        with pytest.raises(DataError, match=why) as caught:
            read(path)
        assert caught.value.where == str(path)


def test_what_is_written_is_read_again(write: Write) -> None:
    peers = [
        ("192.0.2.7:6881/udp", "bittorrent", 60),
        ("192.0.2.7", "intranet", 0),
        ("2001:db8::/32", "intranet", 1),
    ]
    out = io.StringIO()
    peer_file.write(((peer_text.parse(text)[0], *said) for text, *said in peers), out)
    assert out.getvalue().splitlines()[0] == "192.0.2.7:6881/udp bittorrent 60"
    assert read(write(out.getvalue())) == {
        text: Said(LABELS[label], seconds) for text, label, seconds in peers
    }
