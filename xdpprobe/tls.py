# SPDX-License-Identifier: Apache-2.0
"""What a flow's entry says of its TLS connection, as a person reads it."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from xdpprobe.snapshot import Array, Snapshot

# RFC 6101, 2246, 4346, 5246, 8446: the numbers that go over the wire.
VERSIONS = {0x0300: "ssl3", 0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}


@dataclass(frozen=True, slots=True)
class Tls:
    """version: that both ends go on with, None where the server's answer was not seen.

    resumed: an earlier session goes on; None as version. sni_mismatch: the server's certificate
    is for other names than the one the client asked for.
    """

    version: str | None = None
    resumed: bool | None = None
    sni_mismatch: bool = False

    def to_json(self) -> dict[str, Any]:
        """The keys that a flow's JSON has of this."""
        return {
            "tls_version": self.version,
            "resumed": self.resumed,
            "sni_mismatch": self.sni_mismatch,
        }


NO_TLS = Tls()


def version_text(number: int) -> str | None:
    """`1.3`; drafts and what nobody knows as a number; None: not seen."""
    return VERSIONS.get(number) or (f"0x{number:04x}" if number else None)


@lru_cache(maxsize=1024)
def _tls(version: int, resumed: bool, mismatch: bool) -> Tls:
    return Tls(version_text(version), resumed if version else None, mismatch)


def of_entries(snapshot: Snapshot, cold: Array) -> list[Tls]:
    """What each entry of `flow_cold` says."""
    if not cold["tls_version"].any():
        return [NO_TLS] * len(cold)
    bits = snapshot.enums["tls_flag"]
    return [
        _tls(version, bool(flags & bits["TLS_RESUMED"]), bool(flags & bits["TLS_SNI_MISMATCH"]))
        for version, flags in zip(
            cold["tls_version"].tolist(), cold["tls_flags"].tolist(), strict=True
        )
    ]
