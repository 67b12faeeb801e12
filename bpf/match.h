/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stage MATCH: which signature's pattern a payload fits. All signatures are held
 * against a packet at once, 64 in a word: see struct match_class in abi.h.
 */
#ifndef XDPPROBE_MATCH_H
#define XDPPROBE_MATCH_H

#include "bits.h"
#include "late.h"
#include "outcome.h"
#include "stun.h"

#define MATCH_STEP 4   /* words that are looked at together */
#define MATCH_BYTES 8  /* of the payload, a call */
#define MATCH_TRIES 16 /* rows whose last conditions are looked at */

_Static_assert(MATCH_WORDS % MATCH_STEP == 0, "whole steps");
_Static_assert(MATCH_WORDS * 64 == MATCH_ROWS, "a bit a row");
_Static_assert(MATCH_WIDTH % MATCH_BYTES == 0, "whole calls");

static __always_inline struct match_class *
match_class_of(const struct scratch *s)
{
	__u32 generation = s->work.generation & 1;
	__u32 class = (s->work.l4 == IPPROTO_UDP) * 2 + (s->work.responder & 1);
	void *table = bpf_map_lookup_elem(&match_tables, &generation);

	return table ? bpf_map_lookup_elem(table, &class) : NULL;
}

/* What is known without the payload. False: no row fits. */
static __always_inline bool match_begin(struct scratch *s,
					const struct match_class *t)
{
	__u32 length = s->work.length, packet = s->work.packet - 1;
	__u32 stage = 0, near, far;
	const struct flow_cold *c = cold_at(s->work.index);
	__u64 any = 0;

	if (length > MATCH_LENGTH_MAX)
		length = MATCH_LENGTH_MAX;
	opaque(length);
	length = t->length_class[length & MATCH_LENGTH_MAX];
	if (packet >= MATCH_PACKETS)
		packet = MATCH_PACKETS - 1;
	opaque(packet);
	packet &= MATCH_PACKETS - 1;
	/* What other tables noted means nothing in these. */
	if (c && c->stage / MATCH_STAGES == s->work.generation)
		stage = c->stage % MATCH_STAGES;
	near = t->port_class[s->work.source_port];
	far = t->port_class[s->work.destination_port];
#pragma clang loop unroll(disable)
	for (__u32 w = 0; w < MATCH_WORDS; w++) {
		__u64 alive = t->length[length][w] &
			      (t->port[near][w] | t->port[far][w]) &
			      t->packet[packet][w] & t->stage[stage][w];

		s->match.alive[w] = alive;
		any |= alive;
	}
	return any;
}

/* Strike out the rows that want another byte at `at`. False: none is left. */
static __always_inline bool match_byte(struct scratch *s,
				       const struct match_class *t, __u32 at)
{
	const __u64 *column = t->byte[at][s->payload.b[at]];
	__u32 words = t->words;
	__u64 any = 0;

#pragma clang loop unroll(disable)
	for (__u32 w = 0; w < MATCH_WORDS; w += MATCH_STEP) {
		if (w >= words)
			break;
		for (__u32 i = w; i < w + MATCH_STEP; i++)
			any |= s->match.alive[i] &= column[i];
	}
	return any;
}

/* Strike out by the bytes from `from` to `stop`, of which a few at a time are looked
 * at. Global: verified once, and not for each few. */
__noinline int match_bytes(struct scratch *s, struct match_class *t, __u32 from,
			   __u32 stop)
{
	if (!s || !t)
		return 0;
	opaque(from);
	from &= MATCH_WIDTH - MATCH_BYTES;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < MATCH_BYTES; i++) {
		if (from + i >= stop)
			break;
		if (!match_byte(s, t, from + i))
			return 0;
	}
	return 1;
}

/* The rows whose columns all fit, in scratch.match. Returns whether there are any.
 * Global: verified once. */
__noinline int match_rows(struct scratch *s)
{
	struct match_class *t;
	__u32 stop;

	if (!s)
		return 0;
	t = match_class_of(s);
	if (!t || !match_begin(s, t))
		return 0;
	/* Rows that want more bytes than there are went by the length. */
	stop = s->work.length < t->width ? s->work.length : t->width;
#pragma clang loop unroll(disable)
	for (__u32 at = 0; at < MATCH_WIDTH; at += MATCH_BYTES) {
		if (at >= stop)
			break;
		if (!match_bytes(s, t, at, stop))
			return 0;
	}
	return 1;
}

/* Does the automaton accept a beginning of the payload? Global: verified once. */
__noinline int match_accepts(struct scratch *s, __u32 state)
{
	__u32 generation, zero = 0;
	const struct match_automaton *a;
	void *table;

	if (!s)
		return 0;
	generation = s->work.generation & 1;
	table = bpf_map_lookup_elem(&match_automata, &generation);
	a = table ? bpf_map_lookup_elem(table, &zero) : NULL;
	if (!a)
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < MATCH_DEPTH; i++) {
		if (i >= s->work.length || state < 2)
			break;
		state = a->next[state & (MATCH_STATES - 1)][s->payload.b[i]];
	}
	return state == 1;
}

/* Does the payload's length field say what its length is? */
static __always_inline bool match_field(const struct scratch *s,
					const struct match_row *r)
{
	__u32 value = 0, size = r->field_size, at = r->field_at;
	__s64 length = s->work.length, said;

	if (!size)
		return true;
	if (at + size > s->work.length)
		return false;
	for (__u32 i = 0; i < 4; i++) {
		__u32 from = r->field_flags & MATCH_FIELD_LITTLE ?
				     at + size - 1 - i :
				     at + i;

		if (i >= size)
			break;
		value = value << 8 | byte_at(&s->payload, from);
	}
	said = (__s64)value * r->multiplier + r->plus;
	if (r->field_flags & MATCH_FIELD_WITHIN)
		return said <= length;
	return said == length;
}

/* A port says something where it is the responder's; initiators take any. */
static __always_inline bool match_hint(const struct scratch *s,
				       const struct match_class *t, __u32 row)
{
	__u16 port = s->work.responder ? s->work.source_port :
					 s->work.destination_port;

	if (t->row[row].method != METHOD_PORT)
		return true;
	return t->port[t->port_class[port]][row / 64] >> (row & 63) & 1;
}

/* Try the lowest row that is left. Returns 1 to stop. */
static long match_try(__u32 index, struct scratch **sp)
{
	struct scratch *s = *sp;
	struct match_class *t = match_class_of(s);
	volatile __u32 *word = &s->match.word;
	__u64 lowest = 0;
	__u32 w, row;

	if (!t)
		return 1;
#pragma clang loop unroll(disable)
	for (w = 0; w < MATCH_WORDS; w++) {
		lowest = s->match.alive[w];
		if (lowest)
			break;
	}
	if (!lowest)
		return 1;
	/* By way of the map: Linux 6.1 would verify the rest for each word's number. */
	*word = w;
	w = *word & (MATCH_WORDS - 1);
	s->match.alive[w] = lowest & (lowest - 1);
	row = w * 64 + bits_below(lowest);
	opaque(row);
	row &= MATCH_ROWS - 1;
	if (!match_hint(s, t, row) || !match_field(s, &t->row[row]))
		return 0;
	if (t->row[row].state && !match_accepts(s, t->row[row].state))
		return 0;
	s->match.row = row + 1;
	return 1;
}

/* The flow is what the row says. Nothing to do where that is known. */
static __always_inline void match_decide(struct scratch *s,
					 const struct match_row *r)
{
	struct flow_hot *f = flow_at(s->work.index);
	struct flow_cold *c = cold_at(s->work.index);
	__u8 final;

	if (!f || !c)
		return;
	if (r->stage && f->tag == s->work.tag)
		c->stage = r->stage | s->work.generation * MATCH_STAGES;
	if (!r->protocol && !r->app)
		return;
	/* Nothing else will be made of it, but TLS may begin in it. */
	final = r->final && !late_possible(r->protocol);
	if (!final && (!r->protocol || f->protocol == r->protocol) &&
	    (!r->app || f->app == r->app) && f->protocol_method >= r->method)
		return;
	s->verdict = (struct verdict){
		.protocol = r->protocol,
		.app = r->app,
		.protocol_method = r->method,
		.app_method = r->method,
		.confidence = r->confidence,
		.final = final,
	};
	verdict_give();
}

/* Returns whether a signature's pattern fits; a port is only a hint. */
static __always_inline bool match_payload(struct scratch *s)
{
	struct match_class *t;
	__u32 row;

	s->match.row = 0;
	if (!match_rows(s))
		return false;
	if (bpf_loop(MATCH_TRIES, match_try, &s, 0) >= MATCH_TRIES &&
	    !s->match.row)
		count(LOSS_MATCH_TRIES);
	row = s->match.row - 1;
	t = match_class_of(s);
	opaque(row);
	if (!t || row >= MATCH_ROWS)
		return false;
	count(INFO_MATCHED);
	match_decide(s, &t->row[row]);
	return t->row[row].method >= METHOD_PATTERN;
}

/* May something better than a pattern's word be found? */
static __always_inline bool match_open(const struct scratch *s)
{
	const struct flow_hot *f = flow_at(s->work.index);

	return f && !(f->flags & FLOW_FINAL);
}

static __always_inline int stage_match(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	enum stage next;

	if (!s)
		return ctx_pass(hook);
	opaque(s);
	generation_choose(s);
	if (match_payload(s))
		next = match_open(s) && stun_begin(s) ? STAGE_STUN : 0;
	else
		next = s->work.after;
	if (next) {
		ctx_tail_call(ctx, hook, next);
		count(LOSS_TAIL_CALL);
	}
	return ctx_pass(hook);
}

#endif /* XDPPROBE_MATCH_H */
