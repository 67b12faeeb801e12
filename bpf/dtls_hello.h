/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stage DTLS: what a ClientHello says, where one datagram has it whole or several bring
 * it in fragments, which are put together in a slot (stream.h). The body (RFC 6347,
 * 4.2.1; RFC 9147, 5.3):
 *
 *  0         2        34
 *  +---------+--------+--------------------+----------------+----
 *  | version | random | session id (len 1) | cookie (len 1) | on as in TLS
 *  +---------+--------+--------------------+----------------+----
 * Without the cookie it is a hello of TLS.
 */
#ifndef XDPPROBE_DTLS_HELLO_H
#define XDPPROBE_DTLS_HELLO_H

#include "assemble.h"
#include "dtls.h"
#include "inspect.h"

/* Copy part of a hello to `joined`. */
static __always_inline bool dtls_copy(struct joined_bytes *to, __u32 at,
				      const struct bytes *from, __u32 start,
				      __u32 length)
{
	opaque(at);
	opaque(start);
	opaque(length);
	if (at >= JOIN_MAX || start >= STREAM_MAX || length > JOIN_MAX)
		return false;
	return !bpf_probe_read_kernel(&to->b[at], length, &from->b[start]);
}

/* A hello's body at `at`, of which `have` bytes are there: without the cookie in
 * `joined`, and read. Global: verified once. */
__noinline int dtls_parse(struct bytes *m, __u32 at, __u32 have,
			  struct found *out)
{
	__u32 zero = 0, whole, cookie, rest;
	struct joined_bytes *to = bpf_map_lookup_elem(&joined, &zero);
	struct scratch *s = scratch_get();

	if (!m || !to || !s || !out || at > STREAM_MAX || have > STREAM_MAX)
		return OUTCOME_OTHER;
	whole = dtls_length(s->dtls.message);
	cookie = TLS_VERSION_AND_RANDOM;
	if (cookie >= have)
		return hello_wait(out, cookie + 1, have);
	cookie += 1 + byte_at(m, at + cookie);
	if (cookie > TLS_VERSION_AND_RANDOM + 1 + TLS_SESSION_ID_MAX)
		return OUTCOME_MALFORMED;
	if (cookie >= have)
		return hello_wait(out, cookie + 1, have);
	rest = cookie + 1 + byte_at(m, at + cookie);
	if (rest > whole)
		return OUTCOME_MALFORMED;
	if (rest >= have)
		return hello_wait(out, rest + 1, have);
	whole -= rest - cookie;
	to->b[0] = TLS_CLIENT_HELLO;
	to->b[1] = whole >> 16;
	to->b[2] = whole >> 8;
	to->b[3] = whole;
	if (!dtls_copy(to, TLS_HANDSHAKE_HEADER, m, at, cookie) ||
	    !dtls_copy(to, TLS_HANDSHAKE_HEADER + cookie, m, at + rest,
		       have - rest))
		return OUTCOME_OTHER;
	out->in_joined = 1;
	return hello_parse((struct bytes *)to, 0,
			   TLS_HANDSHAKE_HEADER + cookie + have - rest, out);
}

/* Its name to scratch.name, and whether more of it is to come. */
static __always_inline int dtls_read(struct scratch *s, struct bytes *m,
				     __u32 at, __u32 have, struct found *out)
{
	int result = dtls_parse(m, at, have, out);
	struct joined_bytes *to;
	__u32 zero = 0;

	if (result == OUTCOME_MORE && have >= dtls_length(s->dtls.message))
		return OUTCOME_MALFORMED;
	to = bpf_map_lookup_elem(&joined, &zero);
	if (result == OUTCOME_NAME && (!to || !name_take(s, to, out)))
		result = OUTCOME_NAMELESS;
	s->work.partial = result == OUTCOME_NAME && out->missing;
	return result;
}

/* Does the hello's beginning, if it stands in this fragment, have the random of the one
 * in the slot? Else another connection uses the ports. */
static __always_inline bool dtls_same(const struct scratch *s,
				      const struct hello_slot *h)
{
	__u32 at = s->quic.piece[0].at;
	__u64 differ = 0;

	if (s->quic.piece[0].offset ||
	    s->quic.piece[0].length < TLS_VERSION_AND_RANDOM ||
	    h->contiguous < TLS_VERSION_AND_RANDOM)
		return true;
	for (int i = 2; i < TLS_VERSION_AND_RANDOM; i += 8)
		differ |= word_at(&s->payload, at + i) ^ word_at(&h->data, i);
	return !differ;
}

/* The slot is of this hello, or begins anew with it: behind a HelloVerifyRequest the
 * client's next one has a cookie, and a higher number. What is old is sent again, all of
 * it (RFC 6347, 4.2.4), or of an earlier connection. */
static __always_inline bool dtls_claim(const struct scratch *s,
				       struct hello_slot *h)
{
	__u32 message = s->dtls.message, was = h->message;
	bool old = age_of(s->work.now, h->born) > hello_timeout;

	if (was == message && !old && dtls_same(s, h))
		return true;
	if (was && was != message && !old &&
	    was >> DTLS_LENGTH_BITS >= message >> DTLS_LENGTH_BITS)
		return false;
	hello_restart(h);
	h->message = message;
	h->born = s->work.now;
	return true;
}

/* Put the datagram's fragments to those that came before, and read again. Global:
 * verified once. */
__noinline int dtls_gather(struct scratch *s)
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
	if (!dtls_claim(s, h)) {
		hello_unlock(h);
		return OUTCOME_MORE;
	}
	g.to = h;
	bpf_loop(s->quic.pieces, pieces_merge, &g, 0);
	h->work += WORK_OPEN;
	if (h->contiguous >= h->due) {
		result = dtls_read(s, &h->data, 0, h->contiguous, &at);
		h->due = h->contiguous + (at.missing ? at.missing : 1);
	}
	if (stream_waits(s, h, f, result)) {
		hello_unlock(h);
		return s->work.named ? OUTCOME_MORE : result;
	}
	s->work.partial = 0;
	hello_release(h);
	flow_unmark(f, (__u32)FLOW_PENDING_0 << d);
	/* What is over its limits does not begin anew; what is no hello costs. */
	if (result == OUTCOME_MORE)
		direction_done(f, d);
	else if (result != OUTCOME_NAME)
		s->quic.gain = 0;
	return gathered(s, result);
}

/* What the datagram's fragments say. */
static __always_inline int dtls_hello(struct scratch *s,
				      const struct flow_hot *f)
{
	__u32 pending = (__u32)FLOW_PENDING_0 << (s->work.direction & 1);
	__u32 at = s->quic.piece[0].at, length = s->quic.piece[0].length;
	struct found found = {};

	/* All of it, in one fragment: that is longer than any that begins later. Where
	 * another one has given the name, it must be the same. */
	if (length == dtls_length(s->dtls.message) && !s->work.named)
		return dtls_read(s, &s->payload, at, length, &found);
	if (s->work.named && !(f->flags & pending))
		return OUTCOME_MORE;
	return dtls_gather(s);
}

static __always_inline int stage_dtls(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	int result = OUTCOME_OTHER;
	struct flow_hot *f;

	if (!s)
		return ctx_pass(hook);
	opaque(s);
	f = flow_at(s->work.index);
	if (!f || f->tag != s->work.tag) {
		count(LOSS_STALE_FLOW);
		return ctx_pass(hook);
	}
	s->work.protocol = PROTOCOL_DTLS;
	s->work.method = METHOD_SNI;
	s->work.sequence = 0; /* where a hello's slot begins */
	s->work.named = f->protocol_method >= METHOD_SNI ||
			f->protocol_method == METHOD_ECH_OUTER;
	s->quic.gain = 0;
	if (dtls_fragments(s))
		result = dtls_hello(s, f);
	if (!s->quic.gain)
		spend(f, s->work.direction);
	if (result == OUTCOME_MORE) {
		protocol_only(s, PROTOCOL_DTLS, METHOD_PATTERN, 0);
		return ctx_pass(hook);
	}
	if (result == OUTCOME_MALFORMED)
		count(LOSS_HELLO_MALFORMED);
	if (result != OUTCOME_NAME && dtls_pending(f))
		return ctx_pass(hook);
	ctx_tail_call(ctx, hook,
		      result == OUTCOME_NAME ? STAGE_NAME : STAGE_MATCH);
	count(LOSS_TAIL_CALL);
	return ctx_pass(hook);
}

#endif /* XDPPROBE_DTLS_HELLO_H */
