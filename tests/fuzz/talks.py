# SPDX-License-Identifier: Apache-2.0
"""Flows of several packets: messages whole or damaged, in segments of every size and order."""

import random

from tests import hellos, messages
from tests import packets as p
from tests.fuzz.seeds import PORTS
from tests.packets import ACK, PSH, Conversation, Endpoint
from xdpprobe.bench.messages import classic_hello, dns_query, http_request, modern_hello

ISNS = (1000, 0xFFFFFF00, 0x7FFFFFF0, 0)  # some wrap within the message
MOST_SEGMENTS = 100
MOST_DATAGRAM = 1400
DAMAGED = 0.5  # of messages


class Talks:
    """Draws flows, each from a client of its own."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._clients = 0

    def draw(self) -> list[bytes]:
        """The frames of one flow."""
        return self._datagrams() if self._source.random() < 0.2 else self._connection()

    def _name(self) -> bytes:
        source = self._source
        chance = source.random()
        if chance < 0.05:
            return b"a" * source.randint(1, 63) + b"." + b"b" * source.randint(1, 190)
        if chance < 0.1:
            return bytes(source.randrange(0x20, 0x80) for _ in range(source.randint(1, 20)))
        return f"Host{source.randrange(10**6)}.example{source.randrange(100)}.com".encode()

    def _talk(self, port: int) -> Conversation:
        source = self._source
        self._clients += 1
        number = self._clients & 0xFFFFFF
        low = f"{number >> 16}.{number >> 8 & 255}.{number & 255}"
        client, server = f"10.{low}", "198.51.100.20"
        if source.random() < 0.3:
            client = f"2001:db8:1::{number >> 16:x}:{number & 0xFFFF:x}"
            server = "2001:db8:2::20"
        return Conversation(
            Endpoint(client, source.choice((40000, 53, 65535, 1))),
            Endpoint(server, port),
            client_isn=source.choice(ISNS),
            tags=[p.vlan(7)] if source.random() < 0.1 else (),
        )

    def _message(self) -> tuple[str, bytes]:
        """(kind, bytes) of what a client says first."""
        source, name = self._source, self._name()
        text = name.decode()
        kind = source.choice(("tls", "tls", "http", "dns"))
        if kind == "tls":
            seed = source.randrange(1 << 30)
            hello = source.choice(
                (
                    lambda: hellos.simple_hello(name, seed=seed),
                    lambda: hellos.browser_hello(name, seed=seed),
                    lambda: hellos.sized_hello(name, source.randint(600, 16384), seed=seed),
                    lambda: hellos.simple_hello(None, seed=seed),
                    lambda: classic_hello(text)[5:],
                    lambda: modern_hello(text)[5:],
                )
            )()
            cuts = source.choice((0, 0, 0, 1, 2, 5, 40))
            return kind, hellos.records(hello, [source.randint(1, len(hello)) for _ in range(cuts)])
        if kind == "http":
            before = [
                b"X-%d: " % i + b"y" * source.randint(0, 600)
                for i in range(source.choice((0, 1, 5, 30)))
            ]
            value = source.choice((name, name + b":8080", b"[2001:DB8::1]:80", name + b" ", b""))
            field = source.choice((b"Host: ", b"hOST:", b"Host: \t ", b"Host:" + b" " * 20))
            body = source.randbytes(source.choice((0, 0, 3, 100)))
            request = messages.http_request(value, before=before, field=field, body=body)
            return kind, source.choice((request, http_request("www.example.com")))
        labels = name[:200].replace(b"..", b".")
        query = source.choice(
            (
                lambda: messages.dns_query(labels[:60].strip(b".") or b"x"),
                lambda: dns_query("www.example.com"),
                lambda: messages.dns_answer(b"a.example", bytes(4)),
            )
        )()
        return kind, query

    def _damage(self, message: bytes) -> bytes:
        """Changed bytes, lies in numbers, pieces left out, doubled or transplanted."""
        source, changed = self._source, bytearray(message)
        for _ in range(source.randint(1, 3)):
            size = len(changed)
            if size < 4:
                break
            near = source.randrange(min(size, source.choice((8, 64, 300, size))))
            kind = source.random()
            if kind < 0.3:
                changed[near] = source.randrange(256)
            elif kind < 0.5:
                changed[near] ^= 1 << source.randrange(8)
            elif kind < 0.7:
                changed[near] = (changed[near] + source.choice((-2, -1, 1, 2))) & 255
            elif kind < 0.8:
                del changed[near : near + source.choice((1, 2, 5, 60))]
            elif kind < 0.9:
                changed[near:near] = changed[near : near + source.choice((1, 2, 5, 60))]
            elif kind < 0.95:
                del changed[near:]
            else:
                changed[near:] = self._message()[1][source.randrange(40) :]
        return bytes(changed)

    def _datagrams(self) -> list[bytes]:
        source = self._source
        talk = self._talk(source.choice((53, 53, 5353, 5355, 9999)))
        frames = []
        for _ in range(source.choice((1, 1, 2, 4, 12))):
            query = messages.dns_query(self._name()[:60].strip(b".").replace(b"..", b".") or b"x")
            if source.random() < 0.3:
                query = source.choice(
                    (messages.dns_query(b""), messages.dns_answer(b"b.example", bytes(4)))
                )
            if source.random() < DAMAGED:
                query = self._damage(query)
            frames.append(talk.udp(query[:MOST_DATAGRAM], from_client=source.random() < 0.7))
        return frames

    def _connection(self) -> list[bytes]:
        source = self._source
        kind, stream = self._message()
        if kind == "dns":
            stream = len(stream).to_bytes(2, "big") + stream
        if source.random() < DAMAGED:
            stream = self._damage(stream)
        port = source.choice((PORTS[kind], PORTS[kind], 9999))
        talk = self._talk(port)
        with_syn = source.random() < 0.8
        pieces = self._pieces(stream)
        if with_syn:
            self._disorder(pieces)
        frames = [talk.tcp(data, seq=1 + at, flags=PSH | ACK) for at, data in pieces]
        if with_syn and source.random() < 0.3:
            back = {"tls": hellos.records(hellos.server_hello()), "http": messages.HTTP_ANSWER}
            data = back.get(kind, b"") if source.random() < 0.5 else b""
            frames.insert(source.randint(0, len(frames)), talk.tcp(data, from_client=False))
        return [*(talk.handshake() if with_syn else []), *frames]

    def _pieces(self, stream: bytes) -> list[tuple[int, bytes]]:
        """(offset, bytes), in order, some again, cut another way, and as other bytes."""
        source = self._source
        most = source.choice((1460, 1460, 600, 100, 30))
        most = max(most, len(stream) // MOST_SEGMENTS + 1)
        cuts = [0]
        while len(stream) - cuts[-1] > most:
            cuts.append(cuts[-1] + source.randint(most // 2 + 1, most))
        ends = list(zip(cuts, [*cuts[1:], len(stream)], strict=True))
        pieces = [(start, stream[start:end]) for start, end in ends]
        for start, end in ends:
            if source.random() < 0.1:
                low = max(start - source.randint(0, 300), 0)
                high = min(end + source.randint(0, 300), len(stream), low + 1460)
                place = source.randint(0, len(pieces)) if source.random() < 0.3 else len(pieces)
                pieces.insert(place, (low, stream[low:high]))
        if source.random() < 0.2:
            at, data = source.choice(pieces)
            other = (at, source.randbytes(len(data)))
            pieces.insert(source.randint(pieces.index((at, data)) + 1, len(pieces)), other)
        return pieces

    def _disorder(self, pieces: list[tuple[int, bytes]]) -> None:
        source = self._source
        chance = source.random()
        if chance < 0.2:
            source.shuffle(pieces)
        elif chance < 0.45:  # a few arrive late
            for _ in range(source.randint(1, 3)):
                pieces.append(pieces.pop(source.randrange(len(pieces))))
        elif chance < 0.55:
            pieces.reverse()
        elif chance < 0.6:  # one is lost
            pieces.pop(source.randrange(len(pieces)))
