# SPDX-License-Identifier: Apache-2.0
"""JA4 of known hellos. The fingerprints are those that FoxIO published with the method."""

import pytest

from xdpprobe.hellos import Hello, alpn_ends

CHROME_CIPHERS = (
    *(0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014),
    *(0x009C, 0x009D, 0x002F, 0x0035),
)
CHROME_EXTENSIONS = (
    *(0x001B, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002D, 0x000D, 0x0005, 0x0023, 0x0012),
    *(0x002B, 0xFF01, 0x000B, 0x000A, 0x0015),
)
CHROME_SIGNATURES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
CHROME = "t13d1516h2_8daaf6152771_e5627efa2ab1"


def chrome(**changes: object) -> Hello:
    given = {
        "version": 0x0304,
        "named": True,
        "ciphers": CHROME_CIPHERS,
        "extensions": CHROME_EXTENSIONS,
        "signatures": CHROME_SIGNATURES,
        "alpn": b"h2",
        "alpn_length": 2,
    }
    return Hello(**{**given, **changes})  # type: ignore[arg-type]


def test_the_published_fingerprint_of_chrome() -> None:
    assert chrome().ja4("t") == CHROME


def test_chrome_of_2025() -> None:
    """As a public service for looking at one's own hello reported it, with the lists."""
    extensions = (
        *(0x002D, 0x0033, 0x0010, 0xFE0D, 0x0017, 0x44CD, 0x0000, 0x000B, 0x000A, 0x002B),
        *(0xFF01, 0x0023, 0x0012, 0x0005, 0x000D, 0x001B),
    )
    assert chrome(extensions=extensions).ja4("t") == "t13d1516h2_8daaf6152771_d8a2da3f94cd"


def test_the_order_of_ciphers_and_extensions_does_not_count() -> None:
    turned = chrome(ciphers=CHROME_CIPHERS[::-1], extensions=CHROME_EXTENSIONS[::-1])
    assert turned.ja4("t") == CHROME
    assert chrome(signatures=CHROME_SIGNATURES[::-1]).ja4("t") != CHROME


@pytest.mark.parametrize(
    ("changes", "head"),
    [
        ({"named": False, "alpn": b"", "alpn_length": 0}, "t13i151600"),
        ({"version": 0x0303, "alpn": b"http/1.1", "alpn_length": 8}, "t12d1516h1"),
        ({"version": 0x0300}, "ts3d1516h2"),
        ({"version": 0x7F12}, "t00d1516h2"),
        ({"ciphers": tuple(range(120))}, "t13d9916h2"),
    ],
)
def test_what_the_first_part_says(changes: dict[str, object], head: str) -> None:
    found = chrome(**changes).ja4("t")
    assert found is not None
    assert found.split("_")[0] == head


def test_a_hello_without_lists() -> None:
    bare = Hello(0x0301, False, (), (), (), b"", 0)
    assert bare.ja4("t") == "t10i000000_000000000000_000000000000"


def test_without_signature_schemes_nothing_follows_the_extensions() -> None:
    """The published example of a hash over extensions alone."""
    found = chrome(signatures=()).ja4("q")
    assert found is not None
    assert found.startswith("q13d1516h2_8daaf6152771_")
    assert found.endswith("_6d807ffa2a79")


@pytest.mark.parametrize(
    ("protocol", "ends"),
    [
        (b"", "00"),
        (b"h2", "h2"),
        (b"h", "hh"),
        (b"http/1.1", "h1"),
        (b"\xab", "ab"),
        (b"\xab\xcd", "ad"),
        (b"\x30\xab", "3b"),
        (b"\x30\x31\xab\xcd", "3d"),
        (b"\x30\xab\xcd\x31", "01"),
    ],
)
def test_the_ends_of_alpn(protocol: bytes, ends: str) -> None:
    assert alpn_ends(protocol) == ends


def test_a_protocol_longer_than_is_kept_has_no_last_character() -> None:
    assert chrome(alpn=b"x" * 32, alpn_length=40).ja4("t") is None
