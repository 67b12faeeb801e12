/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The stages behind the entry points. INSPECT copies the payload once and asks
 * each protocol; STREAM puts unfinished hellos together; NAME decides. From the
 * copy on, nothing depends on the hook but the tail calls.
 */
#ifndef XDPPROBE_INSPECT_H
#define XDPPROBE_INSPECT_H

#include "dns.h"
#include "hello.h"
#include "http.h"
#include "name.h"
#include "stream.h"

#define SSH_BANNER_MIN 8

/* Copy the payload to scratch. False: could not, and that is counted. */
static __always_inline bool payload_load(void *ctx, enum hook hook,
					 struct scratch *s)
{
	__u32 length = s->work.length;

	if (length > STREAM_MAX)
		length = STREAM_MAX;
	s->work.length = length;
	opaque(length);
	if (!length || length > STREAM_MAX)
		return false;
	if (ctx_load_bytes(ctx, hook, s->work.offset, s->payload.b, length)) {
		count(LOSS_LOAD_BYTES);
		return false;
	}
	return true;
}

/* Take the name found in `from` to scratch.name. */
static __always_inline bool name_take(struct scratch *s, const void *from,
				      const struct found *at)
{
	__u32 length = at->length;

	if (at->offset > sizeof(struct joined_bytes) || !length ||
	    length > NAME_MAX_LEN) {
		count(LOSS_NAME_CHARS);
		return false;
	}
	__builtin_memset(s->name, 0, sizeof(s->name));
	opaque(length);
	length &= NAME_MAX_LEN;
	if (bpf_probe_read_kernel(s->name, length, from + at->offset))
		return false;
	s->work.name_length = length;
	return true;
}

/* The protocol is known, a name is not (or not yet). */
static __always_inline void protocol_only(struct scratch *s, __u16 protocol,
					  __u8 final)
{
	struct flow_hot *f = flow_at(s->work.index);

	if (f && f->protocol == protocol && !final)
		return;
	s->verdict = (struct verdict){
		.protocol = protocol,
		.protocol_method = METHOD_PATTERN,
		.confidence = 100,
		.final = final,
	};
	verdict_give();
}

/* What the first bytes of a stream say. True: a name stands in scratch.name. */
static __always_inline bool stream_read(struct scratch *s, struct bytes *m,
					__u32 end, enum outcome *result)
{
	struct joined_bytes *to;
	struct found at = {};
	__u32 zero = 0;

	s->work.protocol = PROTOCOL_TLS;
	s->work.method = METHOD_SNI;
	*result = hello_read(m, end, &at);
	if (*result == OUTCOME_OTHER) {
		s->work.protocol = PROTOCOL_HTTP;
		s->work.method = METHOD_HTTP_HOST;
		*result = http_read(m, end, &at);
	}
	if (*result == OUTCOME_MALFORMED)
		count(LOSS_HELLO_MALFORMED);
	if (*result != OUTCOME_NAME)
		return false;
	if (!at.in_joined)
		return name_take(s, m, &at);
	to = bpf_map_lookup_elem(&joined, &zero);
	return to && name_take(s, to, &at);
}

/* Port 53 over TCP has a length of 2 bytes before the message (RFC 7766). */
static __always_inline bool dns_read(struct scratch *s, __u32 at)
{
	__u32 end = s->work.length;
	__u16 protocol = dns_protocol(&s->work);
	int length;

	if (!protocol || !dns_header(&s->payload, at, end))
		return false;
	__builtin_memset(s->name, 0, sizeof(s->name));
	length = 0;
	if (be16_at(&s->payload, at + 4)) {
		length = dns_question(&s->payload, at + DNS_HEADER, end);
		if (length < 0)
			return false;
	}
	s->work.protocol = protocol;
	s->work.method = METHOD_DNS;
	s->work.name_length = length;
	if (!length)
		protocol_only(s, protocol, 1);
	return length;
}

/* Answers and banners, which need no name. True: the flow is decided. */
static __always_inline bool answer_read(struct scratch *s)
{
	const struct bytes *m = &s->payload;
	__u32 end = s->work.length;

	if (end >= SSH_BANNER_MIN &&
	    be32_at(m, 0) == FOUR('S', 'S', 'H', '-')) {
		protocol_only(s, PROTOCOL_SSH, 1);
		return true;
	}
	if (hello_answers(m, end))
		protocol_only(s, PROTOCOL_TLS, 0);
	else if (http_answers(m, end))
		protocol_only(s, PROTOCOL_HTTP, 0);
	return false;
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

static __always_inline void spend(struct flow_hot *f, __u32 direction)
{
	__u32 d = direction & 1;

	if (f->spent[d] >= inspect_budget)
		return;
	if (++f->spent[d] == inspect_budget && !f->protocol)
		count(LOSS_BUDGET);
}

/* Without a SYN, the first payload that comes may be a later piece of a hello
 * whose start is still to come: worth keeping if nobody has answered yet. */
static __always_inline bool maybe_later(const struct scratch *s,
					const struct flow_hot *f)
{
	__u32 d = s->work.direction & 1;

	return !(f->flags & (__u32)FLOW_ISN_0 << d) && f->spent[d] == 1 &&
	       !f->spent[d ^ 1] && !f->protocol;
}

/* True: the next stage is in *next. */
static __always_inline bool inspect_tcp(struct scratch *s, struct flow_hot *f,
					enum stage *next)
{
	__u32 d = s->work.direction & 1;
	enum position where = stream_position(s, f);
	enum outcome result;

	*next = STAGE_STREAM;
	if (f->flags & (__u32)FLOW_PENDING_0 << d || where == POSITION_GAP)
		return true;
	spend(f, d);
	/* Only what a stream begins with names it: TLS after STARTTLS, or a request
	 * through a SOCKS proxy, is not what the flow is. */
	if (where == POSITION_LATER)
		return false;
	*next = STAGE_NAME;
	if (dns_read(s, 2))
		return true;
	if (stream_read(s, &s->payload, s->work.length, &result))
		return true;
	flow_mark(f, (__u32)FLOW_START_0 << d);
	if (result == OUTCOME_MORE) {
		*next = STAGE_STREAM;
		return true;
	}
	if (result == OUTCOME_NAMELESS)
		protocol_only(s, s->work.protocol,
			      s->work.protocol == PROTOCOL_TLS);
	else if (result == OUTCOME_OTHER && !answer_read(s))
		return *next = STAGE_STREAM, maybe_later(s, f);
	return false;
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
	if (s->work.l4 == IPPROTO_TCP) {
		go_on = inspect_tcp(s, f, &next);
	} else {
		spend(f, s->work.direction);
		go_on = dns_read(s, 0);
	}
	if (go_on) {
		ctx_tail_call(ctx, hook, next);
		count(LOSS_TAIL_CALL);
	}
	return ctx_pass(hook);
}

/* The slot for the packet's direction. A piece that opens no hello, of a flow
 * whose SYN was not seen, has no business here. */
static __always_inline struct hello_slot *stream_slot(struct scratch *s,
						      struct flow_hot *f)
{
	__u32 d = s->work.direction & 1;
	__u32 both = FLOW_ANSWERED_0 | FLOW_ANSWERED_1;
	__u64 owner = s->work.tag ^ d;
	struct hello_slot *h = hello_find(owner);
	bool answered = (f->flags & both) == both;
	struct flow_cold *c;

	if (f->flags & (__u32)FLOW_PENDING_0 << d) {
		if (!h)
			flow_unmark(f, (__u32)FLOW_PENDING_0 << d);
		else
			h->answered = answered;
		return h;
	}
	/* Left behind by an earlier connection between the same ports. */
	if (h)
		hello_release(h);
	c = cold_at(s->work.index);
	h = hello_claim(owner, s->work.now, answered);
	if (!h || !c)
		return NULL;
	h->answered = answered;
	h->synced = (f->flags & (__u32)FLOW_ISN_0 << d) != 0;
	h->base = h->synced ? c->isn[d] + 1 : s->work.sequence;
	flow_mark(f, (__u32)FLOW_PENDING_0 << d);
	return h;
}

static __always_inline int stage_stream(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	enum outcome result = OUTCOME_MORE;
	struct hello_slot *h;
	struct flow_hot *f;
	bool named = false, news = false;

	if (!s)
		return ctx_pass(hook);
	f = flow_at(s->work.index);
	if (!f || f->tag != s->work.tag)
		return ctx_pass(hook);
	count(INFO_HELLO_PIECES);
	h = stream_slot(s, f);
	if (!h) {
		spend(f, s->work.direction);
		return ctx_pass(hook);
	}
	if (hello_merge(h, s, &news))
		named = stream_read(s, &h->data, h->contiguous, &result);
	if (!news || result == OUTCOME_OTHER)
		spend(f, s->work.direction);
	/* Where the start is not known for sure, it may yet come. */
	if (result == OUTCOME_OTHER && !h->synced)
		result = OUTCOME_MORE;
	if (result == OUTCOME_MORE && h->contiguous < STREAM_MAX &&
	    f->spent[s->work.direction & 1] < inspect_budget) {
		hello_unlock(h);
		return ctx_pass(hook);
	}
	hello_release(h);
	flow_unmark(f, (__u32)FLOW_PENDING_0 << (s->work.direction & 1));
	flow_mark(f, (__u32)FLOW_START_0 << (s->work.direction & 1));
	if (named) {
		count(INFO_HELLO_JOINED);
		ctx_tail_call(ctx, hook, STAGE_NAME);
		count(LOSS_TAIL_CALL);
	} else if (result == OUTCOME_NAMELESS) {
		protocol_only(s, s->work.protocol,
			      s->work.protocol == PROTOCOL_TLS);
	}
	return ctx_pass(hook);
}

static __always_inline int stage_name(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();

	if (s)
		name_decide(s);
	return ctx_pass(hook);
}

#endif /* XDPPROBE_INSPECT_H */
