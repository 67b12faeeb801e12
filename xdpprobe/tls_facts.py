# SPDX-License-Identifier: Apache-2.0
"""What is known of flows' TLS beyond the server's name, a row each."""

from typing import NamedTuple

import numpy as np

from xdpprobe.hellos import resolve_hellos
from xdpprobe.snapshot import Array, Snapshot
from xdpprobe.wire_text import printable


class Facts(NamedTuple):
    """As `Flow` has them."""

    alpn: str | None
    ja4: str | None
    ech: str | None


def tls_facts(snapshot: Snapshot, hot: Array, cold: Array) -> list[Facts]:
    """What is known of each flow's TLS beyond its name."""
    hellos = resolve_hellos(snapshot.hellos, np.unique(cold["hello"]).tolist())
    transports = _transports(snapshot)
    flags = _ech_words(snapshot)
    memo: dict[tuple[int, int, int], Facts] = {}
    result = []
    for key in zip(
        cold["hello"].tolist(), hot["protocol"].tolist(), cold["tls_flags"].tolist(), strict=True
    ):
        facts = memo.get(key)
        if facts is None:
            number, protocol, flag = key
            hello = hellos.get(number)
            facts = memo[key] = Facts(
                printable(hello.alpn) if hello and hello.alpn else None,
                hello.ja4(transports.get(protocol, "t")) if hello else None,
                next((word for bit, word in flags if flag & bit), None),
            )
        result.append(facts)
    return result


def _transports(snapshot: Snapshot) -> dict[int, str]:
    """Label id -> how JA4 writes what a hello goes over, where that is not TCP."""
    letters = {"quic": "q", "dtls": "d"}
    return {
        n: letters[label.name]
        for n, label in snapshot.labels.items()
        if label.kind == "protocol" and label.name in letters
    }


def _ech_words(snapshot: Snapshot) -> list[tuple[int, str]]:
    """Bits of tls_flags -> words, the one that counts first."""
    bits = snapshot.enums["tls_flag"]
    return [(bits["TLS_ECH"], "real"), (bits["TLS_ECH_GREASE"], "grease")]
