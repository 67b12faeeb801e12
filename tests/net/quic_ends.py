# SPDX-License-Identifier: Apache-2.0
"""Both ends of QUIC connections, by aioquic: `python -m tests.net.quic_ends client|server ...`.

A process each, since an end lives in a network namespace of its own. A client makes a connection
for each of its names. With --tell either prints "PORT NAME" for each: the client's port, and the
name that it was for.
"""

import argparse
import asyncio
import ssl
from typing import Any

from aioquic import tls
from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration

PORT = 4433
READY = "ready"


class Telling(QuicConnectionProtocol):
    """A server's end that says what name its client asks for."""

    sender: Any = None  # of the datagram in hand

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        Telling.sender = addr
        super().datagram_received(data, addr)

    @classmethod
    def listen(cls) -> None:
        """Looks at each hello that the library reads."""
        pull = tls.pull_client_hello

        def told(buffer: Any) -> tls.ClientHello:
            hello = pull(buffer)
            print(cls.sender[1], hello.server_name, flush=True)
            return hello

        tls.pull_client_hello = told


def configuration(args: argparse.Namespace, name: str | None = None) -> QuicConfiguration:
    client = args.role == "client"
    made = QuicConfiguration(
        is_client=client,
        alpn_protocols=["hq-interop"],
        server_name=name,
        # A key share as long as a post-quantum one: the hello takes two datagrams.
        quantum_readiness_test=args.long,
        verify_mode=ssl.CERT_NONE,
    )
    if args.version:
        made.supported_versions = [args.version]
        made.original_version = args.version if client else None
    if not client:
        made.load_cert_chain(args.certificate, args.key)
    return made


async def server(args: argparse.Namespace) -> None:
    protocol = QuicConnectionProtocol
    if args.tell:
        Telling.listen()
        protocol = Telling
    made = configuration(args)
    await serve(
        args.address, args.port, configuration=made, retry=args.retry, create_protocol=protocol
    )
    print(READY, flush=True)
    await asyncio.Event().wait()


async def client(args: argparse.Namespace) -> None:
    for name in args.name:
        made = configuration(args, name)
        async with connect(args.address, args.port, configuration=made) as connection:
            await connection.ping()
            if args.tell:
                print(connection._transport.get_extra_info("sockname")[1], name, flush=True)
            if args.move:
                await move(connection)
                await connection.ping()


async def move(connection: QuicConnectionProtocol) -> None:
    """Goes on by another port, as a client behind a NAT does that forgot it: without knowing."""
    connection._transport.close()
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: connection, local_addr=("::", 0))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("client", "server"))
    parser.add_argument("address")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--name", nargs="+", default=())
    parser.add_argument("--tell", action="store_true")
    parser.add_argument("--version", type=int)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--retry", action="store_true")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--move", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = parse()
    asyncio.run(client(chosen) if chosen.role == "client" else server(chosen))
