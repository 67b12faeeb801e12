# SPDX-License-Identifier: Apache-2.0
"""The data of `make bench` while they come: of which machine they are, and what is kept of a run
that was broken off."""

import datetime
import json
import os
import re
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

from xdpprobe import kernel
from xdpprobe.bench.report import cpu_model
from xdpprobe.errors import DataError, StateError
from xdpprobe.version import VERSION

SCHEMA = 1


_TOOLS = ("clang", "iperf3", "tcpdump")
_VARIES = {"memory", "load"}  # of one machine from boot to boot; the rest tells machines apart


def machine() -> dict[str, Any]:
    """On what it is measured, and with what."""
    memory = re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "virtual": "hypervisor" in Path("/proc/cpuinfo").read_text(),
        "memory": int(memory[1]) * 1024 if memory else None,
        "machine": os.uname().machine,
        "kernel": kernel.release(),
        **{tool: version_of(tool) for tool in _TOOLS},
    }


def version_of(tool: str) -> str:
    """The number in what a program says of itself; "unknown" where it is not installed."""
    try:
        done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    found = re.search(r"\d+\.\d[\w.]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def begin(quick: bool, known: dict[str, Any], parts: Collection[str]) -> dict[str, Any]:
    """Data to measure into: `known`, if there is any, without `parts`.

    Raises StateError where `known` are of another machine, kernel or version: one document says of
    all its figures where they were taken.
    """
    load = os.getloadavg()[0]
    data = {
        "schema": SCHEMA,
        "version": VERSION,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "quick": quick or known.get("quick", False),
        "machine": {**machine(), "load": {"start": load, "end": load}},
        "seconds": dict(known.get("seconds", {})),
    }
    if known:
        _belong(data, known)
    return data | {name: part for name, part in known.items() if name not in {*data, *parts}}


def _belong(data: dict[str, Any], known: dict[str, Any]) -> None:
    """Whether both are of one place; `data` with what there is to say of both."""
    here, there = data["machine"], known["machine"]
    for tool in _TOOLS:
        if here[tool] == "unknown":  # what it was used for was not measured here
            here[tool] = there[tool]
    others = {name: (there[name], here[name]) for name in here if name not in _VARIES}
    others["xdpprobe"] = known["version"], data["version"]
    wrong = [
        f"{name} {was}, not {now}"
        for name, (was, now) in others.items()
        if was != now and was != "unknown"
    ]
    if wrong:
        raise StateError(
            f"the other parts were measured elsewhere: {'; '.join(wrong)}",
            "measure all parts anew, or these into a file of their own: --data FILE",
        )
    first = known["date"].split(" to ")[0]
    if first != data["date"]:
        data["date"] = f"{first} to {data['date']}"
    if "load" in there:
        here["load"]["start"] = max(here["load"]["start"], there["load"]["start"])


def note_load(data: dict[str, Any]) -> None:
    """How busy the machine is now, for the end of the run."""
    data["machine"]["load"]["end"] = os.getloadavg()[0]


def read(path: Path) -> dict[str, Any]:
    """Data of an earlier run. Raises DataError where the file is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(str(path), f"cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise DataError(str(path), f"is not a benchmark's data of schema {SCHEMA}")
    return found


def write(data: dict[str, Any], path: Path) -> None:
    """In one step: the file has the old data or the new. Raises DataError."""
    made = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(json.dumps(data, indent=1) + "\n")
        made.replace(path)
    except OSError as error:
        raise DataError(str(path), f"cannot be written: {error.strerror}") from error


def unfinished(path: Path) -> Path:
    """Where the parts of a run that is not over stand."""
    return path.with_name(path.name + ".unfinished")
