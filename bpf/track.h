/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a packet does to its flow: counters, ownership, state. On an established
 * flow that is two additions and a few comparisons.
 */
#ifndef XDPPROBE_TRACK_H
#define XDPPROBE_TRACK_H

#include "insert.h"

/* Set flag bits. `flags` is the upper half of an aligned word of which `state`
 * is the lowest byte (both supported machines are little endian): an atomic
 * operation of 16 bits does not exist. */
static __always_inline void flow_mark(struct flow_hot *f, __u32 bits)
{
	if ((f->flags & bits) != bits)
		__sync_fetch_and_or((__u32 *)&f->state, bits << 16);
}

static __always_inline void flow_unmark(struct flow_hot *f, __u32 bits)
{
	if (f->flags & bits)
		__sync_fetch_and_and((__u32 *)&f->state, ~(bits << 16));
}

/* Change the state, if it is still `from`. True: this CPU did it, and no other.
 * By word, as flow_mark; an upset by another CPU's mark is tried again. */
static __always_inline bool flow_turn(struct flow_hot *f, __u32 from, __u32 to)
{
	__u32 *at = (__u32 *)&f->state;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 4; i++) {
		__u32 word = *(volatile __u32 *)at;

		if ((word & 0xff) != from)
			return false;
		if (__sync_val_compare_and_swap(at, word,
						(word & ~0xffU) | to) == word)
			return true;
	}
	return false;
}

/* 0.0.0.0 (v4-mapped) or ::, which is not one host's address (RFC 1122,
 * 3.2.1.3; RFC 4291, 2.5.2): DHCP discovery, duplicate address detection. */
static __always_inline bool source_unspecified(const struct packet *p)
{
	return !p->source[0] && !(p->source[1] >> 32);
}

/* Only the (interface, hook) that saw a direction first counts and inspects it,
 * so that a packet which crosses two interfaces counts once. Hosts without an
 * address share their flows: those packets are not the same ones. */
static __always_inline bool
flow_owned(struct flow_hot *f, const struct packet *p, const struct place *at)
{
	__u32 d = at->direction & 1;
	__u8 port = at->port;

	if (f->owner[d] == port || source_unspecified(p))
		return true;
	if (f->owner[d] && age_of(at->now, f->seen[d]) <= owner_timeout)
		return false;
	f->owner[d] = port;
	return true;
}

/* Tell the readers of the flow in scratch.place. Global: verified once. */
__noinline int flow_report(__u32 kind)
{
	__u32 active = readers_active();
	struct scratch *s = scratch_get();
	struct flow_hot *f;
	struct flow_cold *c;
	struct place *at;

	if (!s)
		return 0;
	opaque(s);
	at = &s->place;
	f = flow_at(place_index(at));
	c = cold_at(place_index(at));
	if (!f || !c)
		return 0;
	if (kind == RECORD_ACTIVE) {
		if (age_of(at->now, c->reported) < active_timeout)
			return 0;
		c->reported = at->now;
	}
	if (!active) {
		count(INFO_NO_READER);
		return 0;
	}
	s->record.hot = *f;
	s->record.cold = *c;
	s->record.name[0] = 0;
	record_send(s, active, kind, at->now);
	return 0;
}

/* Active time-outs are looked at when a flow's clock enters another span of
 * 2^ACTIVE_SPAN jiffies, which leaves the cold entry alone at other times. */
#define ACTIVE_SPAN 12

static __always_inline void
flow_count(struct flow_hot *f, const struct place *at, const struct wire *w)
{
	__u32 d = at->direction & 1;
	__u32 seen = f->seen[d];

	__sync_fetch_and_add(&f->packets[d], w->packets);
	__sync_fetch_and_add(&f->bytes[d], w->bytes);
	if (seen == at->now)
		return;
	f->seen[d] = at->now;
	if ((seen ^ at->now) >> ACTIVE_SPAN)
		flow_report(RECORD_ACTIVE);
}

/* A SYN on a connection that stands, or whose direction had one, says nothing: it
 * is the same one again, or a forged one, which the other end answers with no
 * more than an ACK (RFC 5961, 4.2). A new connection's: syn_renews(). */
static __always_inline void
track_syn(struct flow_hot *f, const struct packet *p, const struct place *at)
{
	__u32 d = at->direction & 1;
	struct flow_cold *c = cold_at(place_index(at));
	__u32 initiator = p->tcp_flags & TCP_ACK ? !d : d;

	if (!c || f->state != FLOW_NEW || f->flags & (__u32)FLOW_ISN_0 << d)
		return;
	c->isn[d] = p->sequence;
	flow_mark(f, (__u32)FLOW_ISN_0 << d);
	if (initiator)
		flow_mark(f, FLOW_INITIATOR_1);
	else
		flow_unmark(f, FLOW_INITIATOR_1);
}

static __always_inline void
track_end(struct flow_hot *f, const struct packet *p, const struct place *at)
{
	__u32 both = FLOW_FIN_0 | FLOW_FIN_1, d = at->direction & 1;
	__u32 state = f->state;

	if (p->tcp_flags & TCP_FIN)
		flow_mark(f, (__u32)FLOW_FIN_0 << d);
	if (p->tcp_flags & TCP_RST)
		flow_mark(f, (__u32)FLOW_RST_0 << d);
	if (state == FLOW_CLOSED)
		return;
	if (!(p->tcp_flags & TCP_RST) && (f->flags & both) != both)
		return;
	/* Another CPU may just have found it established. */
	if (!flow_turn(f, state, FLOW_CLOSED) &&
	    !flow_turn(f, FLOW_ESTABLISHED, FLOW_CLOSED))
		return;
	count(INFO_CLOSED);
	flow_report(RECORD_ENDED);
}

/* Who goes on sending has not sent the RST that was seen: a forged one, which
 * the other end ignores for its sequence number (RFC 5961, 3.2). */
static __always_inline void track_revival(struct flow_hot *f,
					  const struct packet *p,
					  const struct place *at)
{
	__u32 d = at->direction & 1, fins = FLOW_FIN_0 | FLOW_FIN_1;

	if (!(f->flags & (__u32)FLOW_RST_0 << d) || p->tcp_flags & TCP_RST)
		return;
	flow_unmark(f, (__u32)FLOW_RST_0 << d);
	if (f->flags & (__u32)FLOW_RST_0 << (d ^ 1) ||
	    (f->flags & fins) == fins)
		return;
	flow_turn(f, FLOW_CLOSED, FLOW_ESTABLISHED);
}

static __always_inline void
flow_track(struct flow_hot *f, const struct packet *p, const struct place *at)
{
	__u32 both = FLOW_ANSWERED_0 | FLOW_ANSWERED_1;
	bool tcp = p->l4 == IPPROTO_TCP;

	if (f->state == FLOW_NEW) {
		if (tcp ? p->tcp_flags & TCP_ACK : 1)
			flow_mark(f, (__u32)FLOW_ANSWERED_0
					     << (at->direction & 1));
		if ((f->flags & both) == both ||
		    f->packets[0] + f->packets[1] > ESTABLISHED_PACKETS)
			flow_turn(f, FLOW_NEW, FLOW_ESTABLISHED);
	} else if (f->state == FLOW_CLOSED && tcp) {
		track_revival(f, p, at);
	}
	if (tcp && (p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST))) {
		if (p->tcp_flags & TCP_SYN)
			track_syn(f, p, at);
		else
			track_end(f, p, at);
	}
}

/* Whether its addresses alone gave the flow a label when it was born. */
static __always_inline bool named_at_birth(const struct flow_hot *f)
{
	return f->app_method || f->protocol_method == METHOD_PEER ||
	       f->protocol_method == METHOD_PREFIX;
}

/* The first packet of a flow: insertion counted it. */
static __always_inline void
track_birth(struct flow_hot *f, const struct packet *p, const struct place *at)
{
	if (named_at_birth(f))
		flow_report(RECORD_NAMED);
	if (p->l4 == IPPROTO_TCP && !(p->tcp_flags & TCP_SYN) &&
	    p->tcp_flags & (TCP_FIN | TCP_RST))
		track_end(f, p, at);
}

static __always_inline struct flow_hot *flow_make(struct place *at, bool renew,
						  int *why)
{
	*why = flow_insert(renew);
	return *why == PARSED ? flow_at(place_index(at)) : NULL;
}

/* The packet's entry, born or renewed where need be, or NULL and why. */
static __always_inline struct flow_hot *flow_of(const struct packet *p,
						struct place *at, int *why)
{
	struct flow_hot *f = flow_find(at);

	*why = REASON_NO_MAP;
	if (!f)
		return flow_make(at, false, why);
	if (syn_renews(f, p, at))
		return flow_make(at, true, why);
	if (age_of(at->now, f->seen[at->direction & 1]) > idle_least &&
	    flow_age(f, at->now) > flow_idle_limit(f))
		return flow_make(at, true, why);
	return f;
}

#endif /* XDPPROBE_TRACK_H */
