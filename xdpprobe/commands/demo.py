# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe demo`: the main job on a small internet in network namespaces, without hardware.

It does what a user does by hand, in a bpffs of its own, so that a probe on the machine is not
disturbed.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xdpprobe.attach import attach
from xdpprobe.detach import detach
from xdpprobe.errors import UsageError
from xdpprobe.lab.internet import SITES
from xdpprobe.lab.lab import Lab
from xdpprobe.lab.namespaces import Network, python
from xdpprobe.lab.orderly import deferred, orderly
from xdpprobe.lab.run import require_root

DESCRIPTION = """\
Builds a small internet in network namespaces, lets real clients fetch from real servers, attaches
to the router between them and shows the applications. Nothing of it stays, and no interface of
this machine is touched."""
EPILOG = """\
examples:
  sudo xdpprobe demo                    watch it live; q or Ctrl-C ends it
  sudo xdpprobe demo --for 10 --json    run ten seconds, print what `apps --json` prints"""
TOP_DEADLINE = 3.0  # seconds between asking the view to end and ending it


def add_parser(subparsers: Any) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "demo",
        help="see it work in network namespaces, without hardware",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument(
        "--for",
        dest="seconds",
        type=float,
        metavar="SECONDS",
        help="run that long, then print the applications (default: the live view until it is left)",
    )
    parser.add_argument("--json", action="store_true", help="with --for: print them as JSON")
    parser.set_defaults(offline=True, run=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo; the exit code of the view or report."""
    if args.seconds is not None and not 0 < args.seconds <= 86400:
        raise UsageError(f"--for {args.seconds:g}: not a time", "give 1 to 86400 seconds")
    if args.json and args.seconds is None:
        raise UsageError("--json without a time to run", "add --for 10")
    require_root("demo")
    with orderly(Network()) as network:
        _say("building clients, a router and servers in network namespaces")
        lab = Lab(network)
        with _attached(lab, network.mount_bpffs()) as bpffs:
            lab.start_clients()
            _say(f"{len(lab.clients)} clients fetch from {len(SITES)} sites over IPv4 and IPv6")
            if args.seconds is None:
                return _watch(bpffs)
            lab.wait(args.seconds)
            return subprocess.run(
                _command(bpffs, "apps", *(["--json"] if args.json else [])), check=False
            ).returncode


@contextmanager
def _attached(lab: Lab, bpffs: Path) -> Iterator[Path]:
    with deferred():
        outcome = attach([lab.interface], bpffs=bpffs, netns_name=lab.router.name)
    for done in outcome.attached:
        _say(f"attached to the router's {done.interface}, {done.hooks}: {done.why}")
    try:
        yield bpffs
    finally:
        detach([], everything=True, bpffs=bpffs)


def _watch(bpffs: Path) -> int:
    view = None
    try:
        with deferred():
            view = subprocess.Popen(_command(bpffs, "top"))
        return view.wait()
    finally:
        if view is not None and view.poll() is None:
            view.terminate()
            try:
                view.wait(TOP_DEADLINE)
            except subprocess.TimeoutExpired:
                view.kill()


def _command(bpffs: Path, *arguments: str) -> list[str]:
    return python("xdpprobe", "--bpffs", str(bpffs), *arguments)


def _say(what: str) -> None:
    print(f"demo: {what}", file=sys.stderr)
