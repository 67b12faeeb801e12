# SPDX-License-Identifier: Apache-2.0
"""The sections of docs/performance.md on signatures by pattern and on peers."""

from collections.abc import Iterator

from performance_text import Data, goals, megabytes, nanoseconds, prose, size, table

SIGNATURES = """\
So many made-up signatures for UDP, without the shipped ones, and at the end the shipped ones alone
(of them, rows that apply to a client's datagram). ns of a new flow's first datagram that is
inspected, over those where there are no signatures, by turns: one of random bytes; one that fits
the last signature of those that look at most bytes, but for its last byte, so that all of them are
looked at and none fits; and one that fits it. Compile: the tables, in user space; cached: to read
them back where they were compiled before; load: that, and their way into the kernel, where they
take {memory} MB, whatever is in them.
"""

PEERS = """\
So many pushed peers: addresses, or prefixes of 28 bits. ns of a new flow (SYN) more than with none,
by turns: to a server by chance that is no peer, nor in any block of a prefix; and to any of the
peers, each as likely as the other, so that what is looked up lies in no CPU cache that is smaller
than the tables. Import: the whole command, from a list in no order. Memory: in the kernel.
"""

SCHEMA = """\
- `signatures`, `peers`: `rows`, one a size or kind, and `checks` as in `goal`; ns as in `rows`,
  where `empty_ns` are those of the same packets without what is measured.
"""


def signatures(found: Data) -> Iterator[str]:
    """Growth with the signatures by pattern."""
    words = prose(SIGNATURES, memory=megabytes(found["rows"][0]["memory"]))
    yield f"\n## More signatures\n\n{words}\n"
    yield table(
        (
            *("signatures", "rows", "random, ns", "nearly fits, ns", "fits, ns"),
            *("compile, s", "cached, s", "load, s"),
        ),
        [
            (
                f"{size(row['signatures'])}{'' if row['made'] else ', shipped'}",
                size(row["rows"]),
                *(nanoseconds(row[name]) for name in ("none", "nearly", "last")),
                *(f"{row[name]:.3f}" for name in ("compile_s", "cached_s", "load_s")),
            )
            for row in found["rows"]
        ],
    )
    yield f"\n{goals(found['checks'])}"


def peers(found: Data) -> Iterator[str]:
    """Growth with the pushed peers."""
    yield f"\n## More peers\n\n{prose(PEERS)}\n"
    yield table(
        ("peers", "", "to none, ns", "to one, ns", "import, s", "memory, MB"),
        [
            (
                size(row["peers"]),
                row["kind"],
                *(nanoseconds(row[name]) for name in ("none", "one")),
                f"{row['import_s']:.2f}",
                megabytes(row["memory"]),
            )
            for row in found["rows"]
        ],
    )
    yield f"\n{goals(found['checks'])}"
