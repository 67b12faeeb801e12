# SPDX-License-Identifier: Apache-2.0
import os
from collections.abc import Iterator

import pytest

from tests import effort
from tests.bpf import instances
from tests.bpf.instances import ordinary
from tests.bpf.plane import HOOKS, Plane
from tests.bpf.pushed import MemoryShelf, publish
from xdpprobe.catalogue import Catalogue
from xdpprobe.clock import Clock
from xdpprobe.loader import Loaded, load_tables
from xdpprobe.peers import Peers


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where a machine is very slow, tests that there are once a hook run at one of them, by turns:
    all stages are of the same code at both."""
    if effort.SHARE == 1:
        return
    hooks: dict[str, str] = {}
    kept, left = [], []
    for item in items:
        hook = _hook_of(item)
        test = item.nodeid.replace(f"[{hook}", "[")
        wanted = hooks.setdefault(test, list(HOOKS)[len(hooks) % len(HOOKS)]) if hook else hook
        (kept if hook == wanted else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def _hook_of(item: pytest.Item) -> str | None:
    """The hook of a test with the fixture `shared_plane`."""
    call = getattr(item, "callspec", None)
    return call.params.get("shared_plane") if call else None


@pytest.fixture(scope="session", autouse=True)
def idle() -> Iterator[None]:
    """Loaded data planes that wait for a test are unloaded at the end."""
    yield
    instances.close()


@pytest.fixture(scope="module")
def knowledge() -> Catalogue | None:
    """What the module's data plane knows: nothing, where a module does not say otherwise."""
    return None


@pytest.fixture(scope="module")
def loaded(knowledge: Catalogue | None) -> Iterator[Loaded]:
    if os.geteuid() != 0:
        pytest.skip("loading a BPF program needs root")
    with ordinary() as instance:
        if knowledge:
            load_tables(instance, knowledge)
        yield instance


@pytest.fixture(scope="module", params=list(HOOKS))
def shared_plane(request: pytest.FixtureRequest, loaded: Loaded) -> Plane:
    return Plane(loaded, request.param)


@pytest.fixture
def plane(shared_plane: Plane) -> Plane:
    """A data plane without flows and unfinished hellos; every test has it once a hook."""
    if shared_plane.unfinished():
        shared_plane.forget_hellos()
    shared_plane.clear()
    return shared_plane


@pytest.fixture
def shelf() -> MemoryShelf:
    return MemoryShelf()


@pytest.fixture
def peers(loaded: Loaded, shelf: MemoryShelf) -> Iterator[Peers]:
    clock = Clock(loaded.prog_fd("clock_read"), loaded.map_fd("clock"))
    made = Peers(loaded.tables(), shelf, clock, loaded.hz)
    yield made
    made.replace({})
    assert shelf.places() == set()
    if loaded.tables().peer_counts()[1]:
        publish(loaded)
