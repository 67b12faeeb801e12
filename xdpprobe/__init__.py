# SPDX-License-Identifier: Apache-2.0
"""xdpprobe: which applications use this link, answered inside the kernel."""

from xdpprobe.version import VERSION as __version__

__all__ = ["__version__"]
