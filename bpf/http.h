/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The Host of an HTTP/1 request, and where its User-Agent, Content-Type and SOAPAction
 * stand (RFC 9112, 3 and 5; RFC 9110, 7.2, 10.1.5 and 8.3; SOAP 1.1, 6.1.1); of an answer
 * the Server field and Content-Type (RFC 9110, 10.2.4).
 *
 *   method SP target SP "HTTP/1." digit CRLF     or "HTTP/1." digit SP status CRLF
 *   *( field-name ":" OWS value OWS CRLF )
 *   CRLF
 *
 * Lines are found eight bytes at a time.
 */
#ifndef XDPPROBE_HTTP_H
#define XDPPROBE_HTTP_H

#include "bits.h"
#include "counters.h"
#include "outcome.h"

#define HTTP_STEPS_MAX 384	 /* lines, and 128-byte pieces of them */
#define HTTP_STEP_WORDS 16	 /* searched for an end in one step */
#define HTTP_BLANKS_MAX 16	 /* before a value, in words of eight */
#define HTTP_REQUEST_LINE_MIN 14 /* "GET / HTTP/1.1" */
#define HTTP_METHOD_BYTES 8	 /* that tell whether it is a method */

/* RFC 9110, 9 and RFC 5789, WebDAV's (RFC 4918), and nothing else: RTSP and SIP
 * share some, so the version is checked as well. */
static __always_inline bool http_method(const struct bytes *m)
{
	__u32 head = be32_at(m, 0), next = be32_at(m, 4);

	switch (head) {
	case FOUR('G', 'E', 'T', ' '):
	case FOUR('P', 'U', 'T', ' '):
		return true;
	case FOUR('P', 'O', 'S', 'T'):
	case FOUR('H', 'E', 'A', 'D'):
	case FOUR('C', 'O', 'P', 'Y'):
	case FOUR('M', 'O', 'V', 'E'):
	case FOUR('L', 'O', 'C', 'K'):
		return next >> 24 == ' ';
	case FOUR('U', 'N', 'L', 'O'):
		return next >> 8 == (FOUR('C', 'K', ' ', 0) >> 8);
	case FOUR('M', 'K', 'C', 'O'):
		return next >> 8 == FOUR(0, 'L', ' ', 0) >> 8 ||
		       next >> 16 == ('L' << 8 | ' ');
	case FOUR('D', 'E', 'L', 'E'):
		return next >> 8 == (FOUR('T', 'E', ' ', 0) >> 8);
	case FOUR('P', 'A', 'T', 'C'):
	case FOUR('T', 'R', 'A', 'C'):
		return next >> 16 == ('H' << 8 | ' ') ||
		       next >> 16 == ('E' << 8 | ' ');
	case FOUR('O', 'P', 'T', 'I'):
		return next == FOUR('O', 'N', 'S', ' ');
	case FOUR('C', 'O', 'N', 'N'):
		return next == FOUR('E', 'C', 'T', ' ');
	case FOUR('R', 'E', 'P', 'O'):
		return next == FOUR('R', 'T', ' ', '*') ||
		       next == FOUR('R', 'T', ' ', '/');
	case FOUR('P', 'R', 'O', 'P'):
		return next == FOUR('F', 'I', 'N', 'D') ||
		       next == FOUR('P', 'A', 'T', 'C');
	}
	return false;
}

/* The letters that methods begin with, as bits. */
#define LETTER(c) (1U << ((c) - 'A'))
#define HTTP_INITIALS                                                          \
	(LETTER('C') | LETTER('D') | LETTER('G') | LETTER('H') | LETTER('L') | \
	 LETTER('M') | LETTER('O') | LETTER('P') | LETTER('R') | LETTER('T') | \
	 LETTER('U'))

/* May these few bytes become a method? Capital letters, then a blank. */
static __always_inline bool http_prefix(const struct bytes *m, __u32 end)
{
	__u32 initial = byte_at(m, 0) - 'A';

	if (end && (initial >= 26 || !(HTTP_INITIALS >> (initial & 31) & 1)))
		return false;
#pragma unroll
	for (__u32 i = 0; i < HTTP_METHOD_BYTES - 1; i++) {
		__u32 c = byte_at(m, i);

		if (i >= end || (i >= 3 && c == ' '))
			return true;
		if (c - 'A' >= 26)
			return false;
	}
	return true;
}

struct http_scan {
	struct bytes *m;
	volatile struct http_state *state; /* not on the stack of a callback */
	__u32 end;
};

/* CONNECT: what follows is a connection to the target (RFC 9110, 9.3.6). */
static __always_inline bool http_connects(const struct bytes *m)
{
	return be32_at(m, 0) == FOUR('C', 'O', 'N', 'N') &&
	       byte_at(m, HTTP_METHOD_BYTES) != '/';
}

/* Where a request's target begins: behind the first blank, which http_method() saw
 * or its last letters stand before. */
static __always_inline __u32 http_target(const struct bytes *m)
{
	__u64 marks = zero_bytes(word_at(m, 0) ^ ONES * ' ');

	if (marks)
		return first_marked(marks) + 1;
	marks = zero_bytes(word_at(m, 8) ^ ONES * ' ');
	return marks ? 8 + first_marked(marks) + 1 : 0;
}

/* Is the target a whole URI? Only proxies are asked so (RFC 9112, 3.2.2). */
static __always_inline bool http_absolute(const struct bytes *m)
{
	__u32 at = http_target(m);

	if ((be32_at(m, at) | 0x20202020) != FOUR('h', 't', 't', 'p'))
		return false;
	if ((byte_at(m, at + 4) | 0x20) == 's')
		at++;
	return be24_at(m, at + 4) == FOUR(0, ':', '/', '/');
}

static __always_inline __u16 http_protocol(const struct bytes *m)
{
	if (http_connects(m))
		return PROTOCOL_HTTP_CONNECT;
	return http_absolute(m) ? PROTOCOL_HTTP_PROXY : PROTOCOL_HTTP;
}

/* Those that a request gives, and an answer does not tell apart. */
static __always_inline bool http_named(__u16 protocol)
{
	return protocol == PROTOCOL_HTTP || protocol == PROTOCOL_HTTP_CONNECT ||
	       protocol == PROTOCOL_HTTP_PROXY;
}

/* Behind "user": "-agent:", in either case. */
static __always_inline bool http_is_agent(const struct bytes *m, __u32 at)
{
	return (be32_at(m, at + 4) | 0x00202020) == FOUR('-', 'a', 'g', 'e') &&
	       (be24_at(m, at + 8) | 0x202000) == FOUR(0, 'n', 't', ':');
}

/* Behind "cont": "ent-type:". */
static __always_inline bool http_is_type(const struct bytes *m, __u32 at)
{
	return (be32_at(m, at + 4) | 0x20202000) == FOUR('e', 'n', 't', '-') &&
	       (be32_at(m, at + 8) | 0x20202020) == FOUR('t', 'y', 'p', 'e') &&
	       byte_at(m, at + 12) == ':';
}

/* Behind "soap": "action:". */
static __always_inline bool http_is_action(const struct bytes *m, __u32 at)
{
	return (be32_at(m, at + 4) | 0x20202020) == FOUR('a', 'c', 't', 'i') &&
	       (be24_at(m, at + 8) | 0x202000) == FOUR(0, 'o', 'n', ':');
}

/* Behind "serv": "er:". */
static __always_inline bool http_is_server(const struct bytes *m, __u32 at)
{
	return (be24_at(m, at + 4) | 0x202000) == FOUR(0, 'e', 'r', ':');
}

/*
 * One line: a request's first must end with the version, an empty one ends the header.
 * Returns 1 to stop. Global: verified once, and not for each word that an end may
 * stand in.
 */
__noinline int http_line(struct bytes *m, __u32 newline)
{
	struct scratch *s = scratch_get();
	volatile struct http_state *state;
	__u32 at, last = newline;

	if (!m || !s)
		return 1;
	opaque(s);
	state = &s->http;
	at = state->at;
	if (last > at && byte_at(m, last - 1) == '\r')
		last--;
	if (!state->lines++) {
		if (state->answers)
			goto next;
		if (last >= at + HTTP_REQUEST_LINE_MIN &&
		    be32_at(m, last - 8) == FOUR('H', 'T', 'T', 'P') &&
		    be24_at(m, last - 4) == FOUR(0, '/', '1', '.')) {
			/* CONNECT's target is the host (RFC 9112, 3.2.3). */
			if (!http_connects(m))
				goto next;
			state->value = HTTP_METHOD_BYTES;
			state->result = OUTCOME_NAME;
			return 1;
		}
		state->result = OUTCOME_OTHER;
		return 1;
	}
	if (last == at) {
		if (state->result != OUTCOME_NAME)
			state->result = OUTCOME_NAMELESS;
		return 1;
	}
	switch (be32_at(m, at) | 0x20202020) {
	case FOUR('h', 'o', 's', 't'):
		if (state->result == OUTCOME_NAME || byte_at(m, at + 4) != ':')
			break;
		state->value = at + 5;
		state->result = OUTCOME_NAME;
		break;
	case FOUR('u', 's', 'e', 'r'):
		if (!state->agent && http_is_agent(m, at))
			state->agent = at + 11;
		break;
	case FOUR('c', 'o', 'n', 't'):
		if (!state->type && http_is_type(m, at))
			state->type = at + 13;
		break;
	case FOUR('s', 'o', 'a', 'p'):
		if (!state->action && http_is_action(m, at))
			state->action = at + 11;
		break;
	case FOUR('s', 'e', 'r', 'v'):
		if (!state->server && http_is_server(m, at))
			state->server = at + 7;
		break;
	}
next:
	state->at = state->from = newline + 1;
	return 0;
}

/* Look for the end of the line in the next 128 bytes. */
static long http_step(__u32 index, struct http_scan *s)
{
	__u32 from = s->state->from, newline;
	__u64 marks = 0;

#pragma clang loop unroll(disable)
	for (int i = 0; i < HTTP_STEP_WORDS; i++) {
		if (from >= s->end || from > STREAM_MAX - 8)
			return 1;
		marks = zero_bytes(word_at(s->m, from) ^ ONES * '\n');
		if (marks)
			break;
		from += 8;
	}
	if (!marks) {
		s->state->from = from;
		return 0;
	}
	newline = from + first_marked(marks);
	if (newline >= s->end)
		return 1;
	return loop_answer(http_line(s->m, newline));
}

/* Where a field's value begins. */
static __always_inline __u32 http_value(const struct bytes *m, __u32 at)
{
	for (int i = 0; i < HTTP_BLANKS_MAX / 8; i++) {
		__u64 word = word_at(m, at);
		__u64 other = ~(bytes_like(word, ' ') | bytes_like(word, '\t'));

		if (other & HIGHS)
			return at + first_marked(other & HIGHS);
		at += 8;
	}
	return at;
}

/* The Host field's value from its first byte on; name_normalise() finds where
 * the host in it ends. */
static __always_inline int http_host(const struct bytes *m, __u32 at, __u32 end,
				     struct found *out)
{
	at = http_value(m, at);
	if (at >= end)
		return OUTCOME_NAMELESS;
	out->offset = at;
	out->length = end - at < NAME_MAX_LEN ? end - at : NAME_MAX_LEN;
	return OUTCOME_NAME;
}

static __always_inline void http_forget(volatile struct http_state *state)
{
	state->agent = state->type = state->action = state->server = 0;
}

/* The request at the start of a stream's first `end` bytes. Global: verified
 * once. */
__noinline int http_read(struct bytes *m, __u32 end, struct found *out)
{
	struct http_scan scan = { .m = m, .end = end };
	struct scratch *s = scratch_get();
	long steps;

	if (!m || !out || !s || end > STREAM_MAX)
		return OUTCOME_OTHER;
	if (end < HTTP_METHOD_BYTES)
		return http_prefix(m, end) ? OUTCOME_MORE : OUTCOME_OTHER;
	if (!http_method(m))
		return OUTCOME_OTHER;
	opaque(s);
	scan.state = &s->http;
	scan.state->at = scan.state->from = scan.state->lines = 0;
	scan.state->answers = 0;
	http_forget(scan.state);
	scan.state->result = OUTCOME_MORE;
	steps = bpf_loop(HTTP_STEPS_MAX, http_step, &scan, 0);
	if (scan.state->result == OUTCOME_NAME)
		return http_host(m, scan.state->value, end, out);
	if (steps >= HTTP_STEPS_MAX) {
		count(LOSS_HELLO_LONG);
		return OUTCOME_NAMELESS;
	}
	return scan.state->result;
}

#define HTTP_STATUS_MIN 12 /* "HTTP/1.1 200" */

static __always_inline bool http_answers(const struct bytes *m, __u32 end)
{
	return end >= HTTP_STATUS_MIN &&
	       be32_at(m, 0) == FOUR('H', 'T', 'T', 'P') &&
	       be24_at(m, 4) == FOUR(0, '/', '1', '.');
}

/* Note where the fields of an answer stand, of those that these bytes have. Global:
 * verified once. */
__noinline int http_answer(struct bytes *m, __u32 end)
{
	struct http_scan scan = { .m = m, .end = end };
	struct scratch *s = scratch_get();

	if (!m || !s || end > STREAM_MAX)
		return 0;
	opaque(s);
	scan.state = &s->http;
	scan.state->at = scan.state->from = scan.state->lines = 0;
	scan.state->answers = 1;
	http_forget(scan.state);
	bpf_loop(HTTP_STEPS_MAX, http_step, &scan, 0);
	return 1;
}

#endif /* XDPPROBE_HTTP_H */
