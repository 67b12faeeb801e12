/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stage QUIC: a datagram's Initials are opened, one a run of the stage, and their
 * CRYPTO frames read for the client's hello. One that is whole is read as it came;
 * pieces are put together in a slot (stream.h), which keeps the connection's keys too,
 * for a client's later Initials go to a connection id that its server chose.
 */
#ifndef XDPPROBE_INITIAL_H
#define XDPPROBE_INITIAL_H

#include "assemble.h"
#include "inspect.h"
#include "quic_budget.h"
#include "quic_keys.h"
#include "quic_open.h"

#define QUIC_PACKETS_MAX 4 /* of a datagram that are looked at */
#define WORK_OPEN 256	   /* as HELLO_WORK_MAX counts */

static __always_inline bool quic_same(const struct quic_keys *a,
				      const struct quic_keys *b)
{
	__u32 differ = (a->salt ^ b->salt) | (a->id_length ^ b->id_length);

	for (int i = 0; i < QUIC_ID_MAX; i++)
		differ |= a->id[i] ^ b->id[i];
	return !differ;
}

/* Begin quic.keys by the packet's own connection id. */
static __always_inline void quic_own(struct scratch *s)
{
	struct quic_state *q = &s->quic;
	__u32 at = q->id_at, length = q->id_length;

	__builtin_memset(q->keys.id, 0, sizeof(q->keys.id));
	q->keys.salt = q->salt;
	q->keys.id_length = length;
	opaque(at);
	opaque(length);
	if (length && length <= QUIC_ID_MAX && at < STREAM_MAX)
		bpf_probe_read_kernel(q->keys.id, length, &s->payload.b[at]);
}

/* Keys that the flow's earlier packets were opened with, to quic.keys. */
static __always_inline bool quic_recall(struct scratch *s,
					const struct flow_hot *f)
{
	__u32 d = s->work.direction & 1;
	struct hello_slot *h = NULL;
	bool busy = false;

	if (f->flags & (__u32)FLOW_PENDING_0 << d)
		h = hello_find(s->work.tag ^ d, &busy);
	if (!h)
		return false;
	s->quic.keys = h->keys;
	hello_unlock(h);
	return s->quic.keys.salt == s->quic.salt;
}

/* Open the packet: by the connection's keys, or else by those of its own id, as after
 * a Retry (RFC 9001, 5.2), or where another connection uses the ports. */
static __always_inline bool quic_unseal(void *ctx, enum hook hook,
					struct scratch *s,
					const struct flow_hot *f)
{
	if (quic_recall(s, f)) {
		if (quic_open(s))
			return true;
		/* What was decrypted with the wrong keys is there no more;
		 * and to try twice costs twice. */
		if (!payload_load(ctx, hook, s) || !quic_afford(s->work.now))
			return false;
	}
	quic_own(s);
	quic_derive(&s->quic);
	return quic_open(s);
}

/* Read the piece that begins the stream, if that says all. Global: verified once. */
__noinline int quic_whole(struct scratch *s)
{
	struct joined_bytes *to;
	struct found at = {};
	__u32 i, from, length, zero = 0;
	int result;

	if (!s)
		return OUTCOME_MORE;
	to = bpf_map_lookup_elem(&joined, &zero);
	i = s->quic.first - 1;
	opaque(i);
	if (!to || i >= QUIC_PIECES)
		return OUTCOME_MORE;
	from = s->quic.piece[i].at;
	length = s->quic.piece[i].length;
	opaque(from);
	opaque(length);
	if (from >= STREAM_MAX || !length || length > QUIC_CLEAR_MAX)
		return OUTCOME_MORE;
	if (bpf_probe_read_kernel(to, length, &s->payload.b[from]))
		return OUTCOME_MORE;
	if (s->quic.salt == QUIC_Q050)
		result = chlo_parse((struct bytes *)to, 0, length, &at);
	else
		result = hello_parse((struct bytes *)to, 0, length, &at);
	if (result == OUTCOME_NAME && !name_take(s, to, &at))
		return OUTCOME_NAMELESS;
	return result;
}

struct gather {
	struct hello_slot *to;
	struct scratch *from;
};

static long quic_merge(__u32 i, struct gather *g)
{
	struct scratch *s = g->from;
	struct piece p;
	bool news = false;

	opaque(i);
	if (i >= QUIC_PIECES)
		return 1;
	p.at = s->quic.piece[i].at;
	p.length = s->quic.piece[i].length;
	p.sequence = s->quic.piece[i].offset;
	hello_merge(g->to, s, &p, &news);
	if (news)
		s->quic.gain = 1;
	return 0;
}

/* Whoever sends under other keys begins anew. */
static __always_inline void quic_rekey(struct hello_slot *h,
				       const struct quic_keys *keys)
{
	if (quic_same(&h->keys, keys))
		return;
	h->keys = *keys;
	if (!h->work)
		return;
	h->contiguous = h->due = 0;
	bpf_loop(STREAM_BLOCKS / CLEAR_STEP, hello_clear, &h, 0);
}

/* Put the packet's pieces to those that came before, and read again. Global: verified
 * once. */
__noinline int quic_gather(struct scratch *s)
{
	enum outcome result = OUTCOME_MORE;
	struct gather g = { .from = s };
	struct found at = {};
	struct hello_slot *h;
	struct flow_hot *f;
	__u32 d;

	if (!s)
		return OUTCOME_MORE;
	opaque(s);
	d = s->work.direction & 1;
	f = flow_at(s->work.index);
	h = f ? stream_slot(s, f) : NULL;
	if (!h)
		return OUTCOME_MORE;
	count(INFO_HELLO_PIECES);
	quic_rekey(h, &s->quic.keys);
	g.to = h;
	bpf_loop(s->quic.pieces, quic_merge, &g, 0);
	h->work += WORK_OPEN;
	if (h->contiguous >= h->due) {
		result = hello_parse(&h->data, 0, h->contiguous, &at);
		h->due = h->contiguous + (at.missing ? at.missing : 1);
	}
	if (result == OUTCOME_NAME && !name_take(s, &h->data, &at))
		result = OUTCOME_NAMELESS;
	if (result == OUTCOME_MORE && h->contiguous < STREAM_MAX &&
	    h->work < HELLO_WORK_MAX && f->spent[d] < inspect_budget) {
		hello_unlock(h);
		return OUTCOME_MORE;
	}
	hello_release(h);
	flow_unmark(f, (__u32)FLOW_PENDING_0 << d);
	if (result == OUTCOME_NAME)
		count(INFO_HELLO_JOINED);
	if (result == OUTCOME_MORE)
		count(LOSS_BUDGET);
	return result;
}

/* What an Initial's CRYPTO frames say. */
static __always_inline enum outcome quic_hello(struct scratch *s,
					       const struct flow_hot *f)
{
	__u32 pending = (__u32)FLOW_PENDING_0 << (s->work.direction & 1);
	enum outcome result = OUTCOME_MORE;

	s->work.protocol = PROTOCOL_QUIC;
	s->work.method = METHOD_QUIC_SNI;
	s->work.sequence = 0; /* where a hello's slot begins */
	if (!s->quic.pieces)
		return OUTCOME_MORE;
	if (s->quic.first && !(f->flags & pending))
		result = quic_whole(s);
	return result == OUTCOME_MORE ? quic_gather(s) : result;
}

/* After a Retry the client's keys are those of the id that it brought. */
static __always_inline void quic_retry(const struct scratch *s,
				       const struct flow_hot *f)
{
	__u32 d = ~s->work.direction & 1;
	struct hello_slot *h = NULL;
	bool busy = false;

	if (f->flags & (__u32)FLOW_PENDING_0 << d)
		h = hello_find(s->work.tag ^ d, &busy);
	if (!h)
		return;
	h->keys.salt = 0;
	hello_unlock(h);
}

/* A packet whose header was read. */
static __always_inline enum outcome
quic_packet(void *ctx, enum hook hook, struct scratch *s, struct flow_hot *f)
{
	if (s->work.responder && s->quic.kind == QUIC_RETRY)
		quic_retry(s, f);
	if (s->work.responder || s->quic.kind != QUIC_INITIAL)
		return OUTCOME_MORE;
	if (!quic_afford(s->work.now)) {
		s->quic.gain = 1; /* the flow has not had its chance */
		return OUTCOME_MORE;
	}
	if (!quic_unseal(ctx, hook, s, f)) {
		count(LOSS_QUIC_SEALED);
		return OUTCOME_MORE;
	}
	count(INFO_QUIC_OPENED);
	return quic_hello(s, f);
}

/* What Google's earlier versions say in clear; other packets are no such ones. */
static __always_inline enum outcome quic_clear(struct scratch *s)
{
	struct found at = {};
	enum outcome result;

	if (s->work.responder)
		return OUTCOME_OTHER;
	result = google_read(&s->payload, s->work.length, &at);
	if (result == OUTCOME_NAME && !name_take(s, &s->payload, &at))
		return OUTCOME_NAMELESS;
	return result;
}

/* Nothing, or nothing more, in the datagram. */
static __always_inline void quic_end(struct scratch *s, struct flow_hot *f,
				     bool final)
{
	if (!s->quic.gain)
		spend(f, s->work.direction);
	protocol_only(s, PROTOCOL_QUIC, METHOD_PATTERN, final);
}

/* A flow that has its name goes on to be looked at until its server has answered, and
 * so chosen the id that the connection goes by. */
static __always_inline void quic_named(struct scratch *s, struct flow_hot *f)
{
	spend(f, s->work.direction);
	if (!s->work.responder || !quic_header(s) || s->quic.kind == QUIC_RETRY)
		return;
	moved_learn(s, f);
	flow_mark(f, FLOW_FINAL);
}

static __always_inline int stage_quic(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	enum outcome result;
	struct flow_hot *f;
	bool known;

	if (!s)
		return ctx_pass(hook);
	opaque(s);
	f = flow_at(s->work.index);
	if (!f || f->tag != s->work.tag) {
		count(LOSS_STALE_FLOW);
		return ctx_pass(hook);
	}
	if (f->protocol_method >= METHOD_QUIC_SNI) {
		quic_named(s, f);
		return ctx_pass(hook);
	}
	known = quic_header(s);
	result = known ? quic_packet(ctx, hook, s, f) : quic_clear(s);
	if (result == OUTCOME_NAME) {
		s->work.protocol = PROTOCOL_QUIC;
		s->work.method = METHOD_QUIC_SNI;
		ctx_tail_call(ctx, hook, STAGE_NAME);
		count(LOSS_TAIL_CALL);
		return ctx_pass(hook);
	}
	if (result == OUTCOME_MALFORMED)
		count(LOSS_HELLO_MALFORMED);
	if (known && result == OUTCOME_MORE && s->quic.next < s->work.length &&
	    ++s->quic.packets < QUIC_PACKETS_MAX) {
		ctx_tail_call(ctx, hook, STAGE_QUIC);
		count(LOSS_TAIL_CALL);
	}
	/* Behind the last packet there may be padding. */
	if (!known && result == OUTCOME_OTHER && !s->quic.packets) {
		spend(f, s->work.direction);
		ctx_tail_call(ctx, hook, STAGE_MATCH);
		count(LOSS_TAIL_CALL);
		return ctx_pass(hook);
	}
	quic_end(s, f, result == OUTCOME_NAMELESS);
	return ctx_pass(hook);
}

#endif /* XDPPROBE_INITIAL_H */
