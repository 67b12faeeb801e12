# SPDX-License-Identifier: Apache-2.0
"""What counts as a server name, whatever protocol it came by."""

MAX_NAME = 255  # RFC 1035, 2.3.4


def server_name(raw: bytes) -> str | None:
    """The name in lower case without its trailing dot; None for bytes that no host name has."""
    name = raw.removesuffix(b".")
    if not 1 <= len(name) <= MAX_NAME or not all(0x21 <= byte <= 0x7E for byte in name):
        return None
    return name.decode("ascii").lower()
