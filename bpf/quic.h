/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * QUIC's long header (RFC 9000, 17.2), of the versions whose Initials can be opened.
 *
 *  0           1         5    6      6+d  7+d       7+d+s
 *  +-----------+---------+----+------+----+---------+-----------
 *  | 1 1 kk .. | version | d  | id   | s  | id      | by kind
 *  +-----------+---------+----+------+----+---------+-----------
 * Initial: token length, token, length, packet number, payload. 0-RTT and Handshake:
 * length, packet number, payload. Lengths and the like are of 1, 2, 4 or 8 bytes, as
 * the first one's highest two bits say (RFC 9000, 16).
 */
#ifndef XDPPROBE_QUIC_H
#define XDPPROBE_QUIC_H

#include <bpf/bpf_endian.h>

#include "counters.h"
#include "outcome.h"
#include "quic_google.h"

#define QUIC_HEADER_MIN 7
#define QUIC_SAMPLE_AT 4    /* behind the number's begin (RFC 9001, 5.4.2) */
#define QUIC_TAG 16	    /* bytes that authenticate a packet, at its end */
#define QUIC_CLEAR_MAX 2048 /* bytes of a packet that are decrypted */
#define QUIC_NUMBER_MAX \
	0x3fffffff /* what is read of a variable-length number */

/* Salts, each of one version or several: RFC 9001, 5.2. */
enum quic_salt {
	QUIC_NO_SALT = 0,
	QUIC_V1,
	QUIC_V2,
	QUIC_V2_DRAFT,
	QUIC_DRAFT_29,
	QUIC_DRAFT_23,
	QUIC_DRAFT_22,
	QUIC_Q050,
	QUIC_T050,
	QUIC_T051,
	QUIC_SALTS,
};

/* As version 1 numbers them. */
enum quic_kind { QUIC_INITIAL = 0, QUIC_ZERO_RTT, QUIC_HANDSHAKE, QUIC_RETRY };

/* Version 2 and its drafts: other numbers of kinds, other labels. */
static __always_inline bool quic_second(__u32 salt)
{
	return salt == QUIC_V2 || salt == QUIC_V2_DRAFT;
}

/* Versions of Google's that have its own frames, but for the hello's protection. */
static __always_inline bool quic_google(__u32 salt)
{
	return salt >= QUIC_Q050;
}

static __always_inline enum quic_salt quic_salt_of(__u32 version)
{
	__u32 draft = version - 0xff000000;

	if (version == 1 || draft == 33 || draft == 34)
		return QUIC_V1;
	if (version == 0x6b3343cf) /* RFC 9369, 3.1 */
		return QUIC_V2;
	if (version == 0x709a50c4) /* draft-ietf-quic-v2-01 to -04 */
		return QUIC_V2_DRAFT;
	if (draft >= 29 && draft <= 32)
		return QUIC_DRAFT_29;
	/* mvfst, Facebook's, goes by drafts under names of its own. */
	if ((draft >= 23 && draft <= 28) || version == 0xfaceb002 ||
	    version == 0xfaceb00e)
		return QUIC_DRAFT_23;
	if (draft == 22 || version == 0xfaceb001)
		return QUIC_DRAFT_22;
	if (version == FOUR('Q', '0', '5', '0'))
		return QUIC_Q050;
	if (version == FOUR('T', '0', '5', '0'))
		return QUIC_T050;
	if (version == FOUR('T', '0', '5', '1'))
		return QUIC_T051;
	return QUIC_NO_SALT;
}

#define QUIC_SIZE_BITS 4

/* The number at `at`, times 2^QUIC_SIZE_BITS, and how many bytes it takes. Global:
 * verified once. */
__noinline __u64 quic_number_at(struct bytes *m, __u32 at)
{
	__u64 value, size;

	if (!m)
		return 0;
	size = 1 << (byte_at(m, at) >> 6);
	value = (__u64)be32_at(m, at) << 32 | be32_at(m, at + 4);
	/* Its bytes are the first ones, without the highest two bits. */
	value = value << 2 >> (66 - 8 * size);
	if (value > QUIC_NUMBER_MAX)
		value = QUIC_NUMBER_MAX;
	return value << QUIC_SIZE_BITS | size;
}

/* The number at *at, which is moved behind it. */
static __always_inline __u32 quic_number(struct bytes *m, __u32 *at)
{
	__u64 found = quic_number_at(m, *at);

	*at += found & ((1 << QUIC_SIZE_BITS) - 1);
	return found >> QUIC_SIZE_BITS;
}

static __always_inline bool quic_begins(const struct bytes *m, __u32 end)
{
	if (end < QUIC_HEADER_MIN)
		return false;
	if ((byte_at(m, 0) & 0xc0) == 0xc0 && quic_salt_of(be32_at(m, 1)))
		return true;
	return end > CHLO_HEADER + GOOGLE_HASH && google_frames(m);
}

/* Read the header of the packet at quic.next. False: there is none, or none that
 * holds together. Global: verified once. */
__noinline int quic_header(struct scratch *s)
{
	struct bytes *m;
	struct quic_state *q;
	__u32 at, end, length, kind;

	if (!s)
		return 0;
	q = &s->quic;
	m = &s->payload;
	at = q->next;
	end = s->work.length;
	if (at > end || at + QUIC_HEADER_MIN > end ||
	    (byte_at(m, at) & 0xc0) != 0xc0)
		return 0;
	q->salt = quic_salt_of(be32_at(m, at + 1));
	if (!q->salt)
		return 0;
	/* RFC 9369, 3.2: one further than in version 1, and Retry is 0. */
	q->head = byte_at(m, at);
	kind = q->head >> 4;
	q->kind = (quic_second(q->salt) ? kind - 1 : kind) & 3;
	q->id_length = byte_at(m, at + 5);
	q->id_at = at + 6;
	if (q->id_length > QUIC_ID_MAX)
		return 0;
	at = q->id_at + q->id_length;
	length = byte_at(m, at);
	at += 1 + length;
	if (length > QUIC_ID_MAX || at >= end)
		return 0;
	if (q->kind == QUIC_RETRY) {
		q->next = end;
		return 1;
	}
	if (q->kind == QUIC_INITIAL) {
		length = quic_number(m, &at);
		if (length > end - at || at > end)
			return 0;
		at += length;
	}
	length = quic_number(m, &at);
	if (at > end || length > end - at)
		return 0;
	q->number = at;
	q->next = at + length;
	return length >= QUIC_SAMPLE_AT + QUIC_TAG;
}

#endif /* XDPPROBE_QUIC_H */
