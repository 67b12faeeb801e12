# SPDX-License-Identifier: Apache-2.0
"""The build step that pyproject.toml cannot state: the wheel carries the built BPF object.

So a user's machine needs no compiler. An editable install builds nothing: there `make bpf` keeps
the object in the source tree up to date.
"""

import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

OBJECT = Path("xdpprobe", "data", "classify.bpf.o")


class BuildWithObject(build_py):
    """build_py that puts the BPF object, compiled by clang, beside the modules."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib).resolve() / OBJECT
        if subprocess.run(["tools/build.sh", str(target)], check=False).returncode != 0:
            sys.exit("xdpprobe: the BPF object could not be built; the reason stands above")


setup(cmdclass={"build_py": BuildWithObject})
