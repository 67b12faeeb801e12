# SPDX-License-Identifier: Apache-2.0
"""The build step that pyproject.toml cannot state: the wheel carries the built BPF objects.

So a user's machine needs no compiler. An editable install builds nothing: there `make bpf` keeps
those in the source tree up to date.
"""

import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = Path("xdpprobe", "data")


class BuildWithObjects(build_py):
    """build_py that puts the BPF objects, compiled by clang, beside the modules."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for source in sorted(Path("bpf").glob("*.bpf.c")):
            target = Path(self.build_lib).resolve() / DATA / f"{source.stem}.o"
            if subprocess.run(["tools/build.sh", str(target)], check=False).returncode != 0:
                sys.exit(f"xdpprobe: {source} could not be built; the reason stands above")


setup(cmdclass={"build_py": BuildWithObjects})
