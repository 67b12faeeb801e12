/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What Google's QUIC began with before it was TLS: a client's hello of tags and values,
 * not encrypted up to version Q049 ("QUIC Wire Layout Specification", "QUIC Crypto").
 *
 * Packet up to Q043                        Packet of Q044 to Q049
 *  0       1    9         13       13+n     0      1         5      6    14       14+n
 *  +-------+----+---------+--------+----    +------+---------+------+----+--------+----
 *  | flags | id | version | number | hash   | 0xc. | version | 0x50 | id | number | hash
 *  +-------+----+---------+--------+----    +------+---------+------+----+--------+----
 * Behind the hash (12) a stream frame, and in it the hello:
 *  0      1            2+s+o    4+s+o       0        4       6       8
 *  +------+----+--------+--------+-----     +--------+-------+-------+------------
 *  | type | id | offset | length | data     | "CHLO" | tags  | 0     | tag, end ..
 *  +------+----+--------+--------+-----     +--------+-------+-------+------------
 * The values follow the tags, each from the end of the one before to its own end; the
 * numbers of a hello go least significant byte first.
 */
#ifndef XDPPROBE_QUIC_GOOGLE_H
#define XDPPROBE_QUIC_GOOGLE_H

#include "counters.h"
#include "outcome.h"

#define GOOGLE_HASH 12
#define GOOGLE_STREAM \
	0xa0 /* with a length; how long the numbers are is in it */
#define CHLO_HEADER 8
#define CHLO_TAGS_MAX 32

static __always_inline __u32 le32_at(const struct bytes *m, __u32 at)
{
	return __builtin_bswap32(be32_at(m, at));
}

/* The number of version "Q0" and two digits; 0: another. */
static __always_inline __u32 google_version(__u32 version)
{
	if ((version & 0xfffff0f0) != FOUR('Q', '0', '0', '0'))
		return 0;
	return (version >> 8 & 0xf) * 10 + (version & 0xf);
}

/* Where the frames of a client's packet begin; 0: it is none. */
static __always_inline __u32 google_frames(const struct bytes *m)
{
	__u32 flags = byte_at(m, 0), size = flags >> 4 & 3, number;

	/* Version and id of eight bytes are there. */
	if ((flags & 0xc9) == 0x09) {
		number = google_version(be32_at(m, 9));
		if (number < 24 || number > 43)
			return 0;
		size = size == 3 ? 6 : size == 2 ? 4 : size + 1;
		/* Flags of its own stood there up to Q033. */
		return 13 + size + GOOGLE_HASH + (number < 34);
	}
	number = google_version(be32_at(m, 1));
	if ((flags & 0xc0) != 0xc0 || number < 44 || number > 49 ||
	    byte_at(m, 5) != 0x50)
		return 0;
	return 14 + (flags & 3) + 1 + GOOGLE_HASH;
}

/* The server's name in a hello at `at`, of which the bytes before `end` are there.
 * Global: verified once. */
__noinline int chlo_parse(struct bytes *m, __u32 at, __u32 end,
			  struct found *out)
{
	__u32 tags, from = 0, tag;

	if (!m || !out || end > STREAM_MAX || at > end ||
	    at + CHLO_HEADER > end)
		return OUTCOME_OTHER;
	if (be32_at(m, at) != FOUR('C', 'H', 'L', 'O'))
		return OUTCOME_OTHER;
	tags = byte_at(m, at + 4);
	at += CHLO_HEADER;
	tag = at;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < CHLO_TAGS_MAX; i++) {
		__u32 to = le32_at(m, tag + 4);

		if (i >= tags || tag + 8 > end)
			return OUTCOME_NAMELESS;
		if (be32_at(m, tag) == FOUR('S', 'N', 'I', 0)) {
			at += 8 * tags + from;
			if (to < from || to > STREAM_MAX || from > STREAM_MAX ||
			    at + to - from > end)
				return OUTCOME_MALFORMED;
			out->offset = at;
			out->length = to - from;
			return to > from ? OUTCOME_NAME : OUTCOME_NAMELESS;
		}
		from = to;
		tag += 8;
	}
	return OUTCOME_NAMELESS;
}

/* A client's packet that begins with its hello. */
static __always_inline enum outcome google_read(struct bytes *m, __u32 end,
						struct found *out)
{
	__u32 at = google_frames(m), type = byte_at(m, at), offset;

	if (!at || (type & GOOGLE_STREAM) != GOOGLE_STREAM)
		return OUTCOME_OTHER;
	offset = type >> 2 & 7;
	/* The length went the other way before Q039; the hello knows its own. */
	at += 1 + (type & 3) + 1 + (offset ? offset + 1 : 0) + 2;
	return chlo_parse(m, at, end, out);
}

#endif /* XDPPROBE_QUIC_GOOGLE_H */
