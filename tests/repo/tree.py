# SPDX-License-Identifier: Apache-2.0
"""The project's own files, as its tests look at them."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@cache
def files() -> tuple[Path, ...]:
    """Every file that is, or would be, in the repository; relative to its root."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git clone: which files belong to the project is not known")
    listed = subprocess.run(
        # A clone that another user made is still one to read.
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names = [Path(name) for name in listed.split("\0") if name]
    return tuple(sorted(name for name in names if (ROOT / name).is_file()))


def text(name: Path) -> str | None:
    """The file's text; None where it is binary."""
    try:
        return (ROOT / name).read_text()
    except UnicodeDecodeError:
        return None
