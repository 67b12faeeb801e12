# SPDX-License-Identifier: Apache-2.0
"""How peers are written: an address, an address with a port, or a prefix.

    192.0.2.7               2001:db8::7              the address
    192.0.2.7:6881/udp      [2001:db8::7]:6881/udp   with a port; without /tcp or /udp: both
    192.0.2.0/24            2001:db8::/32            all that begin so

In the program a peer is 20 bytes: the address (IPv4 v4-mapped), the port, the IP protocol number,
and of a prefix its length plus 1, else 0. So begins struct peer_slot of bpf/abi_knowledge.h.
"""

import socket

SIZE = 20
MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2
_MAPPED_BITS = 8 * len(MAPPED)
_L4 = {"tcp": 6, "udp": 17}
_L4_NAMES = {number: name for name, number in _L4.items()}
_ALL_BITS = 128


class Mistake(ValueError):
    """What was written is no peer: why, and what to try."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.why, self.hint = why, hint


def parse(text: str) -> list[bytes]:
    """The peers that a text means: two where a port is given without a protocol. Raises Mistake."""
    address, slash, behind = text.partition("/")
    if slash and behind not in _L4:
        if ":" in address and (address[0] == "[" or "." in address):
            raise Mistake(f"{text!r}: {behind!r} is no protocol", "tcp or udp are possible")
        return [parse_prefix(text)]
    host, port = _host_and_port(address)
    packed = _packed(host, text)
    if port is None:
        if slash:
            raise Mistake(f"{text!r} has a protocol and no port", "write ADDRESS:PORT/PROTOCOL")
        return [packed + bytes(4)]
    numbers = [_L4[behind]] if slash else list(_L4.values())
    return [packed + port.to_bytes(2, "big") + bytes((number, 0)) for number in numbers]


def parse_prefix(text: str) -> bytes:
    """The peer that a prefix means, which must be written as `show` writes it. Raises Mistake."""
    address, slash, length = text.partition("/")
    packed = _packed(address, text)
    offset = 0 if ":" in address else _MAPPED_BITS
    if not slash or not length.isascii() or not length.isdigit() or len(length) > 3:
        raise Mistake(f"{text!r} is no prefix", "write ADDRESS/BITS, as 192.0.2.0/24")
    bits = int(length) + offset
    if bits > _ALL_BITS:
        raise Mistake(f"{text!r} has more than {_ALL_BITS - offset} bits")
    if offset == 0 and _covers(packed, bits, MAPPED + bytes(4)):
        raise Mistake(
            f"{text!r} takes in the IPv4 addresses, which stand at ::ffff:0:0/96",
            "2000::/3 is all that is routed",
        )
    kept = int.from_bytes(packed, "big") >> _ALL_BITS - bits << _ALL_BITS - bits
    peer = kept.to_bytes(16, "big") + bytes((0, 0, 0, bits + 1))
    if text != (right := show(peer)):
        raise Mistake(f"{text!r} is not how that prefix is written", f"write {right}")
    return peer


def is_prefix(peer: bytes) -> bool:
    """Whether a peer is a prefix."""
    return peer[-1] != 0


def show(peer: bytes) -> str:
    """A peer as `parse` takes it."""
    address, mapped = peer[:16], peer.startswith(MAPPED)
    bits = peer[19] - 1
    if mapped and (bits < 0 or bits >= _MAPPED_BITS):
        host = socket.inet_ntop(socket.AF_INET, address[12:])
        bits -= _MAPPED_BITS
    else:
        host, mapped = socket.inet_ntop(socket.AF_INET6, address), False
    if peer[19]:
        return f"{host}/{bits}"
    port = int.from_bytes(peer[16:18], "big")
    if not peer[18]:
        return host
    return f"{host if mapped else f'[{host}]'}:{port}/{_L4_NAMES.get(peer[18], peer[18])}"


def _covers(packed: bytes, bits: int, other: bytes) -> bool:
    shift = _ALL_BITS - bits
    return int.from_bytes(packed, "big") >> shift == int.from_bytes(other, "big") >> shift


def _host_and_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or not port.startswith(":") or ":" not in host:
            raise Mistake(f"{text!r} is no address with a port", "write [2001:db8::7]:6881")
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        return text, None
    if not port.isascii() or not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
        raise Mistake(f"{text!r}: {port!r} is no port", "1 to 65535 are possible")
    return host, int(port)


def _packed(host: str, text: str) -> bytes:
    """Sixteen bytes, IPv4 as v4-mapped."""
    try:
        if ":" in host:
            return socket.inet_pton(socket.AF_INET6, host)
        return MAPPED + socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):  # a NUL is a ValueError
        raise Mistake(
            f"{text!r} is neither an address nor a prefix",
            "write 192.0.2.7, 192.0.2.7:6881/udp, [2001:db8::7]:443 or 192.0.2.0/24",
        ) from None
