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

/* The name of a DNS message at `at`. */
static __always_inline enum outcome dns_read(struct scratch *s, struct bytes *m,
					     __u32 at, __u32 end)
{
	__u16 protocol = dns_protocol(&s->work);
	int length = 0;

	if (!protocol || !dns_header(m, at, end))
		return OUTCOME_OTHER;
	__builtin_memset(s->name, 0, sizeof(s->name));
	if (be16_at(m, at + 4))
		length = dns_question(m, at + DNS_HEADER, end);
	if (length < 0)
		return OUTCOME_OTHER;
	s->work.protocol = protocol;
	s->work.method = METHOD_DNS;
	s->work.name_length = length;
	return length ? OUTCOME_NAME : OUTCOME_NAMELESS;
}

/* Over TCP a length of 2 bytes comes before the message (RFC 7766, 8). */
static __always_inline enum outcome dns_stream(struct scratch *s,
					       struct bytes *m, __u32 end)
{
	enum outcome result;

	if (!dns_protocol(&s->work))
		return OUTCOME_OTHER;
	result = dns_read(s, m, 2, end);
	if (result == OUTCOME_OTHER &&
	    (end < 2 + DNS_HEADER ||
	     (end < 2 + be16_at(m, 0) && dns_header(m, 2, end))))
		return OUTCOME_MORE;
	return result;
}

/* What the first bytes of a stream say; with OUTCOME_NAME, the name stands in
 * scratch.name. */
static __always_inline enum outcome
stream_read(struct scratch *s, struct bytes *m, __u32 end, struct found *at)
{
	enum outcome result = dns_stream(s, m, end);
	struct joined_bytes *to;
	__u32 zero = 0;

	if (result != OUTCOME_OTHER)
		return result;
	s->work.protocol = PROTOCOL_TLS;
	s->work.method = METHOD_SNI;
	result = hello_read(m, end, at);
	if (result == OUTCOME_OTHER) {
		s->work.protocol = PROTOCOL_HTTP;
		s->work.method = METHOD_HTTP_HOST;
		result = http_read(m, end, at);
	}
	if (result == OUTCOME_MALFORMED)
		count(LOSS_HELLO_MALFORMED);
	if (result != OUTCOME_NAME)
		return result;
	if (!at->in_joined)
		return name_take(s, m, at) ? result : OUTCOME_NAMELESS;
	to = bpf_map_lookup_elem(&joined, &zero);
	return to && name_take(s, to, at) ? result : OUTCOME_NAMELESS;
}

/* Answers and banners, which need no name. */
static __always_inline __u16 answer_read(const struct bytes *m, __u32 end)
{
	if (end >= SSH_BANNER_MIN && be32_at(m, 0) == FOUR('S', 'S', 'H', '-'))
		return PROTOCOL_SSH;
	if (hello_answers(m, end))
		return PROTOCOL_TLS;
	return http_answers(m, end) ? PROTOCOL_HTTP : PROTOCOL_UNKNOWN;
}

/* A stream that gives no name is of this protocol. Of TLS and DNS that was all;
 * the server's end of an SSH or HTTP connection may come first. */
static __always_inline void stream_nameless(struct scratch *s)
{
	protocol_only(s, s->work.protocol, s->work.protocol != PROTOCOL_HTTP);
}

static __always_inline void stream_answer(struct scratch *s, __u16 protocol)
{
	if (protocol)
		protocol_only(s, protocol, protocol == PROTOCOL_SSH);
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
	__u32 d = s->work.direction & 1, end = s->work.length;
	enum position where = stream_position(s, f);
	struct found at = {};
	enum outcome result;
	__u16 answer;

	*next = STAGE_STREAM;
	if (f->flags & (__u32)FLOW_PENDING_0 << d || where == POSITION_GAP)
		return true;
	spend(f, d);
	/* Only what a stream begins with names it: TLS after STARTTLS, or a request
	 * through a SOCKS proxy, is not what the flow is. */
	if (where == POSITION_LATER)
		return false;
	result = stream_read(s, &s->payload, end, &at);
	if (result == OUTCOME_NAME) {
		*next = STAGE_NAME;
		return true;
	}
	if (result == OUTCOME_MORE)
		return true;
	answer = answer_read(&s->payload, end);
	if (result == OUTCOME_OTHER && !answer && maybe_later(s, f))
		return true;
	flow_mark(f, (__u32)FLOW_START_0 << d);
	if (result == OUTCOME_NAMELESS)
		stream_nameless(s);
	else if (result == OUTCOME_OTHER)
		stream_answer(s, answer);
	return false;
}

static __always_inline int stage_inspect(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	enum stage next = STAGE_NAME;
	enum outcome result;
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
		result = dns_read(s, &s->payload, 0, s->work.length);
		if (result == OUTCOME_NAMELESS)
			stream_nameless(s);
		go_on = result == OUTCOME_NAME;
	}
	if (go_on) {
		ctx_tail_call(ctx, hook, next);
		count(LOSS_TAIL_CALL);
	}
	return ctx_pass(hook);
}

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
		h = hello_claim(owner, s->work.now, (f->flags & both) == both);
		if (h) {
			h->synced = (f->flags & (__u32)FLOW_ISN_0 << d) != 0;
			h->base = h->synced ? c->isn[d] + 1 : s->work.sequence;
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

/* Could reading say more than it did? What is known of how much is missing tells
 * of TLS; a field of HTTP is complete with its line. */
static __always_inline bool stream_due(const struct hello_slot *h)
{
	if (h->contiguous >= h->due)
		return true;
	return byte_at(&h->data, 0) != TLS_HANDSHAKE &&
	       byte_at(&h->data, h->contiguous - 1) == '\n';
}

/* Read what there is of the stream, if that may say more than before. */
static __always_inline enum outcome
stream_again(struct scratch *s, struct hello_slot *h, __u16 *answer)
{
	struct found at = {};
	enum outcome result;

	*answer = PROTOCOL_UNKNOWN;
	if (!stream_due(h))
		return OUTCOME_MORE;
	result = stream_read(s, &h->data, h->contiguous, &at);
	if (result == OUTCOME_OTHER)
		*answer = answer_read(&h->data, h->contiguous);
	h->work += WORK_READ + h->contiguous / STREAM_BLOCK + at.records;
	h->due = h->contiguous + at.missing;
	if (!at.missing)
		h->due += h->contiguous / 16 + 1;
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
	else
		stream_answer(s, answer);
	return false;
}

static __always_inline int stage_stream(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	enum outcome result = OUTCOME_MORE;
	struct hello_slot *h;
	struct flow_hot *f;
	bool news = false;
	__u16 answer = 0;
	__u32 d;

	if (!s)
		return ctx_pass(hook);
	d = s->work.direction & 1;
	f = flow_at(s->work.index);
	if (!f || f->tag != s->work.tag) {
		count(LOSS_STALE_FLOW);
		return ctx_pass(hook);
	}
	count(INFO_HELLO_PIECES);
	s->work.protocol = PROTOCOL_UNKNOWN;
	h = stream_slot(s, f);
	if (!h) {
		spend(f, d);
		return ctx_pass(hook);
	}
	if (hello_merge(h, s, &news))
		result = stream_again(s, h, &answer);
	if (!news || result == OUTCOME_OTHER)
		spend(f, d);
	/* Where the start is not known for sure, it may yet come. */
	if (result == OUTCOME_OTHER && !answer && !h->synced)
		result = OUTCOME_MORE;
	if (result == OUTCOME_MORE && h->contiguous < STREAM_MAX &&
	    h->work < HELLO_WORK_MAX && f->spent[d] < inspect_budget) {
		hello_unlock(h);
		return ctx_pass(hook);
	}
	if (result == OUTCOME_MORE && hello_begun(&h->data, h->contiguous))
		answer = PROTOCOL_TLS;
	hello_release(h);
	flow_unmark(f, (__u32)FLOW_PENDING_0 << d);
	if (stream_end(s, result, answer)) {
		ctx_tail_call(ctx, hook, STAGE_NAME);
		count(LOSS_TAIL_CALL);
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
