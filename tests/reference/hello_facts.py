# SPDX-License-Identifier: Apache-2.0
"""What a whole ClientHello says beyond the name, and the text that JA4 writes of it.

Sources: RFC 8446 section 4.1.2, RFC 8701 (GREASE), RFC 7301 (ALPN), RFC 9849 (ECH); JA4 as FoxIO
describes it. Written apart from xdpprobe/hellos.py, which tests hold against it.
"""

import hashlib
import struct
from collections.abc import Iterator

GREASE = {0x0A0A + 0x1010 * n for n in range(16)}
TLS = {0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3"}
TLS |= {0xFEFC: "d3", 0xFEFD: "d2", 0xFEFF: "d1"}  # of DTLS, whose numbers count down


def _take(data: bytes, width: int) -> tuple[bytes, bytes]:
    """What a length of `width` bytes counts, and the rest."""
    length = int.from_bytes(data[:width], "big")
    assert width + length <= len(data)
    return data[width : width + length], data[width + length :]


def _numbers(data: bytes) -> list[int]:
    whole = data[: len(data) // 2 * 2]
    return [n for (n,) in struct.iter_unpack(">H", whole) if n not in GREASE]


def extensions(message: bytes) -> tuple[int, list[int], list[tuple[int, bytes]]]:
    """Version, cipher suites and extensions of a handshake message."""
    body, _ = _take(message[1:], 3)
    _, rest = _take(body[34:], 1)
    suites, rest = _take(rest, 2)
    _, rest = _take(rest, 1)
    found = []
    if rest:
        rest, _ = _take(rest, 2)
    while rest:
        data, after = _take(rest[2:], 2)
        found.append((int.from_bytes(rest[:2], "big"), data))
        rest = after
    return int.from_bytes(body[:2], "big"), _numbers(suites), found


def _ends(protocol: bytes) -> str:
    text = protocol.decode("latin-1")
    if text[0].isascii() and text[0].isalnum() and text[-1].isascii() and text[-1].isalnum():
        return text[0] + text[-1]
    return protocol.hex()[0] + protocol.hex()[-1]


def first_protocol(found: list[tuple[int, bytes]]) -> bytes:
    """Of ALPN; empty where there is none."""
    offered = [data for kind, data in found if kind == 16][:1]
    return _take(_take(offered[0], 2)[0], 1)[0] if offered and offered[0] else b""


def _hash(parts: list[str]) -> str:
    text = "_".join(parts)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:12] if text else "0" * 12


def _hexadecimal(numbers: Iterator[int]) -> str:
    return ",".join(f"{n:04x}" for n in numbers)


def _later(version: int) -> int:
    """DTLS counts its versions down (RFC 6347, 4.1)."""
    return version ^ 0xFF if version >> 8 == 0xFE else version


def ja4(message: bytes, transport: str = "t") -> str:
    """The fingerprint of a handshake message."""
    version, suites, found = extensions(message)
    offered = [n for kind, data in found if kind == 43 for n in _numbers(_take(data, 1)[0])]
    kinds = [kind for kind, _ in found if kind not in GREASE]
    schemes = [n for kind, data in found if kind == 13 for n in _numbers(_take(data, 2)[0])]
    protocol = first_protocol(found)
    head = f"{transport}{TLS.get(max(offered, key=_later, default=version), '00')}"
    head += f"{'d' if 0 in kinds else 'i'}{min(len(suites), 99):02}{min(len(kinds), 99):02}"
    head += _ends(protocol) if protocol else "00"
    listed = [_hexadecimal(iter(sorted(set_aside(kinds))))]
    if schemes:
        listed.append(_hexadecimal(iter(schemes)))
    ciphers = _hash([_hexadecimal(iter(sorted(suites)))] if suites else [])
    return f"{head}_{ciphers}_{_hash(listed if kinds else [])}"


def set_aside(kinds: list[int]) -> list[int]:
    """The extensions that count in the last part."""
    return [kind for kind in kinds if kind not in (0, 16)]


def ech(message: bytes) -> bool:
    """Has it an outer hello's extension?"""
    return any(kind == 0xFE0D and data[:1] == b"\0" for kind, data in extensions(message)[2])
