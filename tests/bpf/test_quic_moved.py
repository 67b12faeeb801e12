# SPDX-License-Identifier: Apache-2.0
"""QUIC connections whose client has another port from one packet to the next."""

import pytest

from tests import hellos, quic
from tests.bpf.plane import Flow, Plane
from tests.packets import UDP, Conversation, Endpoint
from tests.quic import Piece

NAME = "www.example.org"
CHOSEN = b"chosen by the server"  # its connection id


def short(to: bytes) -> bytes:
    """A packet with a short header (RFC 9000, 17.3.1)."""
    return b"\x41" + to + bytes(30)


def flow(plane: Plane, talk: Conversation) -> Flow:
    found = plane.flow(talk, UDP)
    assert found is not None
    return found


def moved(talk: Conversation, **changes: object) -> Conversation:
    """The same server's, by another client port."""
    client = talk.client._replace(port=talk.client.port + 1)
    fields = {"client": client, "server": talk.server, "tags": talk.tags, **changes}
    return Conversation(**fields)  # type: ignore[arg-type]


def connection(plane: Plane, chosen: bytes = CHOSEN) -> Conversation:
    """A named flow whose server has answered."""
    talk = plane.new_talk()
    client = quic.Client(plane.new_talk().client.packed)
    plane.send(talk.udp(client.datagram(Piece(0, hellos.simple_hello(NAME.encode())))))
    answer = quic.initial(b"\x01", client.client_id, to=b"", source=chosen, server=True)
    plane.send(talk.udp(answer, from_client=False))
    assert flow(plane, talk).name == NAME
    return talk


@pytest.mark.parametrize("length", [8, 9, 20])
def test_a_flow_that_begins_with_a_known_id_has_its_name(plane: Plane, length: int) -> None:
    chosen = CHOSEN[:length]
    talk = connection(plane, chosen)
    before = plane.counters()
    later = moved(talk)
    plane.send(later.udp(short(chosen)))
    found = flow(plane, later)
    assert (found.protocol, found.name) == (5, NAME)
    assert plane.counted(before)["INFO_QUIC_MOVED"][0] == 1
    plane.send(later.udp(short(chosen)), later.udp(short(b""), from_client=False))
    assert plane.counted(before)["INFO_INSPECTED"][0] == 1  # that was final


def cold(plane: Plane, talk: Conversation) -> tuple[int, int]:
    """What a flow has of its client's hello: the hello's hash, and flags."""
    table = plane.loaded.array("flow_cold")
    port = talk.client.port.to_bytes(2, "big")
    for record in table[table["tag"] != 0]:
        if record["address"].tobytes().find(talk.client.mapped) >= 0 and (
            port in (bytes(record["port"][0]), bytes(record["port"][1]))
        ):
            return int(record["hello"]), int(record["tls_flags"])
    raise AssertionError("no such flow")


def test_it_has_the_hello_of_the_old_one_as_well(plane: Plane) -> None:
    """Of which readers make JA4 and ALPN; and that its ECH is GREASE."""
    talk = plane.new_talk()
    client = quic.Client(plane.new_talk().client.packed)
    message = hellos.client_hello(
        [hellos.alpn([b"h3"]), (hellos.ECH, bytes(40)), hellos.server_name(NAME.encode())]
    )
    plane.send(talk.udp(client.datagram(Piece(0, message))))
    answer = quic.initial(b"\x01", client.client_id, to=b"", source=CHOSEN, server=True)
    plane.send(talk.udp(answer, from_client=False))
    later = moved(talk)
    plane.send(later.udp(short(CHOSEN)))
    assert flow(plane, later).name == NAME
    known = cold(plane, talk)
    assert known[0] > 1
    assert known[1] == plane.loaded.abi.enums["tls_flag"]["TLS_ECH_GREASE"]
    assert cold(plane, later) == known
    third = moved(later)  # and nothing of it sticks to the next packet's flow
    plane.send(third.udp(b"\0" * 40))
    assert cold(plane, third) == (0, 0)


def test_others_have_not(plane: Plane) -> None:
    talk = connection(plane)
    elsewhere = Endpoint("198.51.100.77", 443)
    for later, packet in (
        (moved(talk), short(b"another id of theirs")),
        (moved(talk, server=elsewhere), short(CHOSEN)),
        (moved(talk, server=Endpoint(talk.server.address, 444)), short(CHOSEN)),
        (moved(talk, client=Endpoint("192.0.2.4", 1), tags=[(0x8100, 7)]), short(CHOSEN)),
        (moved(talk, client=Endpoint("192.0.2.1", 1)), b"\x81" + CHOSEN + bytes(30)),
        (moved(talk, client=Endpoint("192.0.2.2", 1)), short(CHOSEN[:12])[:20]),
    ):
        plane.send(later.udp(packet))
        assert flow(plane, later).name is None
    turned = moved(talk, client=Endpoint("192.0.2.3", 1))
    plane.send(turned.udp(short(CHOSEN), from_client=False))
    assert flow(plane, turned).name is None


def test_an_id_too_short_to_be_told_apart_is_not_kept(plane: Plane) -> None:
    talk = connection(plane, CHOSEN[:7])
    later = moved(talk)
    plane.send(later.udp(short(CHOSEN[:7])))
    assert flow(plane, later).name is None


def test_the_second_packet_of_a_flow_says_nothing(plane: Plane) -> None:
    later = moved(connection(plane))
    plane.send(later.udp(b"\0" * 40), later.udp(short(CHOSEN)))
    assert flow(plane, later).name is None


def test_a_named_flow_is_not_opened_again(plane: Plane) -> None:
    talk = plane.new_talk()
    client = quic.Client(b"client")
    piece = Piece(0, hellos.simple_hello(NAME.encode()))
    before = plane.counters()
    plane.send(*(talk.udp(client.datagram(piece)) for _ in range(5)))
    assert plane.counted(before)["INFO_QUIC_OPENED"][0] == 1
    assert plane.counted(before)["INFO_NAMED"][0] == 1


def test_what_an_address_said_does_not_move(plane: Plane) -> None:
    """A guess stays one: only what the server name says of the flow is kept for its next port."""
    talk = plane.new_talk()
    client = quic.Client(plane.new_talk().client.packed)
    plane.send(talk.udp(client.datagram(Piece(0, hellos.simple_hello(NAME.encode())))))
    hot = plane.loaded.array("flow_hot", writable=True)
    live = hot["tag"] != 0
    hot["app"][live], hot["app_method"][live] = 1000, plane.loaded.abi.enums["method"]["METHOD_DNS"]
    answer = quic.initial(b"\x01", client.client_id, to=b"", source=CHOSEN, server=True)
    plane.send(talk.udp(answer, from_client=False))
    later = moved(talk)
    plane.send(later.udp(short(CHOSEN)))
    assert (flow(plane, later).name, flow(plane, later).app) == (NAME, 0)


def test_an_id_that_begins_alike_is_another(plane: Plane) -> None:
    """Ids that say where to route begin alike (draft-ietf-quic-load-balancers)."""
    talk = connection(plane)
    plane.send(moved(talk).udp(short(CHOSEN[:-1] + b"?")))
    assert flow(plane, moved(talk)).name is None
