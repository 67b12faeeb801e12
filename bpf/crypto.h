/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stage CRYPTO: what the CRYPTO frames of an opened Initial say. A hello that is whole is
 * read as it came; pieces are put together in a slot (stream.h), which keeps the
 * connection's keys too, for a client's later Initials go to an id that its server chose.
 */
#ifndef XDPPROBE_CRYPTO_H
#define XDPPROBE_CRYPTO_H

#include "assemble.h"
#include "inspect.h"

#define QUIC_PACKETS_MAX 4 /* of a datagram that are looked at */

static __always_inline bool quic_same(const struct quic_keys *a,
				      const struct quic_keys *b)
{
	__u32 differ = (a->salt ^ b->salt) | (a->id_length ^ b->id_length);

	for (int i = 0; i < QUIC_ID_MAX; i++)
		differ |= a->id[i] ^ b->id[i];
	return !differ;
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
	if (from >= STREAM_MAX ||
	    !copy_bounded(to, &s->payload.b[from], length, QUIC_CLEAR_MAX))
		return OUTCOME_MORE;
	if (s->quic.salt == QUIC_Q050)
		result = chlo_parse((struct bytes *)to, 0, length, &at);
	else
		result = hello_parse((struct bytes *)to, 0, length, &at);
	if (result == OUTCOME_NAME && !name_take(s, to, &at))
		return OUTCOME_NAMELESS;
	s->work.partial = result == OUTCOME_NAME && at.missing;
	return result;
}

/* Whoever sends under other keys begins anew. */
static __always_inline void quic_rekey(struct hello_slot *h,
				       const struct quic_keys *keys)
{
	if (quic_same(&h->keys, keys))
		return;
	h->keys = *keys;
	hello_restart(h);
}

/* Put the packet's pieces to those that came before, and read again. The slot stays
 * where the name came before the rest of its hello. Global: verified once. */
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
	bpf_loop(s->quic.pieces, pieces_merge, &g, 0);
	h->work += WORK_OPEN;
	if (h->contiguous >= h->due) {
		result = hello_parse(&h->data, 0, h->contiguous, &at);
		h->due = h->contiguous + (at.missing ? at.missing : 1);
	}
	if (result == OUTCOME_NAME && !name_take(s, &h->data, &at))
		result = OUTCOME_NAMELESS;
	if ((result == OUTCOME_MORE ||
	     (result == OUTCOME_NAME && at.missing)) &&
	    h->contiguous < STREAM_MAX && h->work < HELLO_WORK_MAX &&
	    f->spent[d] < inspect_budget) {
		hello_unlock(h);
		return s->work.named ? OUTCOME_MORE : result;
	}
	hello_release(h);
	flow_unmark(f, (__u32)FLOW_PENDING_0 << d);
	/* What is over its limits does not begin anew; what is no hello costs. */
	if (result == OUTCOME_MORE)
		direction_done(f, d);
	else if (result != OUTCOME_NAME)
		s->quic.gain = 0;
	return gathered(s, result);
}

/* What an Initial's CRYPTO frames say. */
static __always_inline enum outcome quic_hello(struct scratch *s,
					       const struct flow_hot *f)
{
	__u32 pending = (__u32)FLOW_PENDING_0 << (s->work.direction & 1);
	enum outcome result = OUTCOME_MORE, more;

	s->work.partial = 0;
	if (s->quic.first && !(f->flags & pending))
		result = quic_whole(s);
	if (result == OUTCOME_MORE || s->work.partial) {
		more = quic_gather(s);
		result = result == OUTCOME_MORE ? more : result;
	}
	if (result == OUTCOME_NAME || result == OUTCOME_NAMELESS)
		alpn_ask();
	return result;
}

/* What Google's earlier versions say in clear. */
static __always_inline enum outcome quic_clear(struct scratch *s)
{
	struct found at = {};
	enum outcome result;

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

/* What a packet came to. */
static __always_inline int quic_outcome(void *ctx, enum hook hook,
					struct scratch *s, struct flow_hot *f,
					enum outcome result)
{
	if (result == OUTCOME_NAME) {
		ctx_tail_call(ctx, hook, STAGE_NAME);
		count(LOSS_TAIL_CALL);
		return ctx_pass(hook);
	}
	if (result == OUTCOME_MALFORMED)
		count(LOSS_HELLO_MALFORMED);
	if (result == OUTCOME_MORE && s->quic.next < s->work.length &&
	    ++s->quic.packets < QUIC_PACKETS_MAX) {
		ctx_tail_call(ctx, hook, STAGE_QUIC);
		count(LOSS_TAIL_CALL);
	}
	quic_end(s, f, result == OUTCOME_NAMELESS);
	if (result == OUTCOME_NAMELESS)
		text_give(s, 0, METHOD_PATTERN);
	return ctx_pass(hook);
}

/* No packet of QUIC's that is known here. */
static __always_inline int quic_other(void *ctx, enum hook hook,
				      struct scratch *s, struct flow_hot *f)
{
	spend(f, s->work.direction);
	ctx_tail_call(ctx, hook, STAGE_MATCH);
	count(LOSS_TAIL_CALL);
	return ctx_pass(hook);
}

static __always_inline int stage_crypto(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	enum outcome result;
	struct flow_hot *f;

	if (!s)
		return ctx_pass(hook);
	opaque(s);
	f = flow_at(s->work.index);
	if (!f || f->tag != s->work.tag) {
		count(LOSS_STALE_FLOW);
		return ctx_pass(hook);
	}
	s->work.protocol = PROTOCOL_QUIC;
	s->work.method = METHOD_QUIC_SNI;
	s->work.sequence = 0; /* where a hello's slot begins */
	if (s->quic.salt)
		return quic_outcome(ctx, hook, s, f, quic_hello(s, f));
	result = quic_clear(s);
	if (result == OUTCOME_OTHER)
		return quic_other(ctx, hook, s, f);
	return quic_outcome(ctx, hook, s, f, result);
}

#endif /* XDPPROBE_CRYPTO_H */
