# SPDX-License-Identifier: Apache-2.0
"""A TLS server for tests, run inside of a namespace; TLS may begin after another protocol's lines.

usage: python -m tests.net.tls_server PORT CERTIFICATE KEY VERSION [DIALOGUE]

It prints a line once it listens, and serves one connection after the other.
"""

import socket
import ssl
import sys
from contextlib import suppress

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_GREETING = (
    b"\x0a8.0.35\x00\x08\x00\x00\x00saltsalt\x00\xff\xff\xff\x02\x00\xff\xdf\x15"
    + bytes(10)
    + b"saltsaltsalt\x00caching_sha2_password\x00"
)
_XMPP = (
    b"<?xml version='1.0'?><stream:stream from='x' id='1' xmlns='jabber:client' version='1.0' "
    b"xmlns:stream='http://etherx.jabber.org/streams'><stream:features>"
    b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'></starttls></stream:features>"
)
MYSQL_REQUEST = 36  # bytes
# What the server says first, and after each of the client's messages.
DIALOGUES: dict[str, list[bytes]] = {
    "smtp": [
        b"220 mx.example ESMTP Postfix\r\n",
        b"250-mx.example\r\n250 STARTTLS\r\n",
        b"220 go\r\n",
    ],
    "imap": [
        b"* OK [CAPABILITY IMAP4rev1] ready\r\n",
        b"* CAPABILITY IMAP4rev1 STARTTLS\r\n. OK done\r\n",
        b". OK begin\r\n",
    ],
    "pop3": [b"+OK POP3 ready\r\n", b"+OK begin\r\n"],
    "ftp": [b"220 FTP server ready\r\n", b"234 AUTH TLS ok\r\n"],
    "xmpp": [b"", _XMPP, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"],
    "postgres": [b"", b"S"],
    "mysql": [len(_GREETING).to_bytes(3, "little") + b"\x00" + _GREETING, b""],
    "ldap": [b"", b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"],
}


def talk(connection: socket.socket, lines: list[bytes]) -> None:
    first, *others = lines or [b""]
    connection.sendall(first)
    for line in others:
        # Who is not answered goes on at once: its hello must stay where it is.
        connection.recv(4096 if line else MYSQL_REQUEST)
        connection.sendall(line)


def main(port: str, certificate: str, key: str, version: str, dialogue: str = "") -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    with socket.create_server(("", int(port))) as listening:
        print("listening", flush=True)
        while True:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                talk(connection, DIALOGUES[dialogue] if dialogue else [])
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
