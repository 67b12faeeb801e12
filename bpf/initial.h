/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stage QUIC: a datagram's Initials are opened, one a run of the stage; CRYPTO reads
 * what is in them.
 */
#ifndef XDPPROBE_INITIAL_H
#define XDPPROBE_INITIAL_H

#include "crypto.h"
#include "moved.h"
#include "quic_budget.h"
#include "quic_keys.h"
#include "quic_open.h"

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
 * a Retry (RFC 9001, 5.2), or where another connection uses the ports. Below 0: that
 * was not tried, and may be next time. */
static __always_inline int quic_unseal(void *ctx, enum hook hook,
				       struct scratch *s,
				       const struct flow_hot *f)
{
	if (quic_recall(s, f)) {
		if (quic_open(s))
			return 1;
		/* What was decrypted with the wrong keys is there no more;
		 * and to try twice costs twice. */
		if (!payload_load(ctx, hook, s) || !quic_afford(s->work.now))
			return -1;
	}
	quic_own(s);
	quic_derive(&s->quic);
	return quic_open(s);
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

/* Open a packet whose header was read. False: there is nothing in it to be read. */
static __always_inline bool quic_packet(void *ctx, enum hook hook,
					struct scratch *s, struct flow_hot *f)
{
	int opened;

	if (s->work.responder && s->quic.kind == QUIC_RETRY)
		quic_retry(s, f);
	if (s->work.responder || s->quic.kind != QUIC_INITIAL)
		return false;
	opened = quic_afford(s->work.now) ? quic_unseal(ctx, hook, s, f) : -1;
	if (opened < 0) {
		s->quic.gain = 1; /* the flow has not had its chance */
		return false;
	}
	if (!opened) {
		count(LOSS_QUIC_SEALED);
		return false;
	}
	count(INFO_QUIC_OPENED);
	return s->quic.pieces;
}

/* A flow that has its name goes on to be looked at until its server has answered, and
 * so chosen the id that the connection goes by, and its client's hello is whole. */
static __always_inline void quic_named(struct scratch *s, struct flow_hot *f)
{
	spend(f, s->work.direction);
	if (!s->work.responder || !quic_header(s) || s->quic.kind == QUIC_RETRY)
		return;
	moved_learn(s, f);
	if (!(f->flags & (FLOW_PENDING_0 | FLOW_PENDING_1)))
		flow_mark(f, FLOW_FINAL);
}

/* What comes next of a datagram that begins like QUIC. */
static __always_inline int stage_quic(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	struct flow_hot *f;
	bool known, read;

	if (!s)
		return ctx_pass(hook);
	opaque(s);
	f = flow_at(s->work.index);
	if (!f || f->tag != s->work.tag) {
		count(LOSS_STALE_FLOW);
		return ctx_pass(hook);
	}
	s->work.named = f->protocol_method >= METHOD_QUIC_SNI ||
			f->protocol_method == METHOD_ECH_OUTER;
	if (s->work.named &&
	    (s->work.responder ||
	     !(f->flags & (__u32)FLOW_PENDING_0 << (s->work.direction & 1)))) {
		quic_named(s, f);
		return ctx_pass(hook);
	}
	known = quic_header(s);
	if (known) {
		read = quic_packet(ctx, hook, s, f);
	} else {
		s->quic.salt = 0;
		read = !s->quic.packets && !s->work.responder;
	}
	if (read) {
		ctx_tail_call(ctx, hook, STAGE_CRYPTO);
		count(LOSS_TAIL_CALL);
		return ctx_pass(hook);
	}
	/* Behind the last packet there may be padding. */
	if (!known && !s->quic.packets)
		return quic_other(ctx, hook, s, f);
	return quic_outcome(ctx, hook, s, f,
			    known ? OUTCOME_MORE : OUTCOME_OTHER);
}

#endif /* XDPPROBE_INITIAL_H */
