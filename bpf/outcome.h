/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a reader of the first bytes of a stream answers, for all protocols.
 */
#ifndef XDPPROBE_OUTCOME_H
#define XDPPROBE_OUTCOME_H

#include <bpf/bpf_endian.h>

#include "ctx.h"

enum outcome {
	OUTCOME_OTHER = 0, /* not this protocol */
	OUTCOME_MORE,	   /* so far this protocol, the name may yet come */
	OUTCOME_NAME,	   /* a name: see struct found */
	OUTCOME_NAMELESS,  /* this protocol, and there will be no name */
	OUTCOME_MALFORMED, /* began as this protocol, then contradicts itself */
	OUTCOME_SERVER,	   /* a TLS server's first flight: stage SERVER */
};

/* Where the name stands in the bytes that were read. How many more there must be
 * before they can say more: with OUTCOME_MORE; and with OUTCOME_NAME where that is
 * known before the rest of what a hello says. */
struct found {
	__u32 offset;
	__u32 length;
	__u32 in_joined; /* offset counts in the joined records */
	__u32 missing;	 /* at least; 0: not known, or nothing */
	__u32 records;	 /* that were joined: the work it was */
};

#define FOUR(a, b, c, d) \
	((__u32)(a) << 24 | (__u32)(b) << 16 | (__u32)(c) << 8 | (__u32)(d))

static __always_inline __u32 byte_at(const struct bytes *m, __u32 i)
{
	if (i >= STREAM_MAX)
		return 0;
	opaque(i);
	if (i >= STREAM_MAX)
		return 0;
	return m->b[i];
}

static __always_inline __u32 be16_at(const struct bytes *m, __u32 i)
{
	if (i > STREAM_MAX - 2)
		return 0;
	opaque(i);
	if (i > STREAM_MAX - 2)
		return 0;
	return bpf_ntohs(*(const __u16 *)&m->b[i]);
}

static __always_inline __u32 be24_at(const struct bytes *m, __u32 i)
{
	return byte_at(m, i) << 16 | be16_at(m, i + 1);
}

static __always_inline __u32 be32_at(const struct bytes *m, __u32 i)
{
	if (i > STREAM_MAX - 4)
		return 0;
	opaque(i);
	if (i > STREAM_MAX - 4)
		return 0;
	return bpf_ntohl(*(const __u32 *)&m->b[i]);
}

/* Eight bytes as they lie in memory. */
static __always_inline __u64 word_at(const struct bytes *m, __u32 i)
{
	if (i > STREAM_MAX - 8)
		return 0;
	opaque(i);
	if (i > STREAM_MAX - 8)
		return 0;
	return *(const __u64 *)&m->b[i];
}

#endif /* XDPPROBE_OUTCOME_H */
