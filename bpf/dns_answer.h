/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The addresses in a DNS answer (RFC 1035, 4.1.3; RFC 3596). The question's name
 * is what the client asked for, so aliases on the way to an address need not be
 * followed: every address in the answer section is the question's.
 *
 *  +------+------+-------+-----+--------+------
 *  | name | type | class | ttl | length | data
 *  +------+------+-------+-----+--------+------
 * Name: labels up to a length of 0, or up to two bytes that point to the rest.
 */
#ifndef XDPPROBE_DNS_ANSWER_H
#define XDPPROBE_DNS_ANSWER_H

#include "dns.h"
#include "resolved.h"
#include "track.h"

#define DNS_POINTER 0xc0 /* first byte, from here on */
#define DNS_RECORD 10	 /* from the type to the data */
#define DNS_CLASS_IN 1
#define DNS_TYPE_A 1
#define DNS_TYPE_AAAA 28
#define DNS_STEPS_MAX 128 /* labels, pointers and records in all */

/* The time to live in seconds; the highest bit makes it 0 (RFC 2181, 8). */
static __always_inline __u32 dns_seconds(const struct bytes *m, __u32 at)
{
	__u32 seconds = be16_at(m, at) << 16 | be16_at(m, at + 2);

	if (seconds < RESOLVED_LEAST || seconds >> 31)
		return RESOLVED_LEAST;
	return seconds < RESOLVED_MOST ? seconds : RESOLVED_MOST;
}

/* What stands behind a record's name. Returns 1 to stop. Global: verified once, and
 * not for each way a name may end. */
__noinline int dns_record(__u32 at)
{
	struct scratch *s = scratch_get();
	volatile struct answer_state *a;
	struct resolved_key *key;
	__u32 length, type, data;

	if (!s)
		return 1;
	opaque(s);
	a = &s->answer;
	data = at + DNS_RECORD;
	if (data > a->end)
		return 1;
	length = be16_at(&s->payload, at + 8);
	if (data + length > a->end)
		return 1;
	a->at = data + length;
	a->records--;
	type = be16_at(&s->payload, at);
	if (be16_at(&s->payload, at + 2) != DNS_CLASS_IN)
		return 0;
	key = &s->answer.key;
	if (type == DNS_TYPE_A && length == 4) {
		key->server[0] = 0;
		key->server[1] = word_at(&s->payload, data) << 32 | 0xffff0000;
	} else if (type == DNS_TYPE_AAAA && length == 16) {
		key->server[0] = word_at(&s->payload, data);
		key->server[1] = word_at(&s->payload, data + 8);
	} else {
		return 0;
	}
	resolved_note(s, dns_seconds(&s->payload, at + 4));
	return 0;
}

/* One label, pointer or record. Returns 1 to stop. */
static long dns_step(__u32 i, void *unused)
{
	struct scratch *s = scratch_get();
	volatile struct answer_state *a;
	__u32 at, length;

	if (!s)
		return 1;
	opaque(s);
	a = &s->answer;
	at = a->at;
	if (!a->records || at >= a->end)
		return 1;
	length = byte_at(&s->payload, at);
	if (length - 1 < DNS_LABEL_MAX) {
		a->at = at + 1 + length;
		return 0;
	}
	if (length && length < DNS_POINTER)
		return 1;
	return loop_answer(dns_record(at + 1 + !!length));
}

/* The bit of a query of the flow's that waits for this answer; 0: nobody asked. */
static __always_inline __u8 dns_asked(const struct flow_cold *c, __u16 id)
{
	__u8 bit = 0;

	for (int i = 0; i < ASKED; i++)
		if (c->asking & 1 << i && c->asked[i] == id)
			bit = 1 << i;
	return bit;
}

static __always_inline void dns_expect(struct flow_cold *c, __u16 id,
				       __u32 number)
{
	number &= ASKED - 1;
	c->asked[number] = id;
	c->asking |= 1 << number;
}

/*
 * Of the message whose question stands in scratch.name: a query is remembered by
 * its number, an answer to one that was seen gives its addresses the question's
 * application. Anybody can send an answer; one that the flow's own client did not
 * ask for names nothing. Global: verified once.
 */
__noinline int dns_learn(struct scratch *s)
{
	struct answer_state *a;
	struct flow_cold *c;
	struct flow_hot *f;
	__u8 bit;

	if (!s || s->work.protocol != PROTOCOL_DNS)
		return 0;
	a = &s->answer;
	f = flow_at(s->work.index);
	c = cold_at(s->work.index);
	if (!f || !c || f->tag != s->work.tag)
		return 0;
	if (!a->response) {
		if (!s->work.responder)
			dns_expect(c, a->id, f->spent[s->work.direction & 1]);
		return 0;
	}
	if (!a->records)
		return 0;
	bit = s->work.responder ? dns_asked(c, a->id) : 0;
	if (!bit) {
		count(INFO_UNASKED);
		return 0;
	}
	c->asking &= ~bit;
	count(INFO_RESOLVED);
	a->key = (struct resolved_key){
		.client = { s->packet.destination[0],
			    s->packet.destination[1] },
		.tunnel_id = s->packet.tunnel_id,
		.vlan = s->packet.vlan,
	};
	a->value = (struct resolved_app){ .app = s->verdict.app };
	bpf_loop(DNS_STEPS_MAX, dns_step, NULL, 0);
	return 1;
}

#endif /* XDPPROBE_DNS_ANSWER_H */
