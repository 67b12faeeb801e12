/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stage SERVER: what a TLS server answers first. Its ServerHello has the version that
 * both go on with, and whether an earlier session does (RFC 8446, 4.1.3; RFC 5246, 7.3
 * and 7.4.1.3; RFC 5077, 3.1). Up to TLS 1.2 a certificate follows, in the clear.
 *
 * Handshake messages, their records taken off:
 *  0    1       4        6       38
 *  +----+-------+--------+--------+--------   then session id (len 1), cipher suite 2,
 *  |  2 | len   | version| random | sid len   compression 1, extensions (len 2), each:
 *  +----+-------+--------+--------+--------   type 2, len 2, data
 *  0    1       4        7        10
 *  +----+-------+--------+--------+--------
 *  | 11 | len   | all len| len    | first certificate, that of the server
 *  +----+-------+--------+--------+--------
 */
#ifndef XDPPROBE_SERVER_H
#define XDPPROBE_SERVER_H

#include "assemble.h"
#include "certificate.h"
#include "late.h"

#define TLS_NEW_SESSION_TICKET 4
#define TLS_CERTIFICATE 11
#define TLS_CHANGE_CIPHER_SPEC 20
#define TLS_EXTENSION_PRE_SHARED_KEY 41
#define TLS_EXTENSION_VERSIONS 43
#define TLS_1_3 0x0304
#define SERVER_EXTENSIONS_MAX 32
#define CERTIFICATE_HEADER 10
#define COMMON_NAME_MAX 64 /* RFC 5280, A.1 */

/* The ServerHello's next extension, which ends by `stop`. Returns 0 where there is none.
 * Global, as the next three: verified once, and not with each way that leads there. */
__noinline int server_extension(struct scratch *s, struct bytes *m, __u32 stop)
{
	__u32 at, type, length;

	if (!s || !m)
		return 0;
	at = s->server.at;
	if (at + 4 > stop)
		return 0;
	type = be16_at(m, at);
	length = be16_at(m, at + 2);
	if (at + 4 + length > stop)
		return 0;
	if (type == TLS_EXTENSION_VERSIONS && length == 2)
		s->server.version = be16_at(m, at + 4);
	if (type == TLS_EXTENSION_PRE_SHARED_KEY)
		s->server.flags = TLS_RESUMED;
	s->server.at = at + 4 + length;
	return 1;
}

/* The message at 0, which ends before `stop`. 0: contradicts itself. */
__noinline int server_hello(struct scratch *s, struct bytes *m, __u32 stop)
{
	__u32 at = TLS_HANDSHAKE_HEADER, length;

	if (!s || !m || stop < at + TLS_VERSION_AND_RANDOM + 4)
		return 0;
	s->server.version = be16_at(m, at);
	at += TLS_VERSION_AND_RANDOM;
	length = byte_at(m, at);
	if (length > TLS_SESSION_ID_MAX)
		return 0;
	at += 1 + length + 3;
	if (at > stop)
		return 0;
	if (at + 2 > stop) /* TLS 1.2 and before: no extensions at all */
		return 1;
	length = be16_at(m, at);
	at += 2;
	if (at + length > stop)
		return 0;
	s->server.at = at;
#pragma clang loop unroll(disable)
	for (int i = 0; i < SERVER_EXTENSIONS_MAX; i++)
		if (!server_extension(s, m, at + length))
			break;
	if (s->server.version < TLS_1_3)
		s->server.flags = 0;
	return 1;
}

/* The Certificate message at `at`, of which the bytes before `end` are there. */
__noinline int server_certificate(struct scratch *s, struct bytes *m, __u32 at,
				  __u32 end, struct found *out)
{
	__u32 message, list, length, stop;

	if (!s || !m || !out)
		return OUTCOME_OTHER;
	message = be24_at(m, at + 1);
	if (at + CERTIFICATE_HEADER > end)
		return hello_wait(out, at + CERTIFICATE_HEADER, end);
	list = be24_at(m, at + 4);
	length = be24_at(m, at + 7);
	if (!list)
		return OUTCOME_NAMELESS;
	if (list + 3 != message || length + 3 > list || !length) {
		count(LOSS_CERTIFICATE_MALFORMED);
		return OUTCOME_MALFORMED;
	}
	at += CERTIFICATE_HEADER;
	stop = at + length;
	if (stop > STREAM_MAX) {
		count(LOSS_CERTIFICATE_LONG);
		return OUTCOME_NAMELESS;
	}
	if (stop > end)
		return hello_wait(out, stop, end);
	out->offset = at;
	out->length = length;
	return OUTCOME_NAME;
}

/* What follows the ServerHello of TLS 1.2 or before, from server.at on. `next`: the
 * type of the record behind the handshake's, 0: not there yet. */
__noinline int server_follows(struct scratch *s, struct bytes *m, __u32 end,
			      __u32 next, struct found *out)
{
	__u32 at;

	if (!s || !m || !out)
		return OUTCOME_OTHER;
	at = s->server.at;
	if (at + TLS_HANDSHAKE_HEADER <= end &&
	    byte_at(m, at) == TLS_NEW_SESSION_TICKET)
		at += TLS_HANDSHAKE_HEADER + be24_at(m, at + 1);
	if (at + TLS_HANDSHAKE_HEADER <= end) {
		if (byte_at(m, at) != TLS_CERTIFICATE)
			return OUTCOME_NAMELESS;
		return server_certificate(s, m, at, end, out);
	}
	/* Where the session goes on, the server is the first to change ciphers. */
	if (next == TLS_CHANGE_CIPHER_SPEC && at == end)
		s->server.flags = TLS_RESUMED;
	if (next)
		return OUTCOME_NAMELESS;
	return hello_wait(out, at + TLS_HANDSHAKE_HEADER, end);
}

/*
 * A server's first flight, of which `end` bytes are there. OUTCOME_NAME: its certificate
 * stands in `joined`, where *out says. The version is known where it is not 0, whatever comes of the rest.
 * Global: verified once.
 */
__noinline int server_read(struct bytes *m, __u32 end, struct found *out)
{
	struct scratch *s = scratch_get();
	__u32 zero = 0, length, stop, next = 0;
	struct joined_bytes *to = bpf_map_lookup_elem(&joined, &zero);
	struct bytes *flat = (struct bytes *)to;
	int result;

	if (!m || !out || !s || !to || end > STREAM_MAX)
		return OUTCOME_OTHER;
	opaque(s);
	s->server = (struct server_state){};
	length = records_join(s, m, end, to, out);
	if (s->join.broken)
		next = byte_at(m, s->join.at);
	if (length < TLS_HANDSHAKE_HEADER)
		return next ? OUTCOME_MALFORMED :
			      hello_wait(out, TLS_HANDSHAKE_HEADER, length);
	stop = TLS_HANDSHAKE_HEADER + be24_at(flat, 1);
	if (stop > length && !next)
		return hello_wait(out, stop, length);
	if (stop > length || !server_hello(s, flat, stop))
		return OUTCOME_MALFORMED;
	if (s->server.version >= TLS_1_3)
		return OUTCOME_NAMELESS;
	s->server.at = stop;
	result = server_follows(s, flat, length, next, out);
	if (result == OUTCOME_MORE && s->join.broken) {
		count(LOSS_CERTIFICATE_MALFORMED);
		return OUTCOME_MALFORMED;
	}
	return result;
}

/* A common name is any text; a host's has a dot, and letters, digits and hyphens.
 * Global: verified once. */
__noinline int common_is_host(struct scratch *s, struct bytes *m)
{
	__u32 at, length;

	if (!s || !m)
		return 0;
	at = s->certificate.common;
	length = s->certificate.common_length;
	s->certificate.dots = 0;
	if (length < 4 || length > COMMON_NAME_MAX)
		return 0;
	if (be16_at(m, at) == ('*' << 8 | '.')) {
		at += 2;
		length -= 2;
	}
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < COMMON_NAME_MAX; i++) {
		__u32 c;

		if (i >= length)
			break;
		c = byte_at(m, at + i);
		if (c == '.')
			s->certificate.dots = 1;
		else if (c - '0' > 9 && (c | 32) - 'a' > 25 && c != '-' &&
			 c != '_')
			return false;
	}
	return s->certificate.dots;
}

/* The certificate's first name to scratch.name. False: it has none. */
static __always_inline bool certificate_name(struct scratch *s, struct bytes *m)
{
	struct found at = { .offset = s->certificate.first,
			    .length = s->certificate.first_length };

	if (!at.length) {
		if (!common_is_host(s, m))
			return false;
		at.offset = s->certificate.common;
		at.length = s->certificate.common_length;
	}
	if (at.length > 2 && be16_at(m, at.offset) == ('*' << 8 | '.')) {
		at.offset += 2;
		at.length -= 2;
	}
	return name_take(s, m, &at);
}

/* Is the certificate for others than the server name? Where it has no names of
 * hosts, that is not claimed. */
static __always_inline bool certificate_strange(struct scratch *s,
						struct bytes *m)
{
	if (s->certificate.first_length)
		return !s->certificate.fits;
	return common_is_host(s, m) &&
	       !certificate_fits(s, m, s->certificate.common,
				 s->certificate.common_length);
}

/* The server name that the client sent, to scratch.name, where it is kept as it was
 * sent and is no address. */
static __always_inline void server_asked(struct scratch *s)
{
	const struct flow_cold *c = cold_at(s->work.index);
	__u32 length = 0;

	if (c && c->name && !privacy)
		length = name_text(s, c->name);
	if (length && name_is_address(s, length))
		length = 0;
	if (!length)
		__builtin_memset(s->name, 0, sizeof(s->name));
	s->work.name_length = length;
}

/* What a certificate that was read says of the flow. True: its name is to be decided.
 * Global: verified once. */
__noinline int certificate_decide(struct scratch *s)
{
	__u32 zero = 0;
	struct bytes *m = bpf_map_lookup_elem(&joined, &zero);
	const struct flow_hot *f;
	const struct flow_cold *c;

	if (!s || !m)
		return 0;
	f = flow_at(s->work.index);
	c = cold_at(s->work.index);
	if (!f || !c)
		return 0;
	if (s->work.name_length && certificate_strange(s, m))
		s->server.flags |= TLS_SNI_MISMATCH;
	if (c->name || !certificate_name(s, m))
		return 0;
	s->work.protocol = tls_protocol(s);
	s->work.method = METHOD_CERTIFICATE;
	s->work.open = 1;
	return 1;
}

/* Ask for a text of the certificate's subject. Global: verified once; scratch is not
 * an argument, since 6.1 takes none as a map's key. */
__noinline int subject_text(__u32 at, __u32 length)
{
	struct scratch *s = scratch_get();
	__u32 zero = 0;
	struct bytes *m = bpf_map_lookup_elem(&joined, &zero);

	if (!s || !m)
		return 0;
	opaque(at);
	if (at > STREAM_MAX - TEXT_LEN)
		return 0;
	text_take(s, TEXT_CERTIFICATE, &m->b[at], length);
	text_ask(s);
	return 1;
}

/* What the certificate calls its holder, where it has no names of hosts. */
static __always_inline void subject_ask(struct scratch *s)
{
	generation_choose(s);
	subject_text(s->certificate.common, s->certificate.common_length);
	subject_text(s->certificate.unit, s->certificate.unit_length);
	s->told.final = 0; /* the client's hello may be still to come */
	text_give(s, 0, METHOD_PATTERN);
}

/* Nothing more is to come of the server: keep what is known. True: a name is to be
 * decided. Global: verified once. */
__noinline int server_end(struct scratch *s, __u32 read)
{
	struct flow_hot *f;
	int named = 0;

	if (!s)
		return 0;
	f = flow_at(s->work.index);
	if (!f || f->tag != s->work.tag)
		return 0;
	if (read && !s->certificate.first_length)
		subject_ask(s);
	if (read)
		named = certificate_decide(s);
	tls_note(s, s->server.version, s->server.flags);
	if (!named)
		protocol_only(s, tls_late(s) ? f->protocol : tls_protocol(s),
			      METHOD_PATTERN, 0);
	direction_done(f, s->work.direction);
	return named;
}

static __always_inline int stage_server(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	struct hello_slot *h = NULL;
	struct found at = {};
	struct flow_hot *f;
	bool busy = false;
	int result;
	__u32 d;

	if (!s)
		return ctx_pass(hook);
	d = s->work.direction & 1;
	f = flow_at(s->work.index);
	if (!f || f->tag != s->work.tag) {
		count(LOSS_STALE_FLOW);
		return ctx_pass(hook);
	}
	server_asked(s);
	if (f->flags & (__u32)FLOW_PENDING_0 << d) {
		h = hello_find(s->work.tag ^ d, &busy);
		if (!h)
			return ctx_pass(hook);
		result = server_read(&h->data, h->contiguous, &at);
		h->work += at.records;
		h->due = h->contiguous + at.missing;
	} else {
		result = server_read(&s->payload, s->work.length, &at);
	}
	if (result == OUTCOME_MORE && !h) {
		ctx_tail_call(ctx, hook, STAGE_STREAM);
		count(LOSS_TAIL_CALL);
		return ctx_pass(hook);
	}
	if (h && result == OUTCOME_MORE && h->due <= STREAM_MAX &&
	    h->work < HELLO_WORK_MAX && f->spent[d] < inspect_budget) {
		hello_unlock(h);
		/* The rest may never come. */
		if (s->server.version)
			tls_note(s, s->server.version, 0);
		return ctx_pass(hook);
	}
	if (h) {
		hello_release(h);
		flow_unmark(f, (__u32)FLOW_PENDING_0 << d);
	}
	flow_mark(f, (__u32)FLOW_START_0 << d);
	if (server_end(s, result == OUTCOME_NAME &&
				  certificate_read(s, at.offset,
						   at.offset + at.length))) {
		ctx_tail_call(ctx, hook, STAGE_NAME);
		count(LOSS_TAIL_CALL);
	}
	return ctx_pass(hook);
}

#endif /* XDPPROBE_SERVER_H */
