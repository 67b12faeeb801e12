/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The flow table: a set-associative cache in two arrays, hot and cold, at the
 * same index. A flow has three candidate sets of one lock stripe. Look-up takes
 * no lock; insertion (insert.h), renewal and verdicts do.
 */
#ifndef XDPPROBE_FLOW_H
#define XDPPROBE_FLOW_H

#include "counters.h"
#include "parse.h"
#include "siphash.h"

/* Ages from here on are of the future. A capture's times may go back. */
static __always_inline __u32 age_limit(void)
{
	return replaying ? 1U << 31 : -(__u32)AGE_SLACK;
}

static __always_inline __u32 age_of(__u32 now, __u32 then)
{
	__u32 age = now - then;

	return age < age_limit() ? age : 0;
}

static __always_inline __u32 flow_age(const struct flow_hot *f, __u32 now)
{
	__u32 a = age_of(now, f->seen[0]), b = age_of(now, f->seen[1]);

	return a < b ? a : b;
}

static __always_inline __u32 flow_idle_limit(const struct flow_hot *f)
{
	if (f->state == FLOW_ESTABLISHED)
		return idle_established;
	return f->state == FLOW_CLOSED ? idle_closed : idle_new;
}

/* Canonical order: the endpoint that compares lower is endpoint 0. Any total
 * order will do, so words are compared as they lie in memory. */
static __always_inline bool packet_reversed(const struct packet *p)
{
	if (p->source[1] != p->destination[1])
		return p->source[1] > p->destination[1];
	if (p->source[0] != p->destination[0])
		return p->source[0] > p->destination[0];
	return p->source_port > p->destination_port;
}

/*
 * Where a flow may live, by its tag: at home, which is a way of its first set;
 * elsewhere in that set; in the second set; in the third one. All three sets are
 * of one lock stripe: they differ only in the bits above lock_mask. With 2^21 sets,
 * which are the most, and their 2^10 stripes (fewer sets need fewer bits):
 *
 *   63   61 60        50 49   45 44        34 33  21 20          0
 *  +-------+------------+-------+------------+------+-------------+
 *  | home's| third set, |       | second set,|      |  first set  |
 *  | way   | ^ first    |       | ^ first    |      |             |
 *  +-------+------------+-------+------------+------+-------------+
 */
static __always_inline __u32 first_set(__u64 tag)
{
	return (__u32)tag & set_mask;
}

/* Never the first one. */
static __always_inline __u32 second_set(__u64 tag)
{
	__u32 other = (__u32)(tag >> 24) & set_mask & ~lock_mask;

	if (!other)
		other = lock_mask + 1;
	return (first_set(tag) ^ other) & set_mask;
}

/* May be one of the others: so few flows come here that it does not matter. */
static __always_inline __u32 third_set(__u64 tag)
{
	__u32 other = (__u32)(tag >> 40) & set_mask & ~lock_mask;

	return first_set(tag) ^ other;
}

static __always_inline __u32 home_way(__u64 tag)
{
	return tag >> 61;
}

/* The tag of the packet's flow, its first set, the packet's direction. */
static __always_inline void place_of(const struct packet *p, struct place *at)
{
	bool reversed = packet_reversed(p);
	const __u64 *low = reversed ? p->destination : p->source;
	const __u64 *high = reversed ? p->source : p->destination;
	__u16 low_port = reversed ? p->destination_port : p->source_port;
	__u16 high_port = reversed ? p->source_port : p->destination_port;
	struct siphash h;

	sip_begin(&h);
	if (p->ipv6) {
		sip_word(&h, low[0]);
		sip_word(&h, low[1]);
		sip_word(&h, high[0]);
		sip_word(&h, high[1]);
	} else {
		sip_word(&h, (low[1] & ~0xffffffffULL) | high[1] >> 32);
	}
	sip_word(&h, (__u64)low_port << 48 | (__u64)high_port << 32 |
			     (__u64)p->vlan << 16 | p->l4 << 8 | p->ipv6);
	/* Networks may use the same addresses; inputs with and without this word
	 * differ in their last one, for no port pair looks like it. */
	if (tunnels && p->tunnel_id)
		sip_word(&h, (__u64)p->tunnel_id << 32 | 0xffffffffU);
	at->tag = sip_end(&h);
	if (!at->tag)
		at->tag = 1;
	at->direction = reversed;
	at->primary = first_set(at->tag);
}

/* The way of a tag, or FLOW_WAYS. The search begins at home, and so does
 * insertion: whoever is not there mostly is near. */
static __always_inline __u32 set_find(const struct flow_set *set, __u64 tag)
{
	__u32 home = home_way(tag);

#pragma unroll
	for (int i = 0; i < FLOW_WAYS; i++) {
		__u32 way = (home + i) & (FLOW_WAYS - 1);

		if (set->way[way].tag == tag)
			return way;
	}
	return FLOW_WAYS;
}

static __always_inline struct flow_hot *set_entry(struct flow_set *set,
						  __u32 index, struct place *at)
{
	__u32 way = set_find(set, at->tag);

	if (way >= FLOW_WAYS)
		return NULL;
	at->set = index;
	at->way = way;
	return &set->way[way];
}

static __always_inline struct flow_hot *set_search(__u32 index,
						   struct place *at)
{
	struct flow_set *set = bpf_map_lookup_elem(&flow_hot, &index);

	return set ? set_entry(set, index, at) : NULL;
}

/* The packet's entry, or NULL. Mostly one cache line answers either way: the
 * flow is at home, or home says that none of its flows lives elsewhere. */
static __always_inline struct flow_hot *flow_find(struct place *at)
{
	struct flow_set *set = bpf_map_lookup_elem(&flow_hot, &at->primary);
	struct flow_hot *home, *f = NULL;

	if (!set)
		return NULL;
	at->set = at->primary;
	at->way = home_way(at->tag);
	home = &set->way[home_way(at->tag)];
	if (home->tag == at->tag)
		return home;
	if (home->away & AWAY_NEAR_MASK)
		f = set_entry(set, at->primary, at);
	if (!f && home->away & AWAY_SECOND_MASK)
		f = set_search(second_set(at->tag), at);
	if (!f && home->away & AWAY_THIRD)
		f = set_search(third_set(at->tag), at);
	return f;
}

static __always_inline struct flow_hot *flow_at(__u32 index)
{
	__u32 key = index / FLOW_WAYS;
	struct flow_set *set = bpf_map_lookup_elem(&flow_hot, &key);

	if (!set)
		return NULL;
	opaque(set);
	return &set->way[index & (FLOW_WAYS - 1)];
}

static __always_inline struct flow_cold *cold_at(__u32 index)
{
	__u32 key = index / FLOW_WAYS;
	struct cold_set *set = bpf_map_lookup_elem(&flow_cold, &key);

	if (!set)
		return NULL;
	opaque(set);
	return &set->way[index & (FLOW_WAYS - 1)];
}

static __always_inline __u32 place_index(const struct place *at)
{
	return at->set * FLOW_WAYS + (at->way & (FLOW_WAYS - 1));
}

#endif /* XDPPROBE_FLOW_H */
