# SPDX-License-Identifier: Apache-2.0
"""Writes docs/top.svg, the README's picture of `top`: the view itself, on the demo's traffic.

Run by `make picture` (root): it takes a quarter of a minute, and leaves nothing behind.
"""

import asyncio
import re
from pathlib import Path

from xdpprobe.attach import attach
from xdpprobe.detach import detach
from xdpprobe.lab.lab import running_lab
from xdpprobe.probe import Probe
from xdpprobe.views.top_app import TopApp
from xdpprobe.views.top_screen import State

TARGET = Path(__file__).resolve().parents[1] / "docs" / "top.svg"
SECONDS = 20.0  # long enough for the history to be seen
SIZE = (100, 30)


async def drawn(app: TopApp) -> str:
    """What the screen shows after SECONDS, as SVG."""
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(SECONDS)
        return app.export_screenshot(title="sudo xdpprobe top")


def main() -> None:
    """Runs the lab, attaches, watches, writes."""
    with running_lab() as lab:
        bpffs = lab.network.mount_bpffs()
        attach([lab.interface], bpffs=bpffs, netns_name=lab.router.name)
        try:
            lab.start_clients()
            with Probe.open(bpffs) as probe:
                picture = asyncio.run(drawn(TopApp(probe.snapshot, State(), None)))
        finally:
            detach([], everything=True, bpffs=bpffs)
    # The template's font is fetched from elsewhere, which no README's viewer does.
    picture = re.sub(r"@font-face \{[^}]*\}\s*", "", picture)
    TARGET.write_text(picture.replace("Fira Code,", "DejaVu Sans Mono, Menlo, Consolas,"))


if __name__ == "__main__":
    main()
