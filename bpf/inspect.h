/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stages INSPECT and NAME. INSPECT copies the payload once and asks what it is;
 * NAME decides. From the copy on, nothing depends on the hook but the tail calls.
 */
#ifndef XDPPROBE_INSPECT_H
#define XDPPROBE_INSPECT_H

#include "dns_answer.h"
#include "dtls.h"
#include "late.h"
#include "moved.h"
#include "name.h"
#include "read.h"
#include "socks.h"

/* Copy the payload to scratch. False: could not, and that is counted. */
static __always_inline bool payload_load(void *ctx, enum hook hook,
					 struct scratch *s)
{
	__u32 length = s->work.length, rest;

	if (length > STREAM_MAX)
		length = STREAM_MAX;
	s->work.length = length;
	/* Linux before 6.8 does not conclude from a comparison with 0 that the
	 * length is at least 1, as the call wants it. */
	rest = length - 1;
	opaque(rest);
	if (rest >= STREAM_MAX)
		return false;
	if (ctx_load_bytes(ctx, hook, s->work.offset, s->payload.b, rest + 1)) {
		count(LOSS_LOAD_BYTES);
		return false;
	}
	return true;
}

/* Is the payload the first of its direction? Where no SYN was seen, whatever
 * comes first has to pass for it. */
enum position { POSITION_START, POSITION_LATER, POSITION_GAP };

static __always_inline enum position stream_position(const struct scratch *s,
						     const struct flow_hot *f)
{
	__u32 d = s->work.direction & 1;
	struct flow_cold *c = cold_at(s->work.index);

	if (f->flags & (__u32)FLOW_START_0 << d)
		return POSITION_LATER;
	if (!c || !(f->flags & (__u32)FLOW_ISN_0 << d) ||
	    s->work.sequence == c->isn[d] + 1)
		return POSITION_START;
	return POSITION_GAP;
}

/* Without a SYN, the first payload that comes may be a later piece of a hello
 * whose start is still to come: worth keeping if nobody has answered yet. */
static __always_inline bool maybe_later(const struct scratch *s,
					const struct flow_hot *f)
{
	__u32 d = s->work.direction & 1;

	return !(f->flags & (__u32)FLOW_ISN_0 << d) && f->spent[d] == 1 &&
	       !f->spent[d ^ 1] && f->protocol_method < METHOD_PATTERN;
}

/* A query was seen: of what follows only the answers matter, and other queries, as
 * far as one segment brings them. */
static __always_inline bool inspect_answer(struct scratch *s,
					   struct flow_hot *f, enum stage *next)
{
	spend(f, s->work.direction);
	*next = STAGE_NAME;
	return dns_stream(s, &s->payload, s->work.length) == OUTCOME_NAME;
}

/* Not of a protocol that is read here. What it is known to be is not asked again. */
static __always_inline bool inspect_other(struct scratch *s, struct flow_hot *f,
					  enum stage *next)
{
	__u32 d = s->work.direction & 1;

	if (socks_read(s, 1)) {
		flow_mark(f, (__u32)FLOW_START_0 << d);
		*next = STAGE_NAME;
		return true;
	}
	*next = STAGE_MATCH;
	if (!protocol_settled(f) && maybe_later(s, f))
		s->work.after = STAGE_STREAM;
	else
		flow_mark(f, (__u32)FLOW_START_0 << d);
	return !protocol_settled(f);
}

/* Behind the first bytes of its direction, and no hello. */
static __always_inline bool inspect_later(struct scratch *s, struct flow_hot *f,
					  enum stage *next)
{
	*next = STAGE_NAME;
	if (socks_read(s, 0))
		return true;
	if (late_keeps(s, f))
		s->work.after = STAGE_STREAM;
	*next = protocol_settled(f) ? s->work.after : STAGE_MATCH;
	return *next != STAGE_INSPECT;
}

/* Has the request given all that the flow is to have, but for how its answer begins?
 * That is not worth a slot. */
static __always_inline bool http_only_answer(const struct scratch *s,
					     const struct flow_hot *f)
{
	return s->work.responder && f->protocol_method == METHOD_HTTP_HOST &&
	       f->protocol != PROTOCOL_HTTP_CONNECT;
}

/* True: the next stage is in *next. */
static __always_inline bool inspect_tcp(struct scratch *s, struct flow_hot *f,
					enum stage *next)
{
	__u32 d = s->work.direction & 1, end = s->work.length;
	enum position where = stream_position(s, f);
	struct found at = {};
	enum outcome result;
	__u16 answer;

	*next = STAGE_STREAM;
	if (f->protocol_method == METHOD_DNS)
		return inspect_answer(s, f, next);
	if (f->flags & (__u32)FLOW_PENDING_0 << d && !late_kept(s, f))
		return true;
	if (where == POSITION_GAP && !http_only_answer(s, f))
		return true;
	spend(f, d);
	if (where == POSITION_GAP)
		return false;
	/* Only what a stream begins with says what the flow is; but TLS may begin
	 * later, and then gives it a name. */
	if (where == POSITION_LATER && !late_begins(s, f))
		return inspect_later(s, f, next);
	result = stream_read(s, &s->payload, end, &at);
	if (result == OUTCOME_NAME && at.missing) {
		s->work.partial = 1; /* the rest of the hello may yet come */
		s->work.after = STAGE_STREAM;
		*next = STAGE_NAME;
		return true;
	}
	if (result == OUTCOME_SERVER)
		*next = STAGE_SERVER;
	if (result == OUTCOME_MORE || result == OUTCOME_SERVER)
		return true;
	answer = answer_read(s, &s->payload, end);
	if (result == OUTCOME_OTHER && !answer)
		return inspect_other(s, f, next);
	flow_mark(f, (__u32)FLOW_START_0 << d);
	*next = STAGE_NAME;
	if (result == OUTCOME_NAMELESS)
		stream_nameless(s);
	else if (result == OUTCOME_MALFORMED)
		stream_malformed(s);
	else if (result == OUTCOME_OTHER)
		stream_answer(s, answer);
	return result == OUTCOME_NAME;
}

/* A ClientHello of DTLS? Where that comes behind something else, STUN for one, that is
 * what the flow is. */
static __always_inline bool inspect_dtls(const struct scratch *s,
					 const struct flow_hot *f)
{
	return (f->protocol_method < METHOD_PATTERN ||
		f->protocol == PROTOCOL_DTLS) &&
	       f->protocol_method != METHOD_DNS &&
	       dtls_begins(&s->payload, s->work.length);
}

/* Is a hello of DTLS being put together? Then no pattern is asked, which would end
 * that. */
static __always_inline bool dtls_pending(const struct flow_hot *f)
{
	return f->protocol == PROTOCOL_DTLS &&
	       f->flags & (FLOW_PENDING_0 | FLOW_PENDING_1);
}

/* True: the next stage is in *next. */
static __always_inline bool inspect_udp(struct scratch *s, struct flow_hot *f,
					enum stage *next)
{
	enum outcome result;

	result = dns_read(s, &s->payload, 0, s->work.length);
	if (result == OUTCOME_OTHER &&
	    quic_begins(&s->payload, s->work.length)) {
		s->quic.next = s->quic.packets = s->quic.gain = 0;
		*next = STAGE_QUIC; /* which knows whether this was worth it */
		return true;
	}
	if (result == OUTCOME_OTHER && inspect_dtls(s, f)) {
		*next = STAGE_DTLS; /* likewise */
		return true;
	}
	spend(f, s->work.direction);
	if (result == OUTCOME_OTHER && moved_ask())
		return false;
	if (f->protocol_method >= METHOD_ECH_OUTER || dtls_pending(f))
		return false;
	/* An announcement, or a question about the root: the next message may
	 * well ask for a name, and a stronger method than its own would keep
	 * that name out. */
	if (result == OUTCOME_NAMELESS)
		protocol_only(s, s->work.protocol, METHOD_DNS, 0);
	if (result == OUTCOME_OTHER && f->protocol_method != METHOD_DNS) {
		*next = STAGE_MATCH;
		return true;
	}
	return result == OUTCOME_NAME;
}

static __always_inline int stage_inspect(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	enum stage next = STAGE_NAME;
	struct flow_hot *f;
	bool go_on;

	if (!s)
		return ctx_pass(hook);
	f = flow_at(s->work.index);
	if (!f || f->tag != s->work.tag) {
		count(LOSS_STALE_FLOW);
		return ctx_pass(hook);
	}
	count(INFO_INSPECTED);
	if (!payload_load(ctx, hook, s))
		return ctx_pass(hook);
	s->work.packet = f->spent[s->work.direction & 1] + 1;
	s->work.responder = (s->work.direction & 1) !=
			    !!(f->flags & FLOW_INITIATOR_1);
	s->work.after = s->work.open = s->work.late = 0;
	s->work.partial = s->work.named = s->work.keep = 0;
	s->facts.whole = s->facts.walked = s->facts.tls_flags = 0;
	s->facts.known = 0;
	text_forget(s);
	if (s->work.l4 == IPPROTO_TCP)
		go_on = inspect_tcp(s, f, &next);
	else
		go_on = inspect_udp(s, f, &next);
	if (go_on) {
		ctx_tail_call(ctx, hook, next);
		count(LOSS_TAIL_CALL);
	}
	return ctx_pass(hook);
}

static __always_inline int stage_name(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();

	if (!s)
		return ctx_pass(hook);
	if (!name_decide(s))
		s->work.partial = 0;
	else if (s->work.method == METHOD_DNS)
		dns_learn(s);
	if (s->work.method == METHOD_SNI && !s->work.partial)
		client_done(s);
	if (s->work.method == METHOD_HTTP_HOST)
		request_done(s);
	if (s->work.method == METHOD_HTTP_HOST ||
	    s->work.method == METHOD_SNI || s->work.method == METHOD_QUIC_SNI)
		text_give(s, s->verdict.name, METHOD_PATTERN);
	if (s->work.partial && s->work.after) {
		ctx_tail_call(ctx, hook, s->work.after);
		count(LOSS_TAIL_CALL);
	}
	return ctx_pass(hook);
}

#endif /* XDPPROBE_INSPECT_H */
