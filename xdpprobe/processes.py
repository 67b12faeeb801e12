# SPDX-License-Identifier: Apache-2.0
"""Processes by number and start time: the number alone may have gone to another one since."""

from pathlib import Path


def start_time(process: int) -> int | None:
    """Ticks after boot at which a process began, None when there is none: proc(5), field 22."""
    try:
        # A process may be called anything.
        stat = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The command name, field 2, may hold blanks and brackets: count from its last bracket.
    return int(stat.rpartition(")")[2].split()[19])
