/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a flow is by the addresses of its ends alone: looked up once, when it is
 * born, before the table is locked. Provisional: inspection goes on, and all that it
 * finds is better evidence.
 *
 * Asked in this order, and the first answer counts: pushed addresses (with the port
 * before without), pushed prefixes, the signatures' prefixes; of each the packet's
 * destination, then its source. Of prefixes the longest is asked, and no other.
 */
#ifndef XDPPROBE_PEERS_H
#define XDPPROBE_PEERS_H

#include "bits.h"
#include "counters.h"

#define PEER_CONFIDENCE 80
#define PREFIX_CONFIDENCE 50

/* Of a prefix the filter knows the block that it is in: 16 bits of an IPv4 address,
 * 32 of an IPv6 one. Words as they lie in memory. */
#define BLOCK_4 0x0000ffffffffffffULL /* of a v4-mapped address's second word */
#define BLOCK_6 0x00000000ffffffffULL /* of an address's first word */

/* A slot's third word without `away`, see struct peer_slot. */
#define PEER_WHAT 0x0000ffffffffffffULL
#define PEER_WHAT_L4 16
#define PEER_WHAT_PREFIX 24
#define PEER_WHAT_KIND 32

/* Prefix lengths that are asked for at most: all but that of ::/0, which user space
 * refuses. */
#define PEER_LENGTHS 128

/* One set, while it is asked. */
struct peer_set {
	struct scratch *s;
	const struct peer_filter *f;
	void *table;
};

static __always_inline __u64 peer_hash(const struct peer_filter *f, __u64 a,
				       __u64 b)
{
	return (a ^ b * f->factors[0]) * f->factors[1];
}

/* False: the set holds nothing with these two words, whose hash this is. */
static __always_inline bool peer_likely(const struct peer_filter *f, __u64 hash)
{
	__u32 bit = hash >> (f->shift & 63);

	return f->bits[bit >> 6 & (PEER_FILTER_WORDS - 1)] >> (bit & 63) & 1;
}

static __always_inline bool peer_compare(struct scratch *s,
					 const struct peer_slot *way, __u64 a,
					 __u64 b, __u64 what)
{
	const __u64 *word = (const void *)way;
	bool block = what >> PEER_WHAT_KIND >= PEER_SLOT_BLOCK_4;

	if ((word[2] & PEER_WHAT) != what || word[0] != a ||
	    (!block && word[1] != b))
		return false;
	s->peer.second = word[1];
	s->peer.value = word[3];
	return true;
}

_Static_assert(PEER_WAYS == 2, "peer_find() compares two");

/* Look for one slot in both places that it may have. hash: of the words that the
 * filter knows it by, or would. */
static __always_inline bool peer_find(const struct peer_set *set, __u64 hash,
				      __u64 a, __u64 b, __u64 what)
{
	const struct peer_filter *f = set->f;
	struct scratch *s = set->s;
	struct peer_bucket *bucket;
	__u32 at;

	/* With one multiplication addresses in a row would have buckets that are as
	 * far from each other. */
	hash = (hash ^ hash >> 32 ^ what) * f->factors[0];
	hash = (hash ^ hash >> 32) * f->factors[1];
	hash ^= hash >> 32;
	at = hash & f->mask;
	bucket = bpf_map_lookup_elem(set->table, &at);
	if (!bucket)
		return false;
	if (peer_compare(s, &bucket->slot[0], a, b, what) ||
	    peer_compare(s, &bucket->slot[1], a, b, what))
		return true;
	if (!bucket->slot[0].away)
		return false;
	at = hash >> 32 & f->mask;
	bucket = bpf_map_lookup_elem(set->table, &at);
	return bucket && (peer_compare(s, &bucket->slot[0], a, b, what) ||
			  peer_compare(s, &bucket->slot[1], a, b, what));
}

/* Take the value of the slot that was found; false: it has expired. */
static __always_inline bool peer_take(struct scratch *s, __u8 method,
				      __u8 confidence)
{
	struct peer_value v;

	__builtin_memcpy(&v, &s->peer.value, sizeof(v));
	if (v.expires &&
	    v.expires <= (__u32)(bpf_jiffies64() >> PEER_AGE_SHIFT))
		return false;
	s->peer.protocol = v.protocol;
	s->peer.app = v.app;
	s->peer.method = method;
	s->peer.confidence = confidence;
	return true;
}

static __always_inline bool peer_exact(const struct peer_set *set,
				       const __u64 *address, __be16 port)
{
	__u64 a = address[0], b = address[1];
	__u64 hash = peer_hash(set->f, a, b);
	__u64 what = (__u64)PEER_SLOT_ADDRESS << PEER_WHAT_KIND;
	__u64 at_port = what | port | (__u64)set->s->packet.l4 << PEER_WHAT_L4;

	if (!peer_likely(set->f, hash))
		return false;
	if (set->f->kinds & PEER_PORT && at_port != what &&
	    peer_find(set, hash, a, b, at_port) &&
	    peer_take(set->s, METHOD_PEER, PEER_CONFIDENCE))
		return true;
	return set->f->kinds & PEER_ADDRESS &&
	       peer_find(set, hash, a, b, what) &&
	       peer_take(set->s, METHOD_PEER, PEER_CONFIDENCE);
}

/* Ask for the longest of the lengths that are left; 1: that was the last question. */
static __always_inline long peer_longest(struct peer_set *set)
{
	struct peer_state *p = &set->s->peer;
	__u64 a = p->address[0], b = p->address[1], what;
	__u64 lengths = p->lengths[0];
	__u32 missing;

	if (lengths) {
		p->lengths[0] = lengths & (lengths - 1);
		missing = bits_below(lengths);
		b &= __builtin_bswap64(~0ULL << (missing & 63));
	} else {
		lengths = p->lengths[1];
		if (!lengths)
			return 1;
		p->lengths[1] = lengths & (lengths - 1);
		missing = bits_below(lengths);
		a &= __builtin_bswap64(~0ULL << (missing & 63));
		b = 0;
		missing += 64;
	}
	what = (__u64)PEER_SLOT_PREFIX << PEER_WHAT_KIND |
	       (129 - missing) << PEER_WHAT_PREFIX;
	if (!peer_find(set, peer_hash(set->f, a, b), a, b, what))
		return 0;
	peer_take(set->s, METHOD_PREFIX, PREFIX_CONFIDENCE);
	return 1;
}

static long peer_next(__u32 n, struct peer_set *set)
{
	return peer_longest(set);
}

static __always_inline bool peer_within(struct peer_set *set,
					const __u64 *address)
{
	const struct peer_filter *f = set->f;
	struct peer_state *p = &set->s->peer;
	bool ipv6 = set->s->packet.ipv6;
	__u64 a = ipv6 ? address[0] & BLOCK_6 : 0;
	__u64 b = ipv6 ? 0 : address[1] & BLOCK_4;
	__u64 kind = ipv6 ? PEER_SLOT_BLOCK_6 : PEER_SLOT_BLOCK_4;
	__u64 hash = peer_hash(f, a, b);

	/* Wide ones lack 17 to 32 bits of an IPv4 address, 97 to 127 of another. */
	p->lengths[0] = ipv6 ? 0 : f->wide[0];
	p->lengths[1] = ipv6 ? f->wide[1] : 0;
	if (peer_likely(f, hash) &&
	    peer_find(set, hash, a | b, 0, kind << PEER_WHAT_KIND)) {
		p->lengths[0] |= p->value;
		p->lengths[1] |= p->second;
	}
	if (!(p->lengths[0] | p->lengths[1]))
		return false;
	p->address[0] = address[0];
	p->address[1] = address[1];
	/* Most blocks have one length, and a loop costs more than its step. */
	if (!peer_longest(set))
		bpf_loop(PEER_LENGTHS, peer_next, set, 0);
	return p->method != METHOD_NONE;
}

/* Ask one set, an index of peer_filters; whether it has an answer, which is in
 * scratch.peer. Global: verified once, and out of the way where there are none. */
__noinline int peer_ask(__u32 index)
{
	struct peer_set set = {
		.s = scratch_get(),
		.f = bpf_map_lookup_elem(&peer_filters, &index),
		.table = bpf_map_lookup_elem(&peers, &index),
	};
	const struct packet *p;

	if (!set.s || !set.f || !set.table)
		return 0;
	opaque(set.s);
	p = &set.s->packet;
	if (set.f->kinds & (PEER_ADDRESS | PEER_PORT) &&
	    (peer_exact(&set, p->destination, p->destination_port) ||
	     peer_exact(&set, p->source, p->source_port)))
		return 1;
	return set.f->kinds & PEER_PREFIX &&
	       (peer_within(&set, p->destination) ||
		peer_within(&set, p->source));
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
