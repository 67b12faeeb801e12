# SPDX-License-Identifier: Apache-2.0
"""What `demo` refuses before it touches anything, and how the lab tells its own from others'."""

import argparse
import os

import pytest

from xdpprobe.commands import demo
from xdpprobe.errors import PrivilegeError, StateError, UsageError
from xdpprobe.lab import run
from xdpprobe.lab.internet import SITES, host_records
from xdpprobe.processes import start_time


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.add_parser(parser.add_subparsers())
    return parser.parse_args(["demo", *arguments])


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e9"])
def test_a_time_that_cannot_be_meant_is_refused(seconds: str) -> None:
    with pytest.raises(UsageError, match="--for"):
        demo.run(parse(f"--for={seconds}"))


def test_json_needs_a_time() -> None:
    with pytest.raises(UsageError, match="--for 10"):
        demo.run(parse("--json"))


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PrivilegeError, match="demo needs root; run it with sudo"):
        demo.run(parse())


def test_a_missing_tool_is_named_with_its_package() -> None:
    with pytest.raises(StateError) as caught:
        run.require_tools({"sh": "dash", "no-such-tool": "some-package"})
    assert str(caught.value) == "not installed: no-such-tool; apt-get install some-package"


def test_what_a_living_process_made_is_not_abandoned() -> None:
    assert not run.is_abandoned(f"{run.prefix()}0-router")


@pytest.mark.parametrize("name", ["router", "xdplab", "xdplab-1-work", "my-xdplab-1-2-x"])
def test_what_others_made_is_not_abandoned(name: str) -> None:
    assert not run.is_abandoned(name)


def test_a_number_that_another_process_has_by_now_is_no_alibi() -> None:
    assert run.is_abandoned(f"xdplab-{os.getpid()}-1-0-router")


def test_a_process_that_has_gone_leaves_things_abandoned() -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})
    start = start_time(child)
    os.waitpid(child, 0)
    assert run.is_abandoned(f"xdplab-{child}-{start}-0-router")


def test_every_site_has_addresses_of_its_own() -> None:
    records = host_records()
    assert len(records) == len(SITES) + 1
    assert len({address for pair in records.values() for address in pair}) == 2 * len(records)


def test_there_are_enough_sites_of_each_kind() -> None:
    assert len(SITES) >= 24
    assert {site.tls for site in SITES} == {"", "1.2", "1.3"}
    assert len({site.size for site in SITES}) > 20  # so that their rates differ
