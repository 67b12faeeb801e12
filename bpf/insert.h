/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A flow's birth: take out what was in the slot (victim.h), write the entry,
 * send the departed flow's counters to its label's account.
 *
 * In a full table this is the dearest thing that a packet without payload can
 * cause, and most of it is waiting for memory. So the newborn's first packet is
 * counted by the exchange that takes the old counters out, and no atomic
 * operation follows the stores to the cold entry: it would wait until the cache
 * line has come.
 */
#ifndef XDPPROBE_INSERT_H
#define XDPPROBE_INSERT_H

#include "events.h"
#include "lock.h"
#include "peers.h"
#include "resolved.h"
#include "victim.h"

/* What a newly born flow pushed out of its slot. */
struct departed {
	__u64 tag;
	__u64 packets[DIRECTIONS];
	__u64 bytes[DIRECTIONS];
	__u16 label;
	__u8 initiator;
	__u8 state;
	__u32 expired;
};

/* Where a counter is zero and shall stay so, it is left alone. */
static __always_inline __u64 exchange(__u64 *counter, __u64 value)
{
	if (*(volatile __u64 *)counter == value && !value)
		return 0;
	return __sync_lock_test_and_set(counter, value);
}

/* Under the lock: exchange the counters with the newborn's, so that what
 * another CPU still adds goes to the slot's next flow and no packet is lost
 * from the sum. */
static __always_inline void flow_take_out(struct flow_hot *f,
					  struct departed *gone,
					  const struct scratch *s)
{
	__u32 d = s->place.direction & 1;
	__u64 packets = s->wire.packets, bytes = s->wire.bytes;
	__u64 mask = 0 - (__u64)d;

	gone->tag = f->tag;
	gone->label = f->app ? f->app : f->protocol;
	gone->initiator = f->flags & FLOW_INITIATOR_1;
	gone->state = f->state;
	f->tag = 0;
	gone->packets[0] = exchange(&f->packets[0], packets & ~mask);
	gone->packets[1] = exchange(&f->packets[1], packets & mask);
	gone->bytes[0] = exchange(&f->bytes[0], bytes & ~mask);
	gone->bytes[1] = exchange(&f->bytes[1], bytes & mask);
}

/* Count a flow that lives in set `index` and way `way` in or out of its home's
 * `away`, unless that is where it lives. An atomic addition to the word of which
 * `away` is the second byte, since marks are set without the lock. */
static __always_inline void away_add(__u64 tag, __u32 index, __u32 way,
				     __s32 one)
{
	__u32 primary = first_set(tag);
	struct flow_set *set;

	if (primary == index && home_way(tag) == way)
		return;
	set = bpf_map_lookup_elem(&flow_hot, &primary);
	if (index == primary)
		one *= AWAY_NEAR;
	else if (index == second_set(tag))
		one *= AWAY_SECOND;
	else
		one *= AWAY_THIRD;
	if (set)
		__sync_fetch_and_add((__u32 *)&set->way[home_way(tag)].state,
				     one << 8);
}

/* What the first packet says of its flow; later ones: track.h. */
static __always_inline __u16 birth_flags(const struct packet *p, __u32 d,
					 __u16 protocol, bool crowded)
{
	bool tcp = p->l4 == IPPROTO_TCP;
	bool syn = tcp && p->tcp_flags & TCP_SYN;
	bool ack = p->tcp_flags & TCP_ACK;
	__u32 initiator = syn && ack ? !d : d;
	__u16 flags = initiator ? FLOW_INITIATOR_1 : 0;

	if (crowded)
		flags |= FLOW_CROWDED;
	if (syn)
		flags |= FLOW_ISN_0 << d;
	if (!tcp || ack)
		flags |= FLOW_ANSWERED_0 << d;
	if (protocol)
		flags |= FLOW_FINAL;
	return flags;
}

static __always_inline void
flow_write_hot(struct flow_hot *f, const struct scratch *s, bool crowded)
{
	const struct packet *p = &s->packet;
	const struct peer_state *peer = &s->peer;
	__u32 d = s->place.direction & 1;
	__u16 protocol = l4_protocol[p->l4];

	f->seen[0] = f->seen[1] = s->place.now;
	if (s->place.told) { /* of METHOD_DNS, which is above peers */
		f->app = s->place.told;
		f->app_method = METHOD_DNS;
		f->app_confidence = RESOLVED_CONFIDENCE;
	} else {
		f->app = peer->app;
		f->app_method = peer->app ? peer->method : METHOD_NONE;
		f->app_confidence = peer->app ? peer->confidence : 0;
	}
	if (protocol) {
		f->protocol = protocol;
		f->protocol_method = METHOD_PATTERN;
		f->protocol_confidence = 100;
	} else {
		f->protocol = peer->protocol;
		f->protocol_method = peer->protocol ? peer->method :
						      METHOD_NONE;
		f->protocol_confidence = peer->protocol ? peer->confidence : 0;
	}
	f->owner[d] = s->place.port;
	f->owner[d ^ 1] = 0;
	f->spent[0] = f->spent[1] = 0;
	f->state = s->wire.packets > ESTABLISHED_PACKETS ? FLOW_ESTABLISHED :
							   FLOW_NEW;
	f->flags = birth_flags(p, d, protocol, crowded);
}

static __always_inline void
flow_write_cold(struct flow_cold *c, const struct scratch *s, __u64 birth_ns)
{
	const struct packet *p = &s->packet;
	__u32 from = s->place.direction & 1, to = from ^ 1;

	*(volatile __u64 *)&c->tag = 0;
	__builtin_memcpy(c->address[from], p->source, 16);
	__builtin_memcpy(c->address[to], p->destination, 16);
	__builtin_memcpy(c->port[from], &p->source_port, 2);
	__builtin_memcpy(c->port[to], &p->destination_port, 2);
	c->vlan = p->vlan;
	c->l4 = p->l4;
	c->slot = slot;
	c->tunnel = p->tunnel;
	c->tunnel_id = p->tunnel_id;
	c->stage = 0;
	c->asking = 0;
	c->tls_version = 0;
	c->tls_flags = 0;
	c->hello = 0;
	c->first_ns = birth_ns;
	c->name = 0;
	c->isn[from] = p->sequence;
	c->isn[to] = 0;
	c->named_after = 0;
	c->reported = s->place.now;
	*(volatile __u64 *)&c->tag = s->place.tag;
}

static __always_inline void account(__u64 *sum, __u64 value)
{
	if (retired_shared)
		__sync_fetch_and_add(sum, value);
	else
		*sum += value;
}

/* What left the table goes to its label's account. */
static __always_inline void flow_retire(const struct departed *gone)
{
	__u32 first = gone->initiator & 1;
	__u32 stripe = bpf_get_smp_processor_id() & (retired_stripes - 1);
	__u32 key = stripe * MAX_LABELS + (gone->label & (MAX_LABELS - 1));
	struct retired_value *r = bpf_map_lookup_elem(&retired, &key);

	if (!r)
		return;
	account(&r->flows, 1);
	account(&r->packets[first], gone->packets[0]);
	account(&r->bytes[first], gone->bytes[0]);
	account(&r->packets[first ^ 1], gone->packets[1]);
	account(&r->bytes[first ^ 1], gone->bytes[1]);
}

/* Count why a flow left, and tell the readers; scratch.record has its entry. A
 * closed flow was reported when it closed. */
static __always_inline void flow_depart(struct scratch *s,
					const struct departed *gone,
					__u32 active, __u32 now)
{
	flow_retire(gone);
	if (gone->state == FLOW_CLOSED)
		return;
	if (gone->expired)
		count(INFO_EXPIRED);
	else if (gone->state == FLOW_ESTABLISHED)
		count(LOSS_EVICTED_ESTABLISHED);
	else
		count(LOSS_EVICTED_NEW);
	if (!active) {
		count(INFO_NO_READER);
		return;
	}
	for (int d = 0; d < DIRECTIONS; d++) {
		s->record.hot.packets[d] = gone->packets[d];
		s->record.hot.bytes[d] = gone->bytes[d];
	}
	s->record.name[0] = 0;
	record_send(s, active, gone->expired ? RECORD_EXPIRED : RECORD_EVICTED,
		    now);
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

/* Under the lock: the slot in scratch.place, where there is what `class` says,
 * becomes the packet's flow. */
static __always_inline void flow_bear(struct scratch *s, struct flow_hot *f,
				      struct flow_cold *c, int class,
				      struct departed *gone)
{
	const struct place *at = &s->place;

	flow_take_out(f, gone, s);
	if (class != CLASS_FOUND) {
		if (gone->tag)
			away_add(gone->tag, at->set, at->way, -1);
		away_add(at->tag, at->set, at->way, 1);
	}
	flow_write_hot(f, s, class == CLASS_UNSURE);
	flow_write_cold(c, s, birth_time());
	s->place.born = 1;
	/* A reader that sees the tag before the rest finds another tag in the
	 * cold entry. */
	if (weak_memory)
		__sync_lock_test_and_set(&f->tag, at->tag);
	else
		*(volatile __u64 *)&f->tag = at->tag;
}

/*
 * Does the packet begin a new connection with the old one's addresses and ports?
 * On a closed flow a SYN does; one with a sequence number of its own also where a
 * FIN was seen (of a connection whose other direction goes another way), or
 * nothing for some time. Else it may be forged, and would make the flow lose its
 * name.
 */
static __always_inline bool syn_renews(const struct flow_hot *f,
				       const struct packet *p,
				       const struct place *at)
{
	__u32 d = at->direction & 1;
	bool ack = p->tcp_flags & TCP_ACK;
	struct flow_cold *c;

	if (replaying || p->l4 != IPPROTO_TCP || !(p->tcp_flags & TCP_SYN))
		return false;
	if (f->state == FLOW_CLOSED && !ack)
		return true;
	c = cold_at(place_index(at));
	if (!c ||
	    (f->flags & (__u32)FLOW_ISN_0 << d && c->isn[d] == p->sequence))
		return false;
	if (ack)
		return f->state == FLOW_CLOSED;
	return f->flags & (FLOW_FIN_0 | FLOW_FIN_1) ||
	       flow_age(f, at->now) > owner_timeout;
}

/* Under the lock: another CPU may have renewed the flow just now. */
static __always_inline bool flow_over(const struct flow_hot *f,
				      const struct packet *p,
				      const struct place *at)
{
	return f->state == FLOW_CLOSED ||
	       flow_age(f, at->now) > flow_idle_limit(f) ||
	       syn_renews(f, p, at);
}

/* Begin to fetch what a birth at home will write, while the set is fetched. */
static __always_inline void cold_fetch(const struct place *at)
{
	struct cold_set *set = bpf_map_lookup_elem(&flow_cold, &at->primary);
	volatile struct flow_cold *c;
	__u64 first, last;

	if (!set)
		return;
	c = &set->way[home_way(at->tag)];
	first = c->tag;
	last = c->name;
	opaque(first);
	opaque(last);
}

/*
 * Make an entry for the packet's flow, its first packet counted; or, with
 * `renew`, a new flow in the place of the expired or closed one of the same
 * key. Looks again under the lock: of two CPUs that meet the same new flow, the
 * second finds the entry of the first. Global: verified once, and out of
 * established flows' way. PARSED, or the reason why there is no entry; the
 * entry's place is in scratch.place.
 */
__noinline int flow_insert(__u32 renew)
{
	struct scratch *s = scratch_get();
	__u32 active = readers_active();
	struct departed gone = {};
	struct stripe *guard;
	struct flow_cold *c;
	struct flow_hot *f;
	struct place *at;
	int class;

	if (!s)
		return REASON_NO_MAP;
	opaque(s);
	at = &s->place;
	cold_fetch(at);
	peer_look(s);
	at->told = resolved_find(&s->packet, at->now);
	guard = lock_take(at->primary & lock_mask);
	if (!guard)
		return REASON_TABLE_BUSY;
	class = slot_choose();
	f = flow_at(place_index(at));
	c = cold_at(place_index(at));
	if (class >= 0 && f && c &&
	    (class != CLASS_FOUND || (renew && flow_over(f, &s->packet, at)))) {
		if (active) {
			s->record.hot = *f;
			s->record.cold = *c;
		}
		flow_bear(s, f, c, class, &gone);
	}
	lock_release(guard);
	if (gone.tag) {
		gone.expired = class >= CLASS_EXPIRED;
		flow_depart(s, &gone, active, at->now);
	}
	return class < 0 ? REASON_NO_MAP : PARSED;
}

#endif /* XDPPROBE_INSERT_H */
