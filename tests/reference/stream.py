# SPDX-License-Identifier: Apache-2.0
"""One direction of a TCP connection as a stream, from segments in any order.

Where segments overlap, the bytes that came first stay (an observer cannot know which of them the
receiver keeps; the data plane chooses so, and so does this). Source: RFC 9293 section 3.4.
"""

WRAP = 1 << 32


class Stream:
    """Bytes by sequence number. Offset 0 is the byte after the SYN, or, without a SYN, the lowest
    sequence number seen."""

    def __init__(self) -> None:
        self.base: int | None = None
        self.sure = False
        # Offsets count from the first number seen and may be negative: start -> bytes, disjoint.
        self._reference = 0
        self._pieces: dict[int, bytes] = {}

    def syn(self, sequence: int) -> None:
        """The connection's SYN was seen: its data begins at the next number."""
        self._rebase((sequence + 1) % WRAP)
        self.sure = True

    def add(self, sequence: int, payload: bytes) -> bool:
        """A segment whose first payload byte has this sequence number. False: nothing new."""
        if not payload:
            return False
        if self.base is None:
            self._rebase(sequence)
        at = _signed(sequence - self._reference)
        end = at + len(payload)
        fresh = []
        for start, piece in sorted(self._pieces.items()):
            if start + len(piece) <= at or start >= end:
                continue
            if start > at:
                fresh.append((at, payload[at - end : start - end]))
            at = start + len(piece)
        if at < end:
            fresh.append((at, payload[at - end :]))
        self._pieces.update(fresh)
        if not self.sure and _signed(sequence - (self.base or 0)) < 0:
            self.base = sequence
        return bool(fresh)

    def _rebase(self, sequence: int) -> None:
        if self.base is None:
            self._reference = sequence
        self.base = sequence

    def prefix(self) -> bytes:
        """The bytes from offset 0 up to the first one that is missing."""
        if self.base is None:
            return b""
        at = _signed(self.base - self._reference)
        found = b""
        for start, piece in sorted(self._pieces.items()):
            if start <= at < start + len(piece):
                found += piece[at - start :]
                at = start + len(piece)
        return found


def _signed(difference: int) -> int:
    """A difference of sequence numbers, -2^31 to 2^31 - 1."""
    return (difference + (WRAP >> 1)) % WRAP - (WRAP >> 1)
