/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses that DNS answers gave a client, and the application of the name it
 * had asked for: what its flows to them most likely are. Filled by dns_answer.h,
 * asked once a flow, at its birth.
 */
#ifndef XDPPROBE_RESOLVED_H
#define XDPPROBE_RESOLVED_H

#include "counters.h"
#include "outcome.h"
#include "parse.h"

#define DNS_PORT 53

/* How long an answer counts, in seconds: its time to live, but at least as long as
 * clients keep an address regardless, and not for as long as it is in other hands. */
#define RESOLVED_LEAST 60
#define RESOLVED_MOST 3600

/* An address may serve other names as well. */
#define RESOLVED_CONFIDENCE 70

/* Not yet over; what lies further ahead than anything that was noted is long ago. */
static __always_inline bool resolved_counts(__u32 expires, __u32 now)
{
	return expires - now - 1 < RESOLVED_MOST * hz;
}

static __always_inline struct resolved_last *resolved_last_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&resolved_last, &zero);
}

/* What DNS says of the flow that this packet begins: an application, or 0. Not of
 * queries: what they ask for is another matter than whom they ask. */
static __always_inline __u16 resolved_find(const struct packet *p, __u32 now)
{
	const struct resolved_last *last = resolved_last_get();
	const struct resolved_app *known;
	const __u64 *client = p->source, *server = p->destination;
	struct resolved_key key;

	if (!last || !resolved_counts(last->expires, now))
		return 0;
	if (p->l4 != IPPROTO_TCP && p->l4 != IPPROTO_UDP)
		return 0;
	if (p->destination_port == bpf_htons(DNS_PORT))
		return 0;
	if (p->l4 == IPPROTO_TCP && p->tcp_flags & TCP_SYN &&
	    p->tcp_flags & TCP_ACK) {
		client = p->destination;
		server = p->source;
	}
	key = (struct resolved_key){
		.client = { client[0], client[1] },
		.server = { server[0], server[1] },
		.tunnel_id = p->tunnel_id,
		.vlan = p->vlan,
	};
	known = bpf_map_lookup_elem(&resolved, &key);
	return known && resolved_counts(known->expires, now) ? known->app : 0;
}

/* The address in scratch.answer.key is one of an application's from now on, or of
 * none that is known: the last answer counts. */
static __always_inline void resolved_note(struct scratch *s, __u32 seconds)
{
	struct resolved_last *last = resolved_last_get();
	struct resolved_app *value = &s->answer.value;
	__u32 now = s->work.now;

	if (!last)
		return;
	if (!value->app) {
		if (resolved_counts(last->expires, now))
			bpf_map_delete_elem(&resolved, &s->answer.key);
		return;
	}
	value->expires = now + seconds * hz;
	if (!resolved_counts(last->expires, now) ||
	    (__s32)(value->expires - last->expires) > 0)
		last->expires = value->expires;
	bpf_map_update_elem(&resolved, &s->answer.key, value, BPF_ANY);
}

#endif /* XDPPROBE_RESOLVED_H */
