/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A ClientHello in the records of a DTLS datagram (RFC 6347, 4.1 and 4.2; RFC 9147, 4 and
 * 5), whole or in fragments:
 *
 *  0    1         3       5          11      13
 *  +----+---------+-------+----------+-------+------
 *  | 22 | 254.x   | epoch | sequence | len   | handshake messages
 *  +----+---------+-------+----------+-------+------
 *  0    1         4        6        9               12
 *  +----+---------+--------+--------+---------------+---------------
 *  |  1 | length  | number | offset | its length    | bytes from offset on
 *  +----+---------+--------+--------+---------------+---------------
 * The length is the whole message's, and so is the number: all fragments have the same.
 */
#ifndef XDPPROBE_DTLS_H
#define XDPPROBE_DTLS_H

#include "hello.h"

#define DTLS_MAJOR 254
#define DTLS_RECORD_HEADER 13
#define DTLS_MESSAGE_HEADER 12
#define DTLS_FRAGMENTS_MAX 32 /* messages of a datagram that are looked at */
#define DTLS_LENGTH_BITS 15   /* of a message, below its number */

_Static_assert(STREAM_MAX < 1 << DTLS_LENGTH_BITS, "a hello's length fits");

static __always_inline __u32 dtls_length(__u32 message)
{
	return message & ((1 << DTLS_LENGTH_BITS) - 1);
}

/* A record that may hold a ClientHello: not encrypted yet, so of epoch 0. */
static __always_inline bool dtls_record(const struct bytes *m, __u32 at)
{
	return byte_at(m, at) == TLS_HANDSHAKE &&
	       byte_at(m, at + 1) == DTLS_MAJOR && !be16_at(m, at + 3);
}

static __always_inline bool dtls_begins(const struct bytes *m, __u32 end)
{
	return end > DTLS_RECORD_HEADER + DTLS_MESSAGE_HEADER &&
	       dtls_record(m, 0) &&
	       byte_at(m, DTLS_RECORD_HEADER) == TLS_CLIENT_HELLO;
}

/* Take a fragment down, if it is of the datagram's first hello. */
static __always_inline void dtls_piece(struct scratch *s, __u32 at,
				       __u32 offset, __u32 length, __u32 whole)
{
	__u32 message = be16_at(&s->payload, at + 4) << DTLS_LENGTH_BITS |
			whole;
	__u32 n = s->quic.pieces;

	if (byte_at(&s->payload, at) != TLS_CLIENT_HELLO || !length ||
	    whole > STREAM_MAX)
		return;
	if (!s->dtls.message)
		s->dtls.message = message;
	opaque(n);
	if (s->dtls.message != message || n >= QUIC_PIECES)
		return;
	s->quic.piece[n].at = at + DTLS_MESSAGE_HEADER;
	s->quic.piece[n].offset = offset;
	s->quic.piece[n].length = length;
	s->quic.pieces = n + 1;
}

/* One handshake message, of this record or of the next one. */
static long dtls_message(__u32 i, struct scratch **sp)
{
	struct scratch *s = *sp;
	volatile struct dtls_state *w = &s->dtls;
	struct bytes *m = &s->payload;
	__u32 at = w->at, whole, offset, length;

	if (at >= w->stop) {
		if (at + DTLS_RECORD_HEADER > s->work.length ||
		    !dtls_record(m, at))
			return 1;
		w->stop = at + DTLS_RECORD_HEADER + be16_at(m, at + 11);
		at += DTLS_RECORD_HEADER;
		if (w->stop > s->work.length)
			return 1;
	}
	if (at + DTLS_MESSAGE_HEADER > w->stop)
		return 1;
	whole = be24_at(m, at + 1);
	offset = be24_at(m, at + 6);
	length = be24_at(m, at + 9);
	if (offset + length > whole ||
	    at + DTLS_MESSAGE_HEADER + length > w->stop)
		return 1;
	dtls_piece(s, at, offset, length, whole);
	w->at = at + DTLS_MESSAGE_HEADER + length;
	return 0;
}

/* The datagram's fragments of one hello, in quic.piece: how many. Global: verified
 * once. */
__noinline int dtls_fragments(struct scratch *s)
{
	if (!s)
		return 0;
	opaque(s);
	s->dtls.at = s->dtls.stop = s->dtls.message = 0;
	s->quic.pieces = 0;
	bpf_loop(DTLS_FRAGMENTS_MAX, dtls_message, &s, 0);
	return s->quic.pieces;
}

#endif /* XDPPROBE_DTLS_H */
