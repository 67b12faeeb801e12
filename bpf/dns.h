/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The name a DNS message asks for (RFC 1035, 4.1). Also mDNS (RFC 6762) and
 * LLMNR (RFC 4795), which use the format on ports of their own.
 *
 *  0    2       4         6         8         10        12
 *  +----+-------+---------+---------+---------+---------+----------
 *  | id | flags | qdcount | ancount | nscount | arcount | question
 *  +----+-------+---------+---------+---------+---------+----------
 * Question: labels (length, bytes) up to a length of 0, type 2, class 2.
 */
#ifndef XDPPROBE_DNS_H
#define XDPPROBE_DNS_H

#include "counters.h"
#include "outcome.h"

#define DNS_PORT 53
#define MDNS_PORT 5353
#define LLMNR_PORT 5355

#define DNS_HEADER 12
#define DNS_LABEL_MAX 63
#define DNS_OPCODE_MAX 6 /* RFC 8490; 3 was never assigned */
#define DNS_RECORDS_MAX 512

static __always_inline __u16 dns_protocol(const struct work *w)
{
	if (w->source_port == DNS_PORT || w->destination_port == DNS_PORT)
		return PROTOCOL_DNS;
	if (w->source_port == MDNS_PORT || w->destination_port == MDNS_PORT)
		return PROTOCOL_MDNS;
	if (w->source_port == LLMNR_PORT || w->destination_port == LLMNR_PORT)
		return PROTOCOL_LLMNR;
	return PROTOCOL_UNKNOWN;
}

static __always_inline bool dns_header(const struct bytes *m, __u32 at,
				       __u32 end)
{
	__u32 opcode = byte_at(m, at + 2) >> 3 & 15;
	__u32 questions = be16_at(m, at + 4);

	return at + DNS_HEADER <= end && opcode <= DNS_OPCODE_MAX &&
	       questions <= 16 && be16_at(m, at + 6) <= DNS_RECORDS_MAX &&
	       be16_at(m, at + 8) <= DNS_RECORDS_MAX &&
	       be16_at(m, at + 10) <= DNS_RECORDS_MAX;
}

/*
 * Labels of the first question as a dotted name in scratch.name. The length, 0
 * for the root, -1 where the grammar is broken. Global: verified once.
 */
__noinline int dns_question(struct bytes *m, __u32 at, __u32 end)
{
	struct scratch *s = scratch_get();
	volatile struct question_state *q;

	if (!m || !s || end > STREAM_MAX || at > end)
		return -1;
	opaque(s);
	q = &s->question;
	q->left = q->length = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i <= NAME_MAX_LEN; i++, at++) {
		__u32 c = byte_at(m, at), left = q->left, length = q->length;

		if (at >= end)
			return -1;
		if (!left) {
			if (!c)
				return at + 5 <= end ? (int)length : -1;
			if (c > DNS_LABEL_MAX)
				return -1;
			q->left = c;
			if (!length)
				continue;
			c = '.';
		} else {
			q->left = left - 1;
		}
		opaque(length);
		if (length >= NAME_MAX_LEN)
			return -1;
		s->name[length] = c;
		q->length = length + 1;
	}
	return -1;
}

#endif /* XDPPROBE_DNS_H */
