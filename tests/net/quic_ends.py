# SPDX-License-Identifier: Apache-2.0
"""Both ends of QUIC connections, by aioquic: `python -m tests.net.quic_ends client|server ...`.

A process each, since an end lives in a network namespace of its own.
"""

import argparse
import asyncio
import ssl

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration

PORT = 4433
READY = "ready"


def configuration(args: argparse.Namespace) -> QuicConfiguration:
    client = args.role == "client"
    made = QuicConfiguration(
        is_client=client,
        alpn_protocols=["hq-interop"],
        server_name=args.name,
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
    await serve(args.address, PORT, configuration=configuration(args), retry=args.retry)
    print(READY, flush=True)
    await asyncio.Event().wait()


async def client(args: argparse.Namespace) -> None:
    async with connect(args.address, PORT, configuration=configuration(args)) as connection:
        await connection.ping()
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
    parser.add_argument("--name")
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
