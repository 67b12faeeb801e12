/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The server name in a DTLS ClientHello (RFC 6347, 4.1 and 4.2.2; RFC 9147, 5.3) that
 * one datagram has whole.
 *
 *  0    1         3       5          11      13
 *  +----+---------+-------+----------+-------+------
 *  | 22 | 254.x   | epoch | sequence | len   | handshake
 *  +----+---------+-------+----------+-------+------
 *  13   14        17      19         22      25        27       59
 *  +----+---------+-------+----------+-------+---------+--------+-------------
 *  |  1 | length  | number| offset   | len   | version | random | session id (len 1),
 *  +----+---------+-------+----------+-------+---------+--------+-------------
 *  cookie (len 1), and on as in TLS: without the cookie it is a hello of TLS.
 */
#ifndef XDPPROBE_DTLS_H
#define XDPPROBE_DTLS_H

#include "read.h"

#define DTLS_MAJOR 254
#define DTLS_RECORD_HEADER 13
#define DTLS_BODY 25
#define DTLS_SESSION_ID (DTLS_BODY + TLS_VERSION_AND_RANDOM)

/* The length of the hello's body where the payload begins with a whole one, else 0. */
static __always_inline __u32 dtls_hello(const struct bytes *m, __u32 end)
{
	__u32 length = be24_at(m, 14);

	if (end <= DTLS_SESSION_ID || byte_at(m, 0) != TLS_HANDSHAKE ||
	    byte_at(m, 1) != DTLS_MAJOR || be16_at(m, 3) ||
	    byte_at(m, DTLS_RECORD_HEADER) != TLS_CLIENT_HELLO ||
	    be24_at(m, 19) || be24_at(m, 22) != length)
		return 0;
	if (DTLS_BODY + length > DTLS_RECORD_HEADER + be16_at(m, 11) ||
	    DTLS_BODY + length > end)
		return 0;
	return length;
}

/* Copy part of the payload to `joined`. */
static __always_inline bool dtls_copy(struct joined_bytes *to, __u32 at,
				      const struct bytes *from, __u32 start,
				      __u32 length)
{
	opaque(at);
	opaque(start);
	opaque(length);
	if (at > STREAM_MAX / 2 || start > STREAM_MAX / 2 ||
	    length > STREAM_MAX / 2)
		return false;
	return !bpf_probe_read_kernel(&to->b[at], length, &from->b[start]);
}

/* The payload's server name to scratch.name. Returns whether there is one. Global:
 * verified once. */
__noinline int dtls_read(struct scratch *s)
{
	__u32 zero = 0, length, cookie, rest;
	struct joined_bytes *to = bpf_map_lookup_elem(&joined, &zero);
	const struct bytes *m;
	struct found at = {};

	if (!s || !to)
		return 0;
	m = &s->payload;
	length = dtls_hello(m, s->work.length);
	if (!length || byte_at(m, DTLS_SESSION_ID) > TLS_SESSION_ID_MAX)
		return 0;
	cookie = DTLS_SESSION_ID + 1 + byte_at(m, DTLS_SESSION_ID);
	rest = cookie + 1 + byte_at(m, cookie);
	if (rest > DTLS_BODY + length)
		return 0;
	length -= rest - cookie;
	to->b[0] = TLS_CLIENT_HELLO;
	to->b[1] = length >> 16;
	to->b[2] = length >> 8;
	to->b[3] = length;
	if (!dtls_copy(to, TLS_HANDSHAKE_HEADER, m, DTLS_BODY,
		       cookie - DTLS_BODY) ||
	    !dtls_copy(to, TLS_HANDSHAKE_HEADER + cookie - DTLS_BODY, m, rest,
		       length - (cookie - DTLS_BODY)))
		return 0;
	if (hello_parse((struct bytes *)to, 0, TLS_HANDSHAKE_HEADER + length,
			&at) != OUTCOME_NAME)
		return 0;
	s->work.protocol = PROTOCOL_DTLS;
	s->work.method = METHOD_SNI;
	return name_take(s, to, &at);
}

#endif /* XDPPROBE_DTLS_H */
