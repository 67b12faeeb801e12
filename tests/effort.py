# SPDX-License-Identifier: Apache-2.0
"""How many random examples a test tries: all of them, or fewer where a machine is very slow.

XDPPROBE_EFFORT is the share of them, 1 if not given; guests without KVM (vm-test) take less.
"""

import os

SHARE = float(os.environ.get("XDPPROBE_EFFORT", "1"))


def examples(count: int) -> range:
    """As many turns as `count` says here, at least one."""
    return range(max(1, round(count * SHARE)))
