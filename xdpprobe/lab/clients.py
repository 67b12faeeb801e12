# SPDX-License-Identifier: Apache-2.0
"""The clients of a lab namespace: real programs that fetch from all sites without pause.

A program of its own (`python -m xdpprobe.lab.clients --ca FILE ...`), run in a client's namespace.
Requests come in a fixed order; their start is paced and so is how many run at once. When ended
by SIGTERM it prints {"requests": N, "failed": M} on standard output.
"""

import argparse
import itertools
import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from xdpprobe.lab.internet import NAME_SERVER, SITES, SSH_NAME, Site

REQUEST_DEADLINE = 8  # seconds, a whole request; more than a rate-limited one takes
S_CLIENT_EVERY = 9  # this share of the https requests is made by openssl s_client
LOOKUPS_A_ROUND = 4  # dig requests a round over all sites


@dataclass(frozen=True)
class Request:
    """A command to run, and what to give it on its standard input."""

    argv: tuple[str, ...]
    text: str = ""


def fetch(site: Site, version: int, ca: str) -> Request:
    """curl for an answer of the site's size over IP `version` (4 or 6)."""
    tls = ["--cacert", ca, f"--tlsv{site.tls}", "--tls-max", site.tls] if site.tls else []
    rate = ["--limit-rate", str(site.rate)] if site.rate else []
    options = ["--silent", "--fail", "--http1.1", "--max-time", str(REQUEST_DEADLINE)]
    url = f"{site.scheme}://{site.name}/{site.size}"
    return Request(("curl", f"-{version}", *options, *tls, *rate, "--output", "/dev/null", url))


def handshake(site: Site, version: int, ca: str) -> Request:
    """openssl s_client for an answer of the site's size."""
    tls = f"-tls{site.tls.replace('.', '_')}"
    where = ["-connect", f"{site.name}:{site.port}", "-servername", site.name, f"-{version}"]
    verify = ["-CAfile", ca, "-verify_return_error", "-quiet"]
    ask = f"GET /{site.size} HTTP/1.1\r\nHost: {site.name}\r\nConnection: close\r\n\r\n"
    return Request(("openssl", "s_client", tls, *where, *verify), ask)


def look_up(site: Site, version: int) -> Request:
    """dig for the site's address over IP `version`, for the type of the same version."""
    kind = "A" if version == 4 else "AAAA"
    return Request(("dig", "+tries=2", "+time=1", f"@{NAME_SERVER[version]}", site.name, kind))


def identify(version: int) -> Request:
    """ssh-keyscan; it ends without a key, since the lab's server only identifies itself."""
    return Request(("ssh-keyscan", f"-{version}", "-T", "2", SSH_NAME))


def schedule(seed: int, ca: str) -> Iterator[Request]:
    """Every request there will be, in order: rounds over all sites, IPv4 and IPv6 by turns."""
    order = random.Random(seed)
    count = itertools.count()
    for turn in itertools.count(seed):
        sites = order.sample(SITES, len(SITES))
        yield identify((4, 6)[turn % 2])
        for place, site in enumerate(sites):
            version = (4, 6)[(turn + SITES.index(site)) % 2]
            if place < LOOKUPS_A_ROUND:
                yield look_up(site, version)
            if site.tls and not site.rate and next(count) % S_CLIENT_EVERY == 0:
                yield handshake(site, version, ca)
            else:
                yield fetch(site, version, ca)


class Load:
    """Runs requests at a bounded pace until it is stopped."""

    def __init__(self, requests: Iterator[Request], rate: float) -> None:
        self._requests = requests
        self._gap = 1.0 / rate
        self._lock = threading.Lock()
        self._next_start = time.monotonic()
        self._running: set[subprocess.Popen[bytes]] = set()
        self.stopped = threading.Event()
        self.done = 0
        self.failed = 0

    def work(self) -> None:
        """Run request after request; several threads do that at once."""
        while not self.stopped.is_set():
            request, start = self._take()
            if self.stopped.wait(max(0.0, start - time.monotonic())):
                return
            failed = not self._run(request)
            if self.stopped.is_set():
                return  # it may have been cut short
            with self._lock:
                self.done += 1
                self.failed += failed

    def stop(self) -> None:
        """End all that runs."""
        self.stopped.set()
        with self._lock:
            for process in self._running:
                process.kill()

    def _take(self) -> tuple[Request, float]:
        with self._lock:
            # A pace that cannot be held is not caught up with later: that would be a burst.
            self._next_start = max(self._next_start + self._gap, time.monotonic() - self._gap)
            return next(self._requests), self._next_start

    def _run(self, request: Request) -> bool:
        with self._lock:
            if self.stopped.is_set():
                return False
            process = subprocess.Popen(
                request.argv,
                stdin=subprocess.PIPE if request.text else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._running.add(process)
        try:
            process.communicate(request.text.encode() or None, timeout=REQUEST_DEADLINE + 1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with self._lock:
            self._running.discard(process)
        # ssh-keyscan ends with 1 where it got an identification but no key.
        return process.returncode == 0 or request.argv[0] == "ssh-keyscan"


def main() -> None:
    """Parse the options, run until SIGTERM, print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ca", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    options = parser.parse_args()
    load = Load(schedule(options.seed, options.ca), options.rate)
    signal.signal(signal.SIGTERM, lambda *_: load.stopped.set())
    threads = [threading.Thread(target=load.work) for _ in range(options.parallel)]
    for thread in threads:
        thread.start()
    load.stopped.wait()
    load.stop()
    for thread in threads:
        thread.join()
    print(json.dumps({"requests": load.done, "failed": load.failed}), flush=True)


if __name__ == "__main__":
    main()
