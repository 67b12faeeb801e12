/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a flow is by the addresses of its ends alone: looked up once, when it is
 * born, before the table is locked. Provisional: inspection goes on, and all that it
 * finds is better evidence.
 *
 * Asked in this order, and the first answer counts: pushed addresses (with the port
 * before without), pushed prefixes, the signatures' prefixes; of each the packet's
 * destination, then its source.
 */
#ifndef XDPPROBE_PEERS_H
#define XDPPROBE_PEERS_H

#include "counters.h"

#define PEER_CONFIDENCE 80
#define PREFIX_CONFIDENCE 50

/* Of a prefix the filter knows the block that it is in: 16 bits of an IPv4 address,
 * 32 of an IPv6 one. Words as they lie in memory. */
#define BLOCK_4 0x0000ffffffffffffULL /* of a v4-mapped address's second word */
#define BLOCK_6 0x00000000ffffffffULL /* of an address's first word */

/* False: the set holds nothing with these two words. */
static __always_inline bool peer_likely(const struct peer_filter *f, __u64 a,
					__u64 b)
{
	__u64 hash = (a ^ b * f->factors[0]) * f->factors[1];
	__u32 bit = hash >> (f->shift & 63);

	return f->bits[bit >> 6 & (PEER_FILTER_WORDS - 1)] >> (bit & 63) & 1;
}

static __always_inline bool peer_take(struct scratch *s,
				      const struct peer_value *v, __u8 method,
				      __u8 confidence)
{
	if (!v || (v->expires &&
		   v->expires <= (__u32)(bpf_jiffies64() >> PEER_AGE_SHIFT)))
		return false;
	s->peer.protocol = v->protocol;
	s->peer.app = v->app;
	s->peer.method = method;
	s->peer.confidence = confidence;
	return true;
}

static __always_inline bool peer_exact(struct scratch *s,
				       const struct peer_filter *f, void *set,
				       const __u64 *address, __be16 port)
{
	struct peer_key *key = &s->peer.key;

	if (!peer_likely(f, address[0], address[1]))
		return false;
	__builtin_memcpy(key->address, address, 16);
	key->reserved = 0;
	if (f->kinds & PEER_PORT) {
		__builtin_memcpy(key->port, &port, 2);
		key->l4 = s->packet.l4;
		if (peer_take(s, bpf_map_lookup_elem(set, key), METHOD_PEER,
			      PEER_CONFIDENCE))
			return true;
	}
	if (!(f->kinds & PEER_ADDRESS))
		return false;
	key->port[0] = key->port[1] = 0;
	key->l4 = 0;
	return peer_take(s, bpf_map_lookup_elem(set, key), METHOD_PEER,
			 PEER_CONFIDENCE);
}

static __always_inline bool peer_within(struct scratch *s,
					const struct peer_filter *f, void *set,
					const __u64 *address)
{
	struct peer_prefix *prefix = &s->peer.prefix;
	bool ipv6 = s->packet.ipv6;
	__u64 a = ipv6 ? address[0] & BLOCK_6 : 0;
	__u64 b = ipv6 ? 0 : address[1] & BLOCK_4;

	if (!(f->kinds & (ipv6 ? PEER_WIDE_6 : PEER_WIDE_4)) &&
	    !peer_likely(f, a, b))
		return false;
	prefix->prefix_bits = 128;
	__builtin_memcpy(prefix->address, address, 16);
	return peer_take(s, bpf_map_lookup_elem(set, prefix), METHOD_PREFIX,
			 PREFIX_CONFIDENCE);
}

/* Ask one set, an index of peer_filters; whether it has an answer, which is in
 * scratch.peer. Global: verified once, and out of the way where there are none. */
__noinline int peer_ask(__u32 index)
{
	struct peer_filter *f = bpf_map_lookup_elem(&peer_filters, &index);
	struct scratch *s = scratch_get();
	__u32 generation = index & 1;
	const struct packet *p;
	void *set;

	if (!s || !f)
		return 0;
	opaque(s);
	p = &s->packet;
	if (f->kinds & (PEER_ADDRESS | PEER_PORT)) {
		set = bpf_map_lookup_elem(&peers, &generation);
		if (set && (peer_exact(s, f, set, p->destination,
				       p->destination_port) ||
			    peer_exact(s, f, set, p->source, p->source_port)))
			return 1;
	}
	if (f->kinds & PEER_PREFIX) {
		set = bpf_map_lookup_elem(&peer_prefixes, &index);
		if (set && (peer_within(s, f, set, p->destination) ||
			    peer_within(s, f, set, p->source)))
			return 1;
	}
	return 0;
}

/* What is known of the packet's flow by its ends, in scratch.peer. */
static __always_inline void peer_look(struct scratch *s)
{
	__u32 zero = 0, sources;
	struct control_value *c = bpf_map_lookup_elem(&control, &zero);

	s->peer.protocol = s->peer.app = 0;
	s->peer.method = METHOD_NONE;
	s->peer.confidence = 0;
	if (!c)
		return;
	/* Once: who pushes peers may be changing generation and source. */
	sources = *(volatile __u32 *)&c->peers;
	if (sources & PEERS_PUSHED && peer_ask(sources & PEERS_GENERATION))
		return;
	if (sources & PEERS_PUBLISHED)
		peer_ask(2 + (c->generation & 1));
}

#endif /* XDPPROBE_PEERS_H */
