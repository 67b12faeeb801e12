# SPDX-License-Identifier: Apache-2.0
"""The table of peers against plain look-ups: every length, any place, full, large."""

import ipaddress
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from tests.bpf.plane import Plane
from tests.bpf.pushed import APP, NOTHING, OTHER, V4, MemoryShelf, born, said
from tests.effort import SHARE, examples, some
from tests.packets import UDP, Endpoint
from xdpprobe import peer_sets, peer_table, peer_text, syscall
from xdpprobe.errors import KernelError
from xdpprobe.loader import Loaded
from xdpprobe.peer_file import Said
from xdpprobe.peers import Peers

# Without a bit that the servers begin with.
CLIENT = {32: "10.9.0.1", 128: "2001:db8:1::10"}
# One that begins with a bit set: ::/1 would take in the IPv4 addresses, and is refused.
BASE = {32: ipaddress.ip_address("198.51.100.181"), 128: ipaddress.ip_address("a5a5:db8::7:ff01")}
LENGTHS = {32: range(33), 128: range(1, 129)}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def near(address: Address, shared: int, source: random.Random) -> Address:
    """An address with so many leading bits alike, and not one more."""
    left = address.max_prefixlen - shared
    if not left:
        return address
    return type(address)(int(address) ^ (1 << left - 1 | source.getrandbits(left - 1)))


def prefix(address: Address, bits: int) -> str:
    return str(ipaddress.ip_network((address, bits), strict=False))


def towards(address: Address) -> tuple[Endpoint, Endpoint]:
    """The ends of a flow to it."""
    return Endpoint(CLIENT[address.max_prefixlen], 51000), Endpoint(str(address), 443)


@pytest.fixture(params=[None, 0], ids=["spread", "wide"])
def spread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefixes that are somewhat wider than a block in all its blocks, or in none."""
    if request.param is not None:
        monkeypatch.setattr(peer_sets, "_SPREAD_BITS", request.param)


@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("family", [32, 128])
@pytest.mark.parametrize("in_place", [False, True])
def test_every_length(plane: Plane, peers: Peers, family: int, in_place: bool) -> None:
    """Of prefixes within each other the longest that an address is in decides."""
    source = random.Random(family)
    base, lengths = BASE[family], some(list(LENGTHS[family]))
    known = {bits: said(APP + bits, prefix(base, bits)) for bits in lengths}
    every = {peer: what for one in known.values() for peer, what in one.items()}
    if in_place:
        peers.replace(said(APP, "203.0.113.1"))
        for one in source.sample(list(known.values()), len(known)):
            peers.add(one)
        assert peers.read() == {**every, **said(APP, "203.0.113.1")}
    else:
        peers.replace(every)
    for bits in lengths:
        ends = towards(near(base, bits, source))
        assert born(plane, ends) == (APP + bits, "prefix")


@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("family", [32, 128])
def test_lengths_that_are_not_there(plane: Plane, peers: Peers, family: int) -> None:
    source = random.Random(family)
    base, lengths = BASE[family], LENGTHS[family]
    for _ in examples(6):
        chosen = sorted(source.sample(list(lengths), 9))
        peers.replace(
            {p: s for bits in chosen for p, s in said(APP + bits, prefix(base, bits)).items()}
        )
        for bits in source.sample(list(lengths), 12):
            longest = max((length for length in chosen if length <= bits), default=None)
            wanted = NOTHING if longest is None else (APP + longest, "prefix")
            assert born(plane, towards(near(base, bits, source))) == wanted


def any_peer(source: random.Random) -> str:
    family = source.choice((32, 128))
    address = near(BASE[family], source.choice(LENGTHS[family]), source)
    kind = source.randrange(4)
    if kind < 2:
        return prefix(address, source.choice(LENGTHS[family]))
    if kind == 2:
        return str(address)
    host = f"[{address}]" if family == 128 else str(address)
    return f"{host}:{source.randrange(1, 4)}/{source.choice(('tcp', 'udp'))}"


def plain_answer(
    known: dict[bytes, Said], ends: tuple[Endpoint, Endpoint], l4: int
) -> tuple[int, str]:
    """What peers say of a flow from ends[0] to ends[1]: each prefix compared with each end."""
    octets = [peer_text.parse(str(end.address))[0] for end in ends[::-1]]
    for packed, end in zip(octets, ends[::-1], strict=True):
        for peer in (packed[:16] + end.port.to_bytes(2, "big") + bytes((l4, 0)), packed):
            if peer in known:
                return known[peer].label, "peer"
    for packed in octets:
        number = int.from_bytes(packed[:16], "big")
        fits = [
            (peer[19], what.label)
            for peer, what in known.items()
            if peer[19] and (number ^ int.from_bytes(peer[:16], "big")) >> 129 - peer[19] == 0
        ]
        if fits:
            return max(fits)[1], "prefix"
    return NOTHING


def test_any_lengths_any_ends(plane: Plane, peers: Peers) -> None:
    source = random.Random(23)
    for _ in examples(6):
        known: dict[bytes, Said] = {}
        texts: list[str] = []
        while len(texts) < 200:
            text = any_peer(source)
            try:
                known.update(said(APP + len(texts), text))
            except peer_text.Mistake:  # takes in the IPv4 addresses
                continue
            texts.append(text)
        both = list(known.items())
        peers.replace(dict(both[::2]))
        peers.add(dict(both[1::2]))
        for _ in range(50):
            family, l4 = source.choice((32, 128)), source.choice((6, UDP))
            ends = [
                Endpoint(
                    str(near(BASE[family], source.choice(LENGTHS[family]), source)),
                    source.randrange(1, 4),
                )
                for _ in range(2)
            ]
            if ends[0] != ends[1]:
                pair = (ends[0], ends[1])
                assert born(plane, pair, l4) == plain_answer(known, pair, l4)


def test_blocks_that_look_alike(plane: Plane, peers: Peers) -> None:
    """0.0.0.0/16 and ::ffff:0:0:0:0/32 are in blocks of the same octets."""
    peers.replace({**said(APP, "0.0.0.0/16"), **said(OTHER, "0:ffff::/32")})
    assert born(plane, towards(ipaddress.ip_address("0.0.3.4"))) == (APP, "prefix")
    assert born(plane, towards(ipaddress.ip_address("0:ffff::1"))) == (OTHER, "prefix")
    peers.replace(said(APP, "0.0.0.0/16"))
    assert born(plane, towards(ipaddress.ip_address("0:ffff::1"))) == NOTHING


def test_a_table_that_fills_up(
    plane: Plane, peers: Peers, shelf: MemoryShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds no room in either bucket gets a table anew; nobody is lost."""
    monkeypatch.setattr("xdpprobe.peers._LEAST_ROOM", 16)
    monkeypatch.setattr("xdpprobe.peers._FULLEST", 1)
    known: dict[bytes, Said] = {}
    places, looked = [], some(range(120))
    for number in range(120):
        more = said(APP + number, f"198.51.{number}.20")
        peers.add(more)
        known.update(more)
        if number in looked:
            assert peers.read() == known
        places.append(shelf.places())
    assert sum(before != after for before, after in pairwise(places)) >= 2
    for number in looked:
        ends = towards(ipaddress.ip_address(f"198.51.{number}.20"))
        assert born(plane, ends) == (APP + number, "peer")


def test_an_addition_that_fails_adds_nothing(
    plane: Plane, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers.replace(said(APP, "203.0.113.1"))
    more = said(OTHER, "198.51.100.20", "192.0.2.0/24")

    def fail(*_: object) -> None:
        raise KernelError("cannot install the peers", 12)

    with monkeypatch.context() as patch:
        patch.setattr(syscall, "update", fail)
        with pytest.raises(KernelError):
            peers.add(more)
    assert peers.read() == said(APP, "203.0.113.1")
    assert born(plane) == NOTHING
    peers.add(more)
    assert born(plane) == (OTHER, "peer")


@contextmanager
def shown(
    peers: Peers, monkeypatch: pytest.MonkeyPatch, look: Callable[[], None] = lambda: None
) -> Iterator[list[dict[bytes, Said]]]:
    """What a table says before each step of an addition that packets may see."""
    seen: list[dict[bytes, Said]] = []

    def watched(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            seen.append(peers.read())
            look()
            return function(*arguments)

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((peer_table.Addition, "prepare"), (peer_table.Addition, "publish")):
            patch.setattr(owner, name, watched(getattr(owner, name)))
        patch.setattr(Peers, "_show", watched(Peers._show))
        yield seen


def test_nothing_is_seen_before_it_is_whole(
    loaded: Loaded, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane = Plane(loaded, "xdp")
    before, more = said(APP, "203.0.113.1"), said(OTHER, "198.51.100.20", "192.0.2.0/24")
    peers.replace(before)
    flows: list[object] = []
    servers = [ipaddress.ip_address(text) for text in ("198.51.100.20", "192.0.2.7")]

    def look() -> None:
        flows.append([born(plane, towards(server)) for server in servers])

    with shown(peers, monkeypatch, look) as seen:
        peers.add(more)
    assert seen == [before] * 3
    assert flows == [[NOTHING, NOTHING]] * 3
    look()
    assert flows[3] == [(OTHER, "peer"), (OTHER, "prefix")]
    assert peers.read() == {**before, **more}


@pytest.mark.parametrize("kind", ["addresses", "prefixes"])
def test_a_million(loaded: Loaded, peers: Peers, kind: str) -> None:
    plane = Plane(loaded, "xdp")
    source, count = random.Random(5), round(min(SHARE, 1) * peers.most)
    first = int(ipaddress.ip_address("100.0.0.0"))
    step, tail = (1, bytes(4)) if kind == "addresses" else (16, bytes((0, 0, 0, 96 + 28 + 1)))
    what = [Said(APP + label, 0) for label in range(1000)]
    peers.replace(
        {
            peer_text.MAPPED + (first + n * step).to_bytes(4, "big") + tail: what[n % 1000]
            for n in range(count)
        }
    )
    method = "peer" if kind == "addresses" else "prefix"
    for _ in examples(200):
        number = source.randrange(count)
        server = ipaddress.ip_address(first + number * step + source.randrange(step))
        assert born(plane, towards(server)) == (APP + number % 1000, method)
        outside = ipaddress.ip_address(first + count * step + source.randrange(1 << 24))
        assert born(plane, towards(outside)) == NOTHING
    assert sum(loaded.tables().peer_counts()) == count
    assert born(plane, V4) == NOTHING
