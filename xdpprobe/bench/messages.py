# SPDX-License-Identifier: Apache-2.0
"""What clients say first, as long as real ones say it: TLS, HTTP and DNS, for the name given.

And the answer that DNS gives, and a STUN request. Sources: RFC 8446 (ClientHello), 6066
(server_name), 7685 (padding), draft-ietf-tls-ecdhe-mlkem (the length of a post-quantum key share),
9112 (HTTP/1.1), 1035 (DNS), 8489 (STUN).
"""

import struct
from collections.abc import Sequence
from random import Random

RECORD_HEADER = 5  # bytes before a hello, which QUIC does without
CLASSIC_HELLO = 517  # bytes: what browsers padded a hello to (RFC 7685), with the record's header
MODERN_HELLO = 1800  # bytes: a browser's with X25519MLKEM768
REQUEST = 400  # bytes

_SERVER_NAME, _GROUPS, _SIGNATURES, _ALPN, _PADDING, _VERSIONS, _SHARES = 0, 10, 13, 16, 21, 43, 51
_X25519, _X25519MLKEM768 = (29, 32), (4588, 1216)  # group, bytes of a share
_SUITES = (0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8)


def _vector(body: bytes, width: int = 2) -> bytes:
    return len(body).to_bytes(width, "big") + body


def _extension(number: int, body: bytes) -> bytes:
    return struct.pack(">H", number) + _vector(body)


def _record(extensions: bytes, random: Random) -> bytes:
    suites = b"".join(struct.pack(">H", suite) for suite in _SUITES)
    body = b"\x03\x03" + random.randbytes(32) + _vector(random.randbytes(32), 1)
    body += _vector(suites) + b"\x01\x00" + _vector(extensions)
    return b"\x16\x03\x01" + _vector(b"\x01" + _vector(body, 3))


def _hello(name: str, groups: Sequence[tuple[int, int]], size: int, name_last: bool) -> bytes:
    """A record with a ClientHello, padded to `size` bytes."""
    random = Random(name)
    shares = b"".join(struct.pack(">H", g) + _vector(random.randbytes(n)) for g, n in groups)
    numbers = b"".join(struct.pack(">H", group) for group, _ in groups)
    server_name = _extension(_SERVER_NAME, _vector(b"\0" + _vector(name.encode())))
    others = (
        _extension(23, b"")
        + _extension(_GROUPS, _vector(numbers))
        + _extension(_ALPN, _vector(_vector(b"h2", 1) + _vector(b"http/1.1", 1)))
        + _extension(_SIGNATURES, _vector(bytes.fromhex("0403080404010503080505010806")))
        + _extension(_SHARES, _vector(shares))
        + _extension(_VERSIONS, _vector(b"\x03\x04\x03\x03", 1))
    )
    if not name_last:
        plain = server_name + others
        room = size - len(_record(plain, random)) - 4
        return _record(plain + _extension(_PADDING, bytes(room)), Random(name))
    room = size - len(_record(others + server_name, random)) - 4
    # As much before the name as an encrypted hello's or a session ticket's extension takes.
    return _record(others + _extension(35, random.randbytes(room)) + server_name, Random(name))


def classic_hello(name: str) -> bytes:
    """517 bytes, the name first, as a client without post-quantum key shares sends it."""
    return _hello(name, [_X25519], CLASSIC_HELLO, name_last=False)


def modern_hello(name: str) -> bytes:
    """1,800 bytes, the name last: browsers shuffle, and this is where it costs most."""
    return _hello(name, [_X25519MLKEM768, _X25519], MODERN_HELLO, name_last=True)


def http_request(name: str) -> bytes:
    """400 bytes of GET, as a browser sends it."""
    head = (
        f"GET /index.html HTTP/1.1\r\nHost: {name}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)"
        " AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n"
        "Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\nCookie: id="
    )
    end = "; a=b\r\n\r\n"
    return (head + "0" * (REQUEST - len(head) - len(end)) + end).encode()


def dns_query(name: str) -> bytes:
    """A query for the name's address, of 128 bytes."""
    return _dns(name, 0x0100, (), 128)


def dns_answer(name: str) -> bytes:
    """The answer to `dns_query`, of 192 bytes: an alias, and that alias's two addresses."""
    asked, edge = 0xC00C, 0xC000 + 12 + len(name) + 6 + 12  # pointers: the question, the alias
    alias = _resource(asked, 5, b"\4edge" + asked.to_bytes(2, "big"))
    return _dns(name, 0x8180, (alias, *(_resource(edge, 1, each) for each in addresses(name))), 192)


def addresses(name: str) -> list[bytes]:
    """The two that `dns_answer` gives (of RFC 5737's)."""
    return [bytes((203, 0, 113, octet)) for octet in Random(name).sample(range(1, 255), 2)]


def _resource(owner: int, kind: int, data: bytes) -> bytes:
    """A record that lasts for five minutes (RFC 1035, 4.1.3)."""
    return struct.pack(">HHHIH", owner, kind, 1, 300, len(data)) + data


def _dns(name: str, flags: int, records: Sequence[bytes], size: int) -> bytes:
    """A message about the name's address. As long as the longest of its kind: at the end stands an
    EDNS option of zeros (RFC 7830)."""
    labels = b"".join(_vector(label.encode(), 1) for label in name.split("."))
    head = struct.pack(">HHHHHH", 0x1234, flags, 1, len(records), 0, 1)
    body = head + labels + b"\0" + struct.pack(">HH", 1, 1) + b"".join(records)
    padding = bytes(size - len(body) - 15)
    option = struct.pack(">HH", 12, len(padding)) + padding
    return body + b"\0" + struct.pack(">HHIH", 41, 1232, 0, len(option)) + option


def stun_request() -> bytes:
    """A binding request (RFC 8489, 5) as a browser's call sends it: with a user name and a
    priority, 100 bytes."""
    attributes = struct.pack(">HH", 6, 9) + b"abcd:efgh".ljust(12, b"\0")
    attributes += struct.pack(">HHI", 0x24, 4, 0x6E7F1EFF)
    attributes += struct.pack(">HH", 8, 20) + Random(1).randbytes(20)
    attributes += struct.pack(">HH", 0x8022, 28) + bytes(28)
    return (
        struct.pack(">HHI", 1, len(attributes), 0x2112A442) + Random(2).randbytes(12) + attributes
    )
