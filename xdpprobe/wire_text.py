# SPDX-License-Identifier: Apache-2.0
"""Text from the wire, made safe to print."""


def printable(raw: bytes) -> str:
    """Bytes from the wire as text that is safe to print: all but visible ASCII becomes \\xNN."""
    text = raw.decode("latin-1")
    if text.isascii() and text.isprintable() and " " not in text and "\\" not in text:
        return text
    return "".join(c if "!" <= c <= "~" and c != "\\" else f"\\x{ord(c):02x}" for c in text)
