# SPDX-License-Identifier: Apache-2.0
"""The identification line of SSH. Source: RFC 4253 section 4.2."""

PREFIXES = (b"SSH-2.0-", b"SSH-1.")
MAX_LINE = 255


def parse_banner(stream: bytes) -> str | None:
    """The line without its end. None: more bytes are needed. ValueError: this is no such line."""
    if not any(stream.startswith(p) or p.startswith(stream) for p in PREFIXES):
        raise ValueError("not an identification line")
    line, found, _ = stream.partition(b"\n")
    if not found:
        if len(stream) >= MAX_LINE:
            raise ValueError("an identification line of more than 255 bytes")
        return None
    return line.rstrip(b"\r").decode("latin-1")
