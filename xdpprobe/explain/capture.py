# SPDX-License-Identifier: Apache-2.0
"""`signatures test`: the flows of a capture, each with the reason for its name."""

import argparse
import sys
from collections.abc import Iterator

import numpy as np

from xdpprobe import catalogue as catalogues
from xdpprobe import flows
from xdpprobe.explain import observe
from xdpprobe.explain.decided import Explained, Explainer
from xdpprobe.explain.observe import Observer
from xdpprobe.replay import replay
from xdpprobe.rereadable import name_of
from xdpprobe.streams import printable, say
from xdpprobe.views import report


def run(args: argparse.Namespace) -> int:
    """Replays, and prints. 1: the capture is damaged, or kernel and tables disagree."""
    wanted = report.parse_filter(args.filter)
    observer = Observer()
    done = replay(args.file, signatures=args.paths, watcher=observer)
    report.checked(wanted, done.snapshot)
    rows = np.array(done.order, dtype=np.intp)
    if wanted is not None:
        rows = rows[np.isin(rows, wanted.rows(done.snapshot))]
    shown = rows[: report.limit(args)]
    explainer = Explainer(observer, catalogues.load(args.paths), done.snapshot)
    found = _Counted(explainer.explain(flow) for flow in flows.decode(done.snapshot, shown))
    if args.json:
        report.print_json({}, "flows", (explained.to_json() for explained in found))
    else:
        for explained in found:
            for line in explained.lines():
                sys.stdout.write(printable(line) + "\n")
        if len(shown) < len(rows):
            print(f"{len(rows) - len(shown)} more flows: --limit 0 shows all")
        elif not len(rows):
            print("no flows")
    sys.stdout.flush()
    if observer.left_out:
        say(f"only the first {observe.FLOW_LIMIT} flows with a payload were watched")
    if tries := done.snapshot.counters["LOSS_MATCH_TRIES"][0]:
        say(f"{tries} packets fitted the columns of more signatures than are looked at")
    if disagreeing := found.disagreeing:
        say(
            f"kernel and tables disagree on {disagreeing} of the flows: that is a defect;"
            " please report it with the capture"
        )
    if done.damage:
        say(f"{name_of(args.file)}: {done.damage}; all whole packets before are counted")
    return 1 if done.damage or disagreeing else 0


class _Counted:
    """Passes on what is explained, and counts on the way what must not be."""

    def __init__(self, explained: Iterator[Explained]) -> None:
        self._explained = explained
        self.disagreeing = 0

    def __iter__(self) -> Iterator[Explained]:
        for one in self._explained:
            self.disagreeing += bool(one.complaints)
            yield one
