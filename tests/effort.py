# SPDX-License-Identifier: Apache-2.0
"""How many random examples a test tries: all of them, or fewer where a machine is very slow.

XDPPROBE_EFFORT is the share of them, 1 if not given; guests without KVM (vm-test) take less.
"""

import os
from collections.abc import Sequence
from typing import TypeVar

Case = TypeVar("Case")

SHARE = float(os.environ.get("XDPPROBE_EFFORT", "1"))


def examples(count: int) -> range:
    """As many turns as `count` says here, at least one."""
    return range(max(1, round(count * SHARE)))


def some(cases: Sequence[Case]) -> Sequence[Case]:
    """All of the cases, or as large a share of them, evenly spread, the last one with them."""
    step = max(1, round(1 / SHARE))
    return cases[(len(cases) - 1) % step :: step]
