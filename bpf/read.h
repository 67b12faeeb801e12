/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the first bytes of a stream or datagram say: each protocol is asked in
 * turn. The same for one packet's payload and for what was put together.
 */
#ifndef XDPPROBE_READ_H
#define XDPPROBE_READ_H

#include "dns.h"
#include "hello.h"
#include "http.h"
#include "text.h"

#define SSH_BANNER_MIN 8
#define CONFIDENCE_MALFORMED 60

static __always_inline void spend(struct flow_hot *f, __u32 direction)
{
	__u32 d = direction & 1;

	if (f->spent[d] >= inspect_budget)
		return;
	if (++f->spent[d] == inspect_budget && !f->protocol)
		count(LOSS_BUDGET);
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

/* Ask for a text of an HTTP request. Lines that follow may be taken along: no
 * signature's text goes over a line. Global: verified once. */
__noinline int http_text(struct bytes *m, __u32 at, __u32 end, __u32 kind)
{
	struct scratch *s = scratch_get();

	if (!m || !s)
		return 0;
	at = http_value(m, at);
	opaque(at);
	if (at >= end || at > STREAM_MAX - TEXT_LEN)
		return 0;
	text_take(s, kind, &m->b[at], end - at);
	text_ask(s);
	return 1;
}

/* What a request says beside its Host: to be given when that is decided. */
static __always_inline void http_texts(struct scratch *s, struct bytes *m,
				       __u32 end)
{
	generation_choose(s);
	http_text(m, 0, end, TEXT_REQUEST);
	if (s->http.agent)
		http_text(m, s->http.agent, end, TEXT_USER_AGENT);
	if (s->http.type)
		http_text(m, s->http.type, end, TEXT_CONTENT_TYPE);
	if (s->http.action)
		http_text(m, s->http.action, end, TEXT_SOAP_ACTION);
}

/* The protocol is known, a name is not (or not yet). */
static __always_inline void protocol_only(struct scratch *s, __u16 protocol,
					  __u8 method, __u8 final)
{
	struct flow_hot *f = flow_at(s->work.index);

	if (f && f->protocol == protocol && f->protocol_method >= method &&
	    !final)
		return;
	s->verdict = (struct verdict){
		.protocol = protocol,
		.protocol_method = method,
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
	dns_describe(s, m, at, end);
	s->work.protocol = protocol;
	s->work.method = METHOD_DNS;
	s->work.name_length = length;
	return length ? OUTCOME_NAME : OUTCOME_NAMELESS;
}

/* Over TCP a length of 2 bytes comes before the message (RFC 7766, 8). */
static __always_inline enum outcome dns_stream(struct scratch *s,
					       struct bytes *m, __u32 end)
{
	__u32 stop = 2 + be16_at(m, 0);
	enum outcome result;

	if (!dns_protocol(&s->work))
		return OUTCOME_OTHER;
	result = dns_read(s, m, 2, end < stop ? end : stop);
	if (result == OUTCOME_OTHER &&
	    (end < 2 + DNS_HEADER || (end < stop && dns_header(m, 2, end))))
		return OUTCOME_MORE;
	return result;
}

/* TLS began within another protocol, which the flow keeps. */
static __always_inline bool tls_late(const struct scratch *s)
{
	const struct flow_cold *c = cold_at(s->work.index);

	return c && c->tls_flags & TLS_LATE;
}

/* What a stream of TLS is called: some are known by their port (RFC 8314, 7; RFC
 * 4217, 3). */
static __always_inline __u16 tls_protocol(const struct scratch *s)
{
	if (tls_late(s))
		return PROTOCOL_UNKNOWN;
	switch (s->work.responder ? s->work.source_port :
				    s->work.destination_port) {
	case 465:
		return PROTOCOL_SMTPS;
	case 990:
		return PROTOCOL_FTPS;
	case 993:
		return PROTOCOL_IMAPS;
	case 995:
		return PROTOCOL_POPS;
	}
	return PROTOCOL_TLS;
}

/* Are these the server's bytes, whose client has said its name? */
static __always_inline bool client_named(const struct scratch *s)
{
	const struct flow_hot *f = flow_at(s->work.index);

	return s->work.responder && f &&
	       (f->protocol_method == METHOD_SNI ||
		f->protocol_method == METHOD_HTTP_HOST ||
		f->protocol_method == METHOD_ECH_OUTER);
}

/* What the first bytes of a stream say; with OUTCOME_NAME, the name stands in
 * scratch.name. */
static __always_inline enum outcome
stream_read(struct scratch *s, struct bytes *m, __u32 end, struct found *at)
{
	enum outcome result = dns_stream(s, m, end);
	struct joined_bytes *to;
	__u32 zero = 0;

	text_forget(s);
	if (result != OUTCOME_OTHER)
		return result;
	s->work.protocol = tls_protocol(s);
	s->work.method = METHOD_SNI;
	s->work.open = 1; /* the other side's answer is still to come */
	if (hello_answers(m, end))
		return OUTCOME_SERVER;
	if (hello_may_answer(m, end))
		return hello_wait(at, SERVER_HELLO_HEAD, end);
	if (client_named(s)) { /* a server has no say in that */
		if (end < HTTP_STATUS_MIN && byte_at(m, 0) == 'H')
			return hello_wait(at, HTTP_STATUS_MIN, end);
		if (end > TLS_RECORD_HEADER || !hello_begins(m, end))
			return OUTCOME_OTHER;
		return hello_wait(at, TLS_RECORD_HEADER + 1, end);
	}
	result = hello_read(m, end, at);
	if (result == OUTCOME_NAME || result == OUTCOME_NAMELESS)
		alpn_ask();
	if (result == OUTCOME_OTHER) {
		s->work.protocol = http_protocol(m);
		s->work.method = METHOD_HTTP_HOST;
		result = http_read(m, end, at);
		if (result == OUTCOME_NAME || result == OUTCOME_NAMELESS)
			http_texts(s, m, end);
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

/* Answers and banners, which need no name. What an HTTP answer's fields say stands in
 * scratch.told. */
static __always_inline __u16 answer_read(struct scratch *s, struct bytes *m,
					 __u32 end)
{
	if (end >= SSH_BANNER_MIN && be32_at(m, 0) == FOUR('S', 'S', 'H', '-'))
		return PROTOCOL_SSH;
	if (!http_answers(m, end))
		return PROTOCOL_UNKNOWN;
	generation_choose(s);
	if (!http_answer(m, end))
		return PROTOCOL_HTTP;
	if (s->http.server)
		http_text(m, s->http.server, end, TEXT_SERVER);
	if (s->http.type)
		http_text(m, s->http.type, end, TEXT_CONTENT_TYPE);
	return PROTOCOL_HTTP;
}

/* A client's hello was read, to its name or to where it has none: what it sends
 * from now on says nothing more, but its server's certificate may. */
static __always_inline void client_done(struct scratch *s)
{
	struct flow_hot *f = flow_at(s->work.index);

	if (f && f->tag == s->work.tag)
		direction_done(f, s->work.direction);
}

/* A request was read, to its name or to where it has none: of CONNECT's client TLS may
 * follow. */
static __always_inline void request_done(struct scratch *s)
{
	struct flow_hot *f = flow_at(s->work.index);
	__u32 d = s->work.direction & 1;

	s->told.final =
		0; /* its answer is to be read, or what follows CONNECT */
	if (!f || f->tag != s->work.tag ||
	    s->work.protocol == PROTOCOL_HTTP_CONNECT)
		return;
	direction_done(f, d);
	/* Of a connection that began before, an answer may have been read. */
	if (f->flags & (__u32)FLOW_START_0 << (d ^ 1))
		direction_done(f, d ^ 1);
}

/* A stream that gives no name is of this protocol. Of DNS that was all; the
 * server's end of a TLS, SSH or HTTP connection may come first. */
static __always_inline void stream_nameless(struct scratch *s)
{
	protocol_only(s, s->work.protocol, METHOD_PATTERN,
		      s->work.protocol == PROTOCOL_DNS);
	if (s->work.method == METHOD_HTTP_HOST)
		request_done(s);
	text_give(s, 0, METHOD_PATTERN);
	if (s->work.method == METHOD_SNI)
		client_done(s);
}

/* It began as TLS does, and then said something else: more likely damaged than not TLS. */
static __always_inline void stream_malformed(struct scratch *s)
{
	if (!s->work.protocol)
		return;
	s->verdict = (struct verdict){
		.protocol = s->work.protocol,
		.protocol_method = METHOD_PATTERN,
		.confidence = CONFIDENCE_MALFORMED,
	};
	verdict_give();
}

/* A request that gave a name has its answer: nothing else is to be learned, but behind
 * CONNECT. What answers counts more than who was asked where its signature says that it
 * stands in that one's place. */
static __always_inline void http_answered(struct scratch *s)
{
	struct flow_hot *f = flow_at(s->work.index);
	__u32 d = s->work.direction & 1;
	__u32 method = METHOD_PATTERN;

	if (s->told.in_place)
		method = METHOD_HTTP_SERVER;
	s->told.final = 0; /* the request may be still to come */
	text_give(s, 0, method);
	if (f && f->tag == s->work.tag &&
	    f->protocol != PROTOCOL_HTTP_CONNECT &&
	    f->spent[d ^ 1] >= inspect_budget)
		direction_done(f, d);
}

static __always_inline void stream_answer(struct scratch *s, __u16 protocol)
{
	struct flow_hot *f = flow_at(s->work.index);

	if (!protocol)
		return;
	/* Its request knows better what kind of HTTP it is. */
	if (protocol != PROTOCOL_HTTP || !f || !http_named(f->protocol) ||
	    f->protocol_method < METHOD_PATTERN)
		protocol_only(s, protocol, METHOD_PATTERN,
			      protocol == PROTOCOL_SSH);
	if (protocol == PROTOCOL_HTTP)
		http_answered(s);
}

#endif /* XDPPROBE_READ_H */
