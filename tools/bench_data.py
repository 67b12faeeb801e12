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
from xdpprobe.errors import DataError
from xdpprobe.version import VERSION

SCHEMA = 1


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
        "clang": version_of("clang"),
        "iperf3": version_of("iperf3"),
        "tcpdump": version_of("tcpdump"),
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
    """Data to measure into: `known`, if there is any, without `parts`."""
    data = {
        "schema": SCHEMA,
        "version": VERSION,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "quick": quick or known.get("quick", False),
        "machine": machine(),
        "seconds": dict(known.get("seconds", {})),
    }
    return data | {name: part for name, part in known.items() if name not in {*data, *parts}}


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
