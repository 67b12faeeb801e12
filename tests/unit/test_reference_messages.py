# SPDX-License-Identifier: Apache-2.0
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import messages
from tests.reference import dns, http, ssh
from tests.reference.stream import Stream

REQUESTS = {
    "curl": (messages.http_request(b"Example.com"), "example.com"),
    "port": (messages.http_request(b"example.com:8080"), "example.com"),
    "trailing dot and port": (messages.http_request(b"example.com.:80"), "example.com"),
    "address": (messages.http_request(b"192.0.2.1:8080"), "192.0.2.1"),
    "IPv6 address": (messages.http_request(b"[2001:DB8::1]:8080"), "[2001:db8::1]"),
    "no space": (messages.http_request(b"example.com", field=b"hOST:"), "example.com"),
    "spaces": (messages.http_request(b"example.com \t", field=b"Host: \t "), "example.com"),
    "no field": (messages.http_request(None), None),
    "empty": (messages.http_request(b""), None),
    "bracket left open": (messages.http_request(b"[2001:db8::1"), None),
    "old version": (messages.http_request(b"example.com", version=b"HTTP/1.0"), "example.com"),
    "method": (messages.http_request(b"example.com", method=b"PROPFIND"), "example.com"),
    "tunnel": (
        messages.http_request(b"example.com:443", method=b"CONNECT", target=b"example.com:443"),
        "example.com",
    ),
    "another field's value": (
        messages.http_request(
            b"example.com", before=[b"X: Host: wrong.example", b"XHost: w.example"]
        ),
        "example.com",
    ),
    "body": (messages.http_request(None, body=b"Host: wrong.example\r\n\r\n"), None),
    "late": (messages.http_request(b"example.com", before=[b"X: " + b"y" * 3000]), "example.com"),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: example.com\n\n", "example.com"),
}


@pytest.mark.parametrize(("stream", "host"), REQUESTS.values(), ids=list(REQUESTS))
def test_http_requests(stream: bytes, host: str | None) -> None:
    request = http.parse_request(stream)
    assert request is not None
    assert request.host == host
    for length in range(len(stream)):
        assert http.parse_request(stream[:length]) in (None, request)


@pytest.mark.parametrize(
    ("method", "target", "protocol"),
    [
        (b"GET", b"http://example.com/", "HTTP_PROXY"),
        (b"POST", b"HTTPS://example.com/", "HTTP_PROXY"),
        (b"GET", b"/http://example.com/", "HTTP"),
        (b"GET", b"httpx://example.com/", "HTTP"),
        (b"CONNECT", b"example.com:443", "HTTP_CONNECT"),
        (b"CONNECT", b"/", "HTTP"),
    ],
)
def test_requests_to_proxies(method: bytes, target: bytes, protocol: str) -> None:
    request = http.parse_request(messages.http_request(b"a.b", method=method, target=target))
    assert request is not None
    assert request.protocol == protocol


@pytest.mark.parametrize(
    "stream",
    [
        b"SSH-2.0-x\r\n",
        b"get / HTTP/1.1\r\n",
        b"GETS / HTTP/1.1\r\n",
        b"GET / RTSP/1.0\r\n",
        b"GET / HTTP/2.0\r\n",
        b"M-SEARCH * HTTP/1.1\r\n",
        b"GET /\r\n",
        b"GET " + b"x" * 20000,
    ],
)
def test_what_is_no_http_request(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"HTTP|end"):
        http.parse_request(stream)


def test_http_answers() -> None:
    assert http.is_response(messages.HTTP_ANSWER)
    assert http.is_response(b"HTTP/1.") is None
    assert http.is_response(b"HTTP/2 200") is False


QUERY = messages.dns_query(b"Www.Example.com", messages.TYPE_HTTPS)


def test_dns_messages() -> None:
    assert dns.parse_message(QUERY) == dns.Message("www.example.com", 65, False)
    answer = messages.dns_answer(b"example.com", bytes(16))
    assert dns.parse_message(answer) == dns.Message("example.com", 28, True)
    assert dns.parse_message(messages.dns_query(b"")) == dns.Message(None, 1, False)
    assert dns.parse_message(messages.dns_query(b"a b.example")) == dns.Message(None, 1, False)
    longest = b".".join([b"a" * 63] * 3 + [b"a" * 61])
    assert dns.parse_message(messages.dns_query(longest)) == dns.Message(longest.decode(), 1, False)
    for length in range(len(QUERY)):
        assert dns.parse_message(QUERY[:length]) is None


@pytest.mark.parametrize(
    "message",
    [
        QUERY[:4] + b"\x00\x00" + QUERY[6:],
        QUERY[:2] + b"\x7f" + QUERY[3:],
        QUERY[:12] + b"\xc0\x0c" + QUERY[12:],
        QUERY[:12] + b"\x40" + QUERY[12:],
        messages.dns_query(b".".join([b"a" * 63] * 4)),
    ],
)
def test_what_is_no_dns_message(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"question|label|name"):
        dns.parse_message(message)


RECORDS = st.builds(
    messages.dns_record,
    st.binary(max_size=20),
    st.sampled_from([1, 5, 16, 28, 41]),
    owner=st.sampled_from([messages.QUESTION_NAME, b"\0", b"\x03www\xc0\x0c", b"\1a\1b\0"]),
    seconds=st.integers(0, (1 << 32) - 1),
    group=st.sampled_from([1, 1, 1, 3, 255]),
)
ADDRESSES = st.builds(messages.dns_record, st.binary(min_size=4, max_size=4))
ADDRESSES6 = st.builds(messages.dns_record, st.binary(min_size=16, max_size=16))


def addresses_of(record: bytes) -> list[dns.Address]:
    """What a record built by `dns_record` is, looked at from its end."""
    for kind, size in ((1, 4), (28, 16)):
        head, data = record[:-size], record[-size:]
        if head[-10:-6] == struct.pack(">HH", kind, 1) and head[-2:] == struct.pack(">H", size):
            seconds = struct.unpack(">i", head[-6:-2])[0]
            return [dns.Address(data, max(60, min(seconds, 3600)))]
    return []


@given(st.lists(RECORDS | ADDRESSES | ADDRESSES6, max_size=24), st.data())
def test_addresses_of_a_dns_answer(records: list[bytes], data: st.DataObject) -> None:
    answer = messages.dns_reply(b"www.example.com", *records)
    all_of_them = [found for record in records[:16] for found in addresses_of(record)]
    assert dns.answer_addresses(answer) == all_of_them
    kept = data.draw(st.integers(0, len(records)))
    size = len(answer) - sum(map(len, records[kept:]))
    first = [found for record in records[:kept][:16] for found in addresses_of(record)]
    assert dns.answer_addresses(answer[:size]) == first
    if kept < len(records):
        cut = data.draw(st.integers(size, size + len(records[kept]) - 1))
        assert dns.answer_addresses(answer[:cut]) == first


@given(st.binary(max_size=400), st.binary(max_size=200))
def test_no_answer_is_too_strange(head: bytes, tail: bytes) -> None:
    """Whatever stands there, what is found stands in the message."""
    for message in (head, messages.dns_reply(b"a.example", count=9) + tail):
        assert all(found.packed in message for found in dns.answer_addresses(message))


def test_messages_that_give_no_addresses() -> None:
    record = messages.dns_record(bytes(4))
    assert dns.answer_addresses(messages.dns_query(b"a.example") + record) == []
    assert dns.answer_addresses(messages.dns_reply(b"a.example", record, questions=2)) == []
    assert dns.answer_addresses(messages.dns_reply(b"a.example", record, count=0)) == []
    assert dns.answer_addresses(messages.dns_reply(b"a.example", b"\x40" + record)) == []


def test_dns_streams() -> None:
    stream = len(QUERY).to_bytes(2, "big") + QUERY
    assert dns.parse_stream(stream + b"more") == dns.parse_message(QUERY)
    assert all(dns.parse_stream(stream[:length]) is None for length in range(len(stream)))
    with pytest.raises(ValueError, match="header"):
        dns.parse_stream(b"\x00\x05hello")
    with pytest.raises(ValueError, match="question"):
        dns.parse_stream(b"\x00\x14" + QUERY)


def test_ssh_banners() -> None:
    stream = messages.SSH_CLIENT
    assert ssh.parse_banner(stream) == "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3"
    assert ssh.parse_banner(b"SSH-1.99-x\n") == "SSH-1.99-x"
    assert all(ssh.parse_banner(stream[:length]) is None for length in range(len(stream)))
    for wrong in (b"SSH-3.0-x\r\n", b"ssh-2.0-x\r\n", b"SSH-2.0-" + b"x" * 255):
        with pytest.raises(ValueError, match="identification"):
            ssh.parse_banner(wrong)


def test_segments_in_any_order_are_one_stream() -> None:
    source = random.Random(4)
    data = source.randbytes(1000)
    for isn in (7, (1 << 32) - 500):
        for with_syn in (True, False):
            cuts = sorted(source.sample(range(1, 1000), 9))
            pieces = list(zip([0, *cuts], [*cuts, 1000], strict=True))
            source.shuffle(pieces)
            stream = Stream()
            if with_syn:
                stream.syn(isn)
            for start, end in [*pieces, (0, 999)]:
                stream.add((isn + 1 + start) % (1 << 32), data[start:end])
            assert stream.prefix() == data


def test_the_first_bytes_win_and_a_hole_ends_the_prefix() -> None:
    stream = Stream()
    stream.syn(99)
    stream.add(105, b"fghij")
    assert stream.prefix() == b""
    stream.add(100, b"abcdeXXXXXk")
    assert stream.prefix() == b"abcdefghijk"
    stream.add(112, b"m")
    assert stream.prefix() == b"abcdefghijk"
    stream.add(90, b"before the beginning")
    assert stream.prefix() == b"abcdefghijk"


def test_without_a_syn_the_lowest_number_is_the_beginning() -> None:
    stream = Stream()
    stream.add(3, b"late")
    stream.add((1 << 32) - 2, b"early")
    assert stream.prefix() == b"earlylate"
