/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stage STREAM: a stream's beginning that one packet did not bring is put together
 * in a slot (stream.h), and read again when that may say more.
 */
#ifndef XDPPROBE_ASSEMBLE_H
#define XDPPROBE_ASSEMBLE_H

#include "read.h"
#include "stream.h"

/* Claim a slot for the packet's direction, and let the flow know. Under the
 * flow's lock, so that of two CPUs which meet a stream's first pieces the second
 * one finds the slot of the first. Global: verified once. */
__noinline int stream_open(struct scratch *s)
{
	__u32 both = FLOW_ANSWERED_0 | FLOW_ANSWERED_1, d, index;
	struct hello_slot *h;
	struct stripe *guard;
	struct flow_cold *c;
	struct flow_hot *f;
	bool busy = false;
	__u64 owner;

	if (!s)
		return 0;
	index = s->work.index;
	d = s->work.direction & 1;
	owner = s->work.tag ^ d;
	f = flow_at(index);
	c = cold_at(index);
	guard = lock_take((index / FLOW_WAYS) & lock_mask);
	if (!guard) {
		count(LOSS_HELLO_BUSY);
		return 0;
	}
	if (f && c && f->tag == s->work.tag &&
	    !(f->flags & (__u32)FLOW_PENDING_0 << d)) {
		/* Left behind by an earlier connection between the same ports. */
		h = hello_find(owner, &busy);
		if (h)
			hello_release(h);
		h = hello_claim(owner, s->work.now, (f->flags & both) == both,
				s->work.keep);
		if (h) {
			/* A datagram says where its pieces belong. */
			h->synced = s->work.l4 == IPPROTO_UDP || s->work.late ||
				    (f->flags & (__u32)FLOW_ISN_0 << d &&
				     !s->work.keep);
			h->base = s->work.sequence;
			if (s->work.l4 == IPPROTO_TCP && h->synced &&
			    !s->work.late)
				h->base = c->isn[d] + 1;
			hello_unlock(h);
			flow_mark(f, (__u32)(FLOW_PENDING_0 | FLOW_START_0)
					     << d);
		}
	}
	lock_release(guard);
	return 1;
}

/* The slot for the packet's direction, locked; NULL where there is none. */
static __always_inline struct hello_slot *stream_slot(struct scratch *s,
						      struct flow_hot *f)
{
	__u32 d = s->work.direction & 1;
	__u32 both = FLOW_ANSWERED_0 | FLOW_ANSWERED_1;
	struct hello_slot *h = NULL;
	bool busy = false;

	if (!(f->flags & (__u32)FLOW_PENDING_0 << d))
		stream_open(s);
	if (f->flags & (__u32)FLOW_PENDING_0 << d) {
		h = hello_find(s->work.tag ^ d, &busy);
		if (!h && !busy) /* it was given up for another */
			flow_unmark(f, (__u32)FLOW_PENDING_0 << d);
	}
	if (h)
		h->answered = (f->flags & both) == both;
	else
		flow_mark(f, (__u32)FLOW_START_0 << d);
	return h;
}

/* Read what there is of the stream, if that may say more than before. How much
 * is missing at least is known of TLS; of others each byte may be the last one
 * that was missing, and HELLO_WORK_MAX is the limit. */
static __always_inline enum outcome
stream_again(struct scratch *s, struct hello_slot *h, __u16 *answer)
{
	struct found at = {};
	enum outcome result;

	*answer = PROTOCOL_UNKNOWN;
	if (h->contiguous < h->due)
		return OUTCOME_MORE;
	result = stream_read(s, &h->data, h->contiguous, &at);
	if (result == OUTCOME_OTHER)
		*answer = answer_read(s, &h->data, h->contiguous);
	h->work += WORK_READ + h->contiguous / STREAM_BLOCK + at.records;
	h->due = h->contiguous + (at.missing ? at.missing : 1);
	s->work.partial = result == OUTCOME_NAME && at.missing;
	return result;
}

/* What a stream that is no longer put together turned out to be. True: a name
 * is to be decided. */
static __always_inline bool stream_end(struct scratch *s, enum outcome result,
				       __u16 answer)
{
	if (result == OUTCOME_NAME) {
		count(INFO_HELLO_JOINED);
		return true;
	}
	if (result == OUTCOME_MORE)
		count(LOSS_BUDGET);
	if (result == OUTCOME_NAMELESS)
		stream_nameless(s);
	else if (result == OUTCOME_MALFORMED)
		stream_malformed(s);
	else
		stream_answer(s, answer);
	return false;
}

/* Is it worth waiting for more of the stream? */
static __always_inline bool stream_waits(const struct scratch *s,
					 const struct hello_slot *h,
					 const struct flow_hot *f,
					 enum outcome result)
{
	if (result != OUTCOME_MORE && !s->work.partial)
		return false;
	return h->contiguous < STREAM_MAX && h->work < HELLO_WORK_MAX &&
	       f->spent[s->work.direction & 1] < inspect_budget;
}

/* The rest of a hello whose name is known will not be read. */
static __always_inline void stream_part_only(struct scratch *s)
{
	count(LOSS_FACTS);
	client_done(s);
}

/* Has the flow the name of the hello that these pieces are the rest of? */
static __always_inline bool stream_named(const struct scratch *s,
					 const struct flow_hot *f)
{
	return !s->work.responder && (f->protocol_method == METHOD_SNI ||
				      f->protocol_method == METHOD_ECH_OUTER);
}

/* A slot of kept segments, before another is put there or the hello's first. What the
 * server has answered, or what comes before the hello, is no part of one. */
static __always_inline void stream_late(struct scratch *s, struct hello_slot *h,
					const struct flow_hot *f)
{
	__u32 heard = f->spent[~s->work.direction & 1];
	bool behind = (__s32)(s->work.sequence - h->base) >= 0;

	if (h->synced)
		return;
	if (h->heard != heard || (s->work.late && behind)) {
		hello_restart(h);
		h->base = s->work.sequence;
		h->heard = heard;
	}
	h->kept = s->work.keep;
	h->work++;
}

/* Keep a segment; it is not read. */
static __always_inline int stream_keep(void *ctx, enum hook hook,
				       struct scratch *s, struct hello_slot *h,
				       const struct piece *all)
{
	bool news;

	if (h) {
		hello_merge(h, s, all, &news);
		hello_unlock(h);
	}
	return ctx_pass(hook);
}

static __always_inline int stage_stream(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	enum outcome result = OUTCOME_MORE;
	struct hello_slot *h;
	struct flow_hot *f;
	struct piece all = {};
	bool news = false;
	__u16 answer = 0;
	__u32 d;

	if (!s)
		return ctx_pass(hook);
	all.length = s->work.length;
	all.sequence = s->work.sequence;
	d = s->work.direction & 1;
	f = flow_at(s->work.index);
	if (!f || f->tag != s->work.tag) {
		count(LOSS_STALE_FLOW);
		return ctx_pass(hook);
	}
	if (!s->work.keep)
		count(INFO_HELLO_PIECES);
	/* This very packet may just have given the name. It stands in the map: in a
	 * register the verifier would walk the rest with it and without. */
	s->work.named = stream_named(s, f) || s->work.partial;
	s->work.protocol = PROTOCOL_UNKNOWN;
	s->work.partial = s->work.after = 0;
	h = stream_slot(s, f);
	if (!h && s->work.late) /* what was kept is there no more */
		h = stream_slot(s, f);
	if (h && (s->work.keep || s->work.late))
		stream_late(s, h, f);
	if (s->work.keep)
		return stream_keep(ctx, hook, s, h, &all);
	if (h)
		h->named = s->work.named |= h->named;
	if (!h) {
		spend(f, d);
		if (s->work.named)
			stream_part_only(s);
		return ctx_pass(hook);
	}
	if (hello_merge(h, s, &all, &news))
		result = stream_again(s, h, &answer);
	h->synced |= s->work.late;
	if (!news || result == OUTCOME_OTHER)
		spend(f, d);
	/* Where the start is not known for sure, it may yet come. */
	if (result == OUTCOME_OTHER && !answer && !h->synced)
		result = OUTCOME_MORE;
	if (stream_waits(s, h, f, result)) {
		h->named |= result == OUTCOME_NAME;
		hello_unlock(h);
		if (result == OUTCOME_NAME && !s->work.named)
			goto name;
		return ctx_pass(hook);
	}
	if (result == OUTCOME_SERVER) {
		hello_unlock(h);
		ctx_tail_call(ctx, hook, STAGE_SERVER);
		count(LOSS_TAIL_CALL);
		return ctx_pass(hook);
	}
	s->work.partial = 0;
	if (result == OUTCOME_MORE && hello_begun(&h->data, h->contiguous))
		answer = tls_protocol(s);
	hello_release(h);
	flow_unmark(f, (__u32)FLOW_PENDING_0 << d);
	s->answer.records = 0; /* only what one packet brings is read */
	if (s->work.named && result != OUTCOME_NAME) {
		stream_part_only(s);
		return ctx_pass(hook);
	}
	if (!stream_end(s, result, answer))
		return ctx_pass(hook);
name:
	ctx_tail_call(ctx, hook, STAGE_NAME);
	count(LOSS_TAIL_CALL);
	return ctx_pass(hook);
}

/* The pieces that one datagram brings, in quic.piece: CRYPTO frames, or fragments of
 * DTLS. */
struct gather {
	struct hello_slot *to;
	struct scratch *from;
};

static long pieces_merge(__u32 i, struct gather *g)
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

/* A slot that is done with: what its hello came to. */
static __always_inline enum outcome gathered(struct scratch *s,
					     enum outcome result)
{
	if (result == OUTCOME_NAME)
		count(INFO_HELLO_JOINED);
	else if (s->work.named) /* the rest will not be read */
		count(LOSS_FACTS);
	else if (result == OUTCOME_MORE)
		count(LOSS_BUDGET);
	return s->work.named && result != OUTCOME_NAME ? OUTCOME_MORE : result;
}

#endif /* XDPPROBE_ASSEMBLE_H */
