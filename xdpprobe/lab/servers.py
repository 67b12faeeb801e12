# SPDX-License-Identifier: Apache-2.0
"""The servers of the lab: HTTP with and without TLS, and the SSH identification exchange.

A program of its own (`python -m xdpprobe.lab.servers CERTIFICATE KEY`), run in the servers'
namespace. It writes "ready" on standard output once every address is listened on.
"""

import asyncio
import contextlib
import ssl
import sys
from collections.abc import Sequence

from xdpprobe.lab.internet import SITES, Site, address, ssh_address

REQUEST_DEADLINE = 10.0  # seconds for a client to send its request
BLOCK = bytes(65536)
TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
SSH_IDENTIFICATION = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"  # RFC 4253, 4.2


def tls_context(version: str, certificate: str, key: str) -> ssl.SSLContext:
    """A server's context that speaks one TLS version, "1.2" or "1.3", and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.minimum_version = context.maximum_version = TLS_VERSIONS[version]
    context.set_alpn_protocols(["http/1.1"])
    return context


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one HTTP/1 request `GET /SIZE` with SIZE bytes, then close."""
    with contextlib.suppress(OSError, ValueError, IndexError, EOFError, TimeoutError):
        async with asyncio.timeout(REQUEST_DEADLINE):
            head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.split(b" ")[1].lstrip(b"/"))
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n" % size
        )
        while size > 0:
            writer.write(BLOCK[:size])
            size -= len(BLOCK)
            await writer.drain()
    await close(writer)


async def identify(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Exchange SSH identification lines, then close."""
    with contextlib.suppress(OSError, EOFError, ValueError, TimeoutError):
        writer.write(SSH_IDENTIFICATION)
        async with asyncio.timeout(REQUEST_DEADLINE):
            await reader.readuntil(b"\n")
    await close(writer)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection that the client may have left already."""
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()


def addresses(sites: Sequence[Site]) -> list[str]:
    return [address(site, version) for site in sites for version in (4, 6)]


async def serve(certificate: str, key: str) -> None:
    """Listen on all addresses of the lab, say so, and serve until the process is ended."""
    for version in TLS_VERSIONS:
        hosts = addresses([site for site in SITES if site.tls == version])
        context = tls_context(version, certificate, key)
        await asyncio.start_server(answer, hosts, 443, ssl=context, backlog=128)
    plain = addresses([site for site in SITES if site.scheme == "http"])
    await asyncio.start_server(answer, plain, 80, backlog=128)
    await asyncio.start_server(identify, [ssh_address(4), ssh_address(6)], 22)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:3]))
