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
#include "resolved.h"

#define MDNS_PORT 5353
#define LLMNR_PORT 5355

#define DNS_HEADER 12
#define DNS_LABEL_MAX 63
#define DNS_NAME_MAX \
	253 /* RFC 1035, 3.1: 255 with the first length and the last */
#define DNS_LABELS_MAX 128
#define DNS_OPCODE_MAX 6 /* RFC 8490; 3 was never assigned */
#define DNS_RECORDS_MAX 512
#define DNS_RESPONSE 0x8000
#define DNS_ANSWERS_MAX 16 /* records whose addresses are noted */

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

struct question {
	const struct bytes *m;
	volatile struct question_state
		*state; /* not on the stack of a callback */
	struct scratch *s;
	__u32 end;
};

/* One label, behind a dot unless it is the first. Returns 1 to stop. */
static long question_label(__u32 i, struct question *q)
{
	volatile struct question_state *state = q->state;
	__u32 at = state->at, to = state->length, length = byte_at(q->m, at);

	if (at >= q->end)
		return 1;
	if (!length) {
		if (at + 5 <= q->end)
			state->result = to;
		return 1;
	}
	/* Byte and bounds of a label: its end is another one's length. */
	if (length > DNS_LABEL_MAX || at + length >= q->end ||
	    at + length >= STREAM_MAX)
		return 1;
	opaque(to);
	if (to + 1 + length > DNS_NAME_MAX || to > DNS_NAME_MAX)
		return 1;
	if (to)
		q->s->name[to++] = '.';
	opaque(to);
	opaque(at);
	opaque(length);
	if (to > DNS_NAME_MAX || at >= STREAM_MAX || length > DNS_LABEL_MAX ||
	    !length)
		return 1;
	if (bpf_probe_read_kernel(&q->s->name[to], length, &q->m->b[at] + 1))
		return 1;
	state->length = to + length;
	state->at = at + 1 + length;
	return 0;
}

/*
 * Labels of the first question as a dotted name in scratch.name. The length, 0
 * for the root, -1 where the grammar is broken. Global: verified once.
 */
__noinline int dns_question(struct bytes *m, __u32 at, __u32 end)
{
	struct scratch *s = scratch_get();
	struct question q = { .m = m, .s = s, .end = end };

	if (!m || !s || end > STREAM_MAX || at > end)
		return -1;
	opaque(s);
	q.state = &s->question;
	q.state->at = at;
	q.state->length = 0;
	q.state->result = -1;
	bpf_loop(DNS_LABELS_MAX, question_label, &q, 0);
	return q.state->result;
}

/* What NAME needs to know of the message whose question was just read. Answers to
 * several questions at once are not sent (RFC 9619). */
static __always_inline void
dns_describe(struct scratch *s, const struct bytes *m, __u32 at, __u32 end)
{
	struct answer_state *a = &s->answer;
	__u32 records = be16_at(m, at + 6);

	a->id = be16_at(m, at);
	a->response = be16_at(m, at + 2) / DNS_RESPONSE;
	a->at = s->question.at + 5;
	a->end = end;
	a->records = 0;
	if (a->response && be16_at(m, at + 4) == 1)
		a->records = records < DNS_ANSWERS_MAX ? records :
							 DNS_ANSWERS_MAX;
}

#endif /* XDPPROBE_DNS_H */
