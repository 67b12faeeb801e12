# SPDX-License-Identifier: Apache-2.0
"""Commands that a message proposes: complete, so that they do what it says when they are copied."""

import shlex
from pathlib import Path

BPFFS = Path("/sys/fs/bpf")  # where the command line looks without --bpffs


def command(*words: str, bpffs: Path = BPFFS, netns: str = "") -> str:
    """A command of xdpprobe's, with the options that it takes to meet the same probe."""
    place = ["--netns", netns] if netns else []
    if bpffs != BPFFS:
        place += ["--bpffs", str(bpffs)]
    return shlex.join(["xdpprobe", *words, *place])
