# SPDX-License-Identifier: Apache-2.0
"""Both ends of many TLS connections: `python -m tests.net.tls_ends client|server ...`.

Either prints "PORT NAME" for each connection: the client's port, and the name that it was for. The
server's word for that is OpenSSL's, which reads the hello as the client meant it.
"""

import argparse
import socket
import socketserver
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

READY = "ready"
DEADLINE = 30.0
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
# A hello of 3 kB. The last one is the server's.
PROTOCOLS = [f"{number:03}".ljust(100, "x") for number in range(30)] + ["http/1.1"]


def certificate(place: Path) -> tuple[str, str]:
    """Makes a certificate for nobody in particular, and its key, in a directory."""
    key, made = place / "key.pem", place / "certificate.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    files = ("-keyout", key, "-out", made)
    subprocess.run(
        ["openssl", "req", "-x509", *curve, *files, "-subj", "/CN=test", "-days", "2"],
        check=True,
        capture_output=True,
    )
    return str(made), str(key)


class Handler(socketserver.BaseRequestHandler):
    """A connection: one request, one empty answer."""

    def handle(self) -> None:
        assert isinstance(self.server, Server)
        self.request.settimeout(DEADLINE)
        with suppress(OSError), self.server.context.wrap_socket(self.request, True) as secure:
            secure.recv(4096)
            secure.sendall(ANSWER)


class Server(socketserver.ThreadingTCPServer):
    """Says of each connection what name it is for."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, address: str, port: int, files: tuple[str, str]) -> None:
        super().__init__((address, port), Handler)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*files)
        self.context.set_alpn_protocols(["http/1.1"])
        self.context.sni_callback = self.named

    def named(self, secure: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        assert isinstance(secure, ssl.SSLSocket)
        # In one call: threads write between print's.
        sys.stdout.write(f"{secure.getpeername()[1]} {name}\n")
        sys.stdout.flush()


def server(args: argparse.Namespace) -> None:
    with Server(args.address, args.port, (args.certificate, args.key)) as serving:
        print(READY, flush=True)
        serving.serve_forever()


def client(args: argparse.Namespace) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = VERSIONS[args.version]
    context.set_alpn_protocols(PROTOCOLS)
    for name in args.name:
        with (
            socket.create_connection((args.address, args.port), DEADLINE) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while secure.recv(4096):
                pass
            print(secure.getsockname()[1], name, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("client", "server"))
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--version", choices=tuple(VERSIONS), default="1.3")
    parser.add_argument("--name", nargs="+")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = parse()
    (client if chosen.role == "client" else server)(chosen)
