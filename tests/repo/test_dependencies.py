# SPDX-License-Identifier: Apache-2.0
"""What the project needs is declared once, pinned for CI, and explained in the README."""

import ast
import re
import sys
import tomllib

from packaging.requirements import Requirement
from packaging.version import Version

from tests.repo.tree import ROOT, files

# The distribution that has the module, where it is not called the same.
DISTRIBUTIONS = {"elftools": "pyelftools"}
SYSTEM_MODULES = {"bcc"}  # Debian's python3-bpfcc: PyPI's `bcc` is another project


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {found.name: found for found in map(Requirement, project["dependencies"])}


def pinned() -> dict[str, Version]:
    lines = (ROOT / "requirements-ci.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {name: Version(version) for name, version in pairs}


def imported() -> set[str]:
    modules = set()
    for name in files():
        if name.parts[0] != "xdpprobe" or name.suffix != ".py":
            continue
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    return modules - sys.stdlib_module_names - SYSTEM_MODULES - {"xdpprobe"}


def test_the_package_imports_what_it_declares_and_no_more() -> None:
    assert {DISTRIBUTIONS.get(name, name) for name in imported()} == set(declared())


def test_ci_pins_are_inside_the_declared_ranges() -> None:
    pins = pinned()
    for name, requirement in declared().items():
        assert pins[name] in requirement.specifier, name


def test_readme_explains_every_dependency() -> None:
    setup = (ROOT / "tools" / "setup.sh").read_text()
    block = re.search(r'^packages="([^"]+)"', setup, re.MULTILINE)
    assert block is not None
    readme = (ROOT / "README.md").read_text()
    assert [name for name in [*block[1].split(), *declared()] if f"`{name}`" not in readme] == []
