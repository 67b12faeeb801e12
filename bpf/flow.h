/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The flow table: a set-associative cache in two arrays, hot and cold, at the
 * same index. A flow has two candidate sets of one lock stripe. Look-up takes
 * no lock; insertion, renewal and verdicts do.
 */
#ifndef XDPPROBE_FLOW_H
#define XDPPROBE_FLOW_H

#include "events.h"
#include "parse.h"
#include "siphash.h"

/* What a newly born flow pushed out of its slot. */
struct departed {
	struct flow_hot hot;
	enum record_kind kind;
	bool any;
};

static __always_inline __u32 age_of(__u32 now, __u32 then)
{
	__s32 age = now - then;

	return age > 0 ? age : 0;
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

/* The tag, and from it the two sets. Both belong to one lock stripe: they
 * differ only in the bits above lock_mask. */
static __always_inline void place_of(const struct packet *p, struct place *at)
{
	bool reversed = packet_reversed(p);
	const __u64 *low = reversed ? p->destination : p->source;
	const __u64 *high = reversed ? p->source : p->destination;
	__u16 low_port = reversed ? p->destination_port : p->source_port;
	__u16 high_port = reversed ? p->source_port : p->destination_port;
	struct siphash h;
	__u32 other;

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
	at->tag = sip_end(&h);
	if (!at->tag)
		at->tag = 1;
	at->direction = reversed;
	at->primary = (__u32)at->tag & set_mask;
	other = (__u32)(at->tag >> 24) & set_mask & ~lock_mask;
	if (!other)
		other = lock_mask + 1;
	at->secondary = (at->primary ^ other) & set_mask;
}

/* The way of a tag, or FLOW_WAYS. The search starts where the tag says, and so
 * does insertion: in a table that is not full the first look mostly hits. */
static __always_inline __u32 set_find(const struct flow_set *set, __u64 tag)
{
	__u32 start = tag >> 61;

#pragma unroll
	for (int i = 0; i < FLOW_WAYS; i++) {
		__u32 way = (start + i) & (FLOW_WAYS - 1);

		if (set->way[way].tag == tag)
			return way;
	}
	return FLOW_WAYS;
}

static __always_inline struct flow_hot *flow_find(struct place *at)
{
	struct flow_set *set = bpf_map_lookup_elem(&flow_hot, &at->primary);
	__u32 way;

	if (!set)
		return NULL;
	at->set = at->primary;
	way = set_find(set, at->tag);
	if (way >= FLOW_WAYS) {
		if (!set->way[0].away)
			return NULL;
		set = bpf_map_lookup_elem(&flow_hot, &at->secondary);
		if (!set)
			return NULL;
		at->set = at->secondary;
		way = set_find(set, at->tag);
		if (way >= FLOW_WAYS)
			return NULL;
	}
	at->way = way;
	return &set->way[way & (FLOW_WAYS - 1)];
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

/* How willingly an entry is given up: free, then expired, then unestablished,
 * then the one silent for longest. */
#define RANK_FREE 0xffffffffU
#define RANK_EXPIRED 0xc0000000U
#define RANK_NEW 0x80000000U
#define RANK_AGE_MAX 0x3ffffffeU

static __always_inline __u32 flow_rank(const struct flow_hot *f, __u32 now)
{
	__u32 age;

	if (!f->tag)
		return RANK_FREE;
	age = flow_age(f, now);
	if (age > RANK_AGE_MAX)
		age = RANK_AGE_MAX;
	if (age > flow_idle_limit(f))
		return RANK_EXPIRED + age;
	return (f->state == FLOW_ESTABLISHED ? 0 : RANK_NEW) + age;
}

static __always_inline void set_survey(const struct flow_set *set, __u64 tag,
				       __u32 now, volatile struct survey *out)
{
	__u32 start = tag >> 61;

	out->found = FLOW_WAYS;
	out->rank = 0;
	out->best = start;
	out->live = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < FLOW_WAYS; i++) {
		__u32 way = (start + i) & (FLOW_WAYS - 1);
		const struct flow_hot *f = &set->way[way];
		__u32 rank = flow_rank(f, now);

		if (f->tag == tag)
			out->found = way;
		if (rank > out->rank) {
			out->rank = rank;
			out->best = way;
		}
		if (rank < RANK_EXPIRED)
			out->live++;
	}
}

/* Could the second set be the better place? Not while the first one has room to
 * spare; and not once it is full of unestablished flows: a flood shall push out
 * itself, and not touch twice as many cache lines in doing so. */
static __always_inline bool second_matters(volatile struct survey *a)
{
	if (a->live < SET_COMFORT)
		return false;
	return a->live < FLOW_WAYS || a->rank < RANK_NEW;
}

/* True: the second set takes the flow. */
static __always_inline bool prefer_second(volatile struct survey *a,
					  volatile struct survey *b)
{
	if (b->live < FLOW_WAYS)
		return b->live < a->live;
	return a->live == FLOW_WAYS && b->rank > a->rank;
}

/* Under the lock: take the counters out, so that what another CPU still adds
 * goes to the slot's next flow and no packet is lost from the sum. */
static __always_inline void flow_take_out(struct flow_hot *f,
					  struct departed *gone, __u32 rank)
{
	gone->any = f->tag != 0;
	gone->hot = *f;
	f->tag = 0;
	gone->hot.packets[0] = __sync_lock_test_and_set(&f->packets[0], 0);
	gone->hot.packets[1] = __sync_lock_test_and_set(&f->packets[1], 0);
	gone->hot.bytes[0] = __sync_lock_test_and_set(&f->bytes[0], 0);
	gone->hot.bytes[1] = __sync_lock_test_and_set(&f->bytes[1], 0);
	gone->kind = rank >= RANK_EXPIRED ? RECORD_EXPIRED : RECORD_EVICTED;
}

/* Count a flow in or out of its home set's `away`: the flows that live in their
 * second set. An atomic addition to the word of which it is the second byte;
 * the count stays below 256, for a stripe has no more entries. */
static __always_inline void away_add(struct flow_set *home, __s32 one)
{
	__sync_fetch_and_add((__u32 *)&home->way[0].state, one << 8);
}

/* The departed flow's home may be any set of the stripe, and under the lock no
 * map can be looked up: so afterwards. Until then the count is one too high,
 * which costs a look. */
static __always_inline void away_leave(const struct departed *gone, __u32 here)
{
	__u32 home = (__u32)gone->hot.tag & set_mask;
	struct flow_set *set;

	if (home == here)
		return;
	set = bpf_map_lookup_elem(&flow_hot, &home);
	if (set)
		away_add(set, -1);
}

static __always_inline void flow_write_hot(struct flow_hot *f,
					   const struct packet *p,
					   const struct place *at)
{
	bool answer = (p->tcp_flags & (TCP_SYN | TCP_ACK)) ==
		      (TCP_SYN | TCP_ACK);
	__u32 initiator = answer ? !at->direction : at->direction;
	__u16 protocol = l4_protocol[p->l4];

	f->seen[0] = f->seen[1] = at->now;
	f->app = 0;
	f->protocol = protocol;
	f->app_method = METHOD_NONE;
	f->protocol_method = protocol ? METHOD_PATTERN : METHOD_NONE;
	f->app_confidence = 0;
	f->protocol_confidence = protocol ? 100 : 0;
	f->owner[0] = f->owner[1] = 0;
	f->spent[0] = f->spent[1] = 0;
	f->state = FLOW_NEW;
	f->flags = (initiator ? FLOW_INITIATOR_1 : 0) |
		   (p->tcp_flags & TCP_SYN ? FLOW_INITIATOR_SURE : 0) |
		   (protocol ? FLOW_FINAL : 0);
}

static __always_inline void flow_write_cold(struct flow_cold *c,
					    const struct packet *p,
					    const struct place *at,
					    __u64 birth_ns)
{
	__u32 from = at->direction & 1, to = from ^ 1;

	__builtin_memcpy(c->address[from], p->source, 16);
	__builtin_memcpy(c->address[to], p->destination, 16);
	__builtin_memcpy(c->port[from], &p->source_port, 2);
	__builtin_memcpy(c->port[to], &p->destination_port, 2);
	c->vlan = p->vlan;
	c->l4 = p->l4;
	c->slot = slot;
	c->first_ns = birth_ns;
	c->name = 0;
	c->isn[0] = c->isn[1] = 0;
	c->named_after = 0;
	c->reported = at->now;
	c->tag = at->tag;
}

/* What left the table goes to its label's account. */
static __always_inline void flow_retire(const struct flow_hot *f)
{
	__u32 label = f->app ? f->app : f->protocol;
	__u32 first = f->flags & FLOW_INITIATOR_1;
	__u32 stripe = bpf_get_smp_processor_id() & (retired_stripes - 1);
	__u32 key = stripe * MAX_LABELS + (label & (MAX_LABELS - 1));
	struct retired_value *r = bpf_map_lookup_elem(&retired, &key);

	if (!r)
		return;
	__sync_fetch_and_add(&r->flows, 1);
	if (f->packets[0]) {
		__sync_fetch_and_add(&r->packets[first], f->packets[0]);
		__sync_fetch_and_add(&r->bytes[first], f->bytes[0]);
	}
	if (f->packets[1]) {
		__sync_fetch_and_add(&r->packets[!first], f->packets[1]);
		__sync_fetch_and_add(&r->bytes[!first], f->bytes[1]);
	}
}

/* Count why a flow left, and tell the readers; scratch.record.cold holds its
 * cold entry. A closed flow was reported when it closed. */
static __always_inline void flow_depart(struct scratch *s,
					const struct departed *gone,
					__u32 active, __u32 now)
{
	flow_retire(&gone->hot);
	if (gone->hot.state == FLOW_CLOSED)
		return;
	if (gone->kind == RECORD_EXPIRED)
		count(INFO_EXPIRED);
	else if (gone->hot.state == FLOW_ESTABLISHED)
		count(LOSS_EVICTED_ESTABLISHED);
	else
		count(LOSS_EVICTED_NEW);
	if (!active) {
		count(INFO_NO_READER);
		return;
	}
	s->record.hot = gone->hot;
	s->record.name[0] = 0;
	record_send(s, active, gone->kind, now);
}

static __always_inline __u64 birth_time(void)
{
	__u32 zero = 0;
	struct replay_value *r;

	if (!replaying)
		return bpf_ktime_get_coarse_ns();
	r = bpf_map_lookup_elem(&replay, &zero);
	return r ? r->time_ns : 0;
}

/*
 * Make an entry for the packet's flow, or, with `renew`, a new flow in the
 * place of the expired or closed one of the same key. Looks again under the
 * lock: of two CPUs that meet the same new flow, the second finds the entry of
 * the first. Global: verified once, and out of established flows' way. 0, or
 * -1 where a map look-up failed; the entry's place is in scratch.place.
 */
__noinline int flow_insert(__u32 renew)
{
	struct scratch *s = scratch_get();
	struct flow_set *first, *second;
	struct cold_set *first_cold, *second_cold;
	__u32 stripe, way, rank, active = readers_active();
	__u64 birth_ns = birth_time();
	struct departed gone = {};
	volatile struct survey *a, *b, *place;
	bool use_second, found;
	struct stripe *guard;
	struct flow_cold *c;
	struct flow_hot *f;
	struct packet *p;
	struct place *at;

	if (!s)
		return -1;
	opaque(s);
	p = &s->packet;
	at = &s->place;
	stripe = at->primary & lock_mask;
	guard = bpf_map_lookup_elem(&flow_lock, &stripe);
	first = bpf_map_lookup_elem(&flow_hot, &at->primary);
	second = bpf_map_lookup_elem(&flow_hot, &at->secondary);
	first_cold = bpf_map_lookup_elem(&flow_cold, &at->primary);
	second_cold = bpf_map_lookup_elem(&flow_cold, &at->secondary);
	if (!first || !second || !first_cold || !second_cold || !guard)
		return -1;
	a = &s->survey[0];
	b = &s->survey[1];
	bpf_spin_lock(&guard->lock);
	set_survey(first, at->tag, at->now, a);
	b->found = FLOW_WAYS;
	use_second = false;
	if (a->found >= FLOW_WAYS &&
	    (first->way[0].away || second_matters(a))) {
		set_survey(second, at->tag, at->now, b);
		use_second = b->found < FLOW_WAYS ||
			     (second_matters(a) && prefer_second(a, b));
	}
	place = use_second ? b : a;
	found = place->found < FLOW_WAYS;
	way = found ? place->found : place->best;
	rank = found ? RANK_EXPIRED : place->rank;
	opaque(way);
	way &= FLOW_WAYS - 1;
	f = use_second ? &second->way[way] : &first->way[way];
	c = use_second ? &second_cold->way[way] : &first_cold->way[way];
	/* Another CPU may have renewed it just now: then its age is small. */
	if (!found || (renew && (f->state == FLOW_CLOSED ||
				 flow_age(f, at->now) > flow_idle_limit(f)))) {
		if (active)
			s->record.cold = *c;
		flow_take_out(f, &gone, rank);
		if (use_second)
			away_add(first, 1);
		flow_write_hot(f, p, at);
		flow_write_cold(c, p, at, birth_ns);
		/* A reader that sees the tag before the rest finds another tag
		 * in the cold entry; other CPUs wait for the unlock. */
		*(volatile __u64 *)&f->tag = at->tag;
	}
	bpf_spin_unlock(&guard->lock);
	at->set = use_second ? at->secondary : at->primary;
	at->way = way;
	if (gone.any) {
		away_leave(&gone, at->set);
		flow_depart(s, &gone, active, at->now);
	}
	return 0;
}

#endif /* XDPPROBE_FLOW_H */
