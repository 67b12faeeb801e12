# SPDX-License-Identifier: Apache-2.0
"""What clients' hellos say of the TLS library that made them: ALPN, and the fingerprint JA4.

The data plane keeps a hello's lists once for all flows that have the same (struct hello_entry of
bpf/abi.h); fingerprints are made of them here, when somebody looks.

JA4 of a hello, as FoxIO published it (the TLS client fingerprint alone):

    t13d1516h2_8daaf6152771_e5627efa2ab1
    t         t: TLS over TCP, q: QUIC, d: DTLS
    13        the highest version that the client offers
    d         d: it names a server, i: it does not
    15 16     how many ciphers and extensions, at most 99
    h2        first and last character of the first ALPN protocol; 00: none
    8daaf...  SHA-256 of the sorted ciphers, 12 digits
    e5627...  of the sorted extensions (server name and ALPN left out), and of the signature
              schemes as they are sent
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from xdpprobe.snapshot import Array

SERVER_NAME, ALPN = 0, 16
GREASE = 0x0A0A  # the data plane writes all values of RFC 8701 so
MOST = 99
NOTHING = "0" * 12
VERSIONS = {
    0x0304: "13",
    0x0303: "12",
    0x0302: "11",
    0x0301: "10",
    0x0300: "s3",
    0x0002: "s2",
    0xFEFF: "d1",
    0xFEFD: "d2",
    0xFEFC: "d3",
}


@dataclass(frozen=True, slots=True)
class Hello:
    """A hello's lists, without GREASE; alpn: the first protocol, alpn_length: of all of it."""

    version: int
    named: bool
    ciphers: tuple[int, ...]
    extensions: tuple[int, ...]
    signatures: tuple[int, ...]
    alpn: bytes
    alpn_length: int

    def ja4(self, transport: str) -> str | None:
        """The fingerprint; transport: t, q or d. None where ALPN is longer than is kept."""
        if self.alpn_length > len(self.alpn):
            return None
        head = "".join(
            (
                transport,
                VERSIONS.get(self.version, "00"),
                "d" if self.named else "i",
                f"{min(len(self.ciphers), MOST):02}",
                f"{min(len(self.extensions), MOST):02}",
                alpn_ends(self.alpn),
            )
        )
        return f"{head}_{_digest(_sorted(self.ciphers))}_{_digest(self._extensions_text())}"

    def _extensions_text(self) -> str:
        if not self.extensions:
            return ""
        kinds = _sorted(kind for kind in self.extensions if kind not in (SERVER_NAME, ALPN))
        if not self.signatures:
            return kinds
        return kinds + "_" + ",".join(f"{scheme:04x}" for scheme in self.signatures)


def alpn_ends(protocol: bytes) -> str:
    """First and last character of a protocol's name, of its digits where one is no letter."""
    if not protocol:
        return "00"
    ends = bytes((protocol[0], protocol[-1]))
    if ends.isalnum():  # of bytes: ASCII only
        return ends.decode()
    return f"{protocol[0]:02x}"[0] + f"{protocol[-1]:02x}"[1]


def _sorted(numbers: Iterable[int]) -> str:
    return ",".join(f"{number:04x}" for number in sorted(numbers))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else NOTHING


def _hello(entry: Array) -> Hello:
    def numbers(field: str, count: str) -> tuple[int, ...]:
        listed = entry[field].view(">u2")[: int(entry[count])].tolist()
        return tuple(number for number in listed if number != GREASE)

    length = int(entry["alpn_length"])
    return Hello(
        int(entry["version"]),
        bool(entry["named"]),
        numbers("cipher", "ciphers"),
        numbers("extension", "extensions"),
        numbers("signature", "signatures"),
        entry["alpn"].tobytes()[:length],
        length,
    )


def resolve_hellos(table: Array | None, hashes: Iterable[int]) -> dict[int, Hello]:
    """The hellos of these hashes; those that the table (hello_entry) has lost are left out."""
    wanted = np.array(sorted({h for h in hashes if h > 1}), dtype=np.uint64)
    if table is None or not len(wanted):
        return {}
    rows = np.flatnonzero(np.isin(table["hash"], wanted))
    found = {}
    for row in rows.tolist():
        # A copy: the data plane may write the entry anew meanwhile.
        entry = table[row].copy()
        if int(table[row]["hash"]) == int(entry["hash"]):
            found[int(entry["hash"])] = _hello(entry)
    return found
