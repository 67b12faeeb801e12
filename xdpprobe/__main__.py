# SPDX-License-Identifier: Apache-2.0
"""`python -m xdpprobe`: the same as the console script."""

import sys

from xdpprobe.cli import main

sys.exit(main())
