/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The server name in a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3).
 *
 * Record (RFC 8446, 5.1)         Handshake message
 *  0     1        3      5        0     1         4        6       38
 *  +-----+--------+------+-----   +-----+---------+--------+--------+--------
 *  | 22  | 3.x    | len  | body   |  1  | len     | version| random | sid len
 *  +-----+--------+------+-----   +-----+---------+--------+--------+--------
 * then session id, cipher suites (len 2), compression (len 1), extensions
 * (len 2), each: type 2, len 2, data. server_name (type 0) data:
 *  0          2      3          5
 *  +----------+------+----------+------
 *  | list len |  0   | name len | name
 *  +----------+------+----------+------
 */
#ifndef XDPPROBE_HELLO_H
#define XDPPROBE_HELLO_H

#include "counters.h"
#include "outcome.h"

#define TLS_RECORD_HEADER 5
#define TLS_HANDSHAKE_HEADER 4
#define TLS_HANDSHAKE 22
#define TLS_CLIENT_HELLO 1
#define TLS_SERVER_HELLO 2
#define TLS_RECORD_MAX (16384 + 256) /* RFC 8446, 5.2 */
#define TLS_SESSION_ID_MAX 32
#define TLS_VERSION_AND_RANDOM 34
#define TLS_EXTENSION_SERVER_NAME 0
#define TLS_NAME_TYPE_HOST 0
#define TLS_EXTENSIONS_MAX 256
#define TLS_EXTENSIONS_STEP 16
#define TLS_RECORDS_MAX 512 /* that one hello may be split into */

/* Not before the bytes up to `stop` are there; those up to `end` are. */
static __always_inline enum outcome hello_wait(struct found *out, __u32 stop,
					       __u32 end)
{
	out->missing = stop - end;
	return OUTCOME_MORE;
}

/* RFC 6066, 3; `end` is the extension's. */
static __always_inline enum outcome
hello_server_name(struct bytes *m, __u32 at, __u32 length, struct found *out)
{
	__u32 list = be16_at(m, at);
	__u32 name = be16_at(m, at + 3);

	if (!length)
		return OUTCOME_NAMELESS;
	if (length < 5 || list + 2 > length || name + 3 > list ||
	    byte_at(m, at + 2) != TLS_NAME_TYPE_HOST)
		return OUTCOME_MALFORMED;
	out->offset = at + 5;
	out->length = name;
	return name ? OUTCOME_NAME : OUTCOME_NAMELESS;
}

struct extensions {
	struct bytes *m;
	volatile struct hello_state *state; /* not on the stack of a callback */
	struct found *out;
	__u32 stop, end;
};

/* Up to TLS_EXTENSIONS_STEP extensions: a call for each would cost more than reading
 * it. OUTCOME_OTHER: go on. */
static __always_inline enum outcome hello_step(struct extensions *e)
{
	__u32 at = e->state->at, type, length;

#pragma clang loop unroll(disable)
	for (int i = 0; i < TLS_EXTENSIONS_STEP; i++) {
		if (at + 4 > e->stop)
			return OUTCOME_NAMELESS;
		if (at + 4 > e->end)
			return hello_wait(e->out, at + 4, e->end);
		type = be16_at(e->m, at);
		length = be16_at(e->m, at + 2);
		at += 4;
		if (at + length > e->stop)
			return OUTCOME_MALFORMED;
		if (type == TLS_EXTENSION_SERVER_NAME)
			break;
		at += length;
	}
	e->state->at = at;
	if (type != TLS_EXTENSION_SERVER_NAME)
		return OUTCOME_OTHER;
	if (at + length > e->end)
		return hello_wait(e->out, at + length, e->end);
	return hello_server_name(e->m, at, length, e->out);
}

static long hello_extension(__u32 i, struct extensions *e)
{
	e->state->result = hello_step(e);
	return e->state->result != OUTCOME_OTHER || e->state->at > STREAM_MAX;
}

/* Extensions from `at` to `stop`, of which the bytes before `end` are there. */
static __always_inline int hello_extensions(struct bytes *m, __u32 at,
					    __u32 stop, __u32 end,
					    struct found *out)
{
	struct scratch *s = scratch_get();
	struct extensions e = { .m = m, .out = out, .stop = stop, .end = end };

	if (!s)
		return OUTCOME_OTHER;
	opaque(s);
	e.state = &s->hello;
	e.state->at = at;
	e.state->result = OUTCOME_OTHER;
	bpf_loop(TLS_EXTENSIONS_MAX / TLS_EXTENSIONS_STEP, hello_extension, &e,
		 0);
	if (e.state->result != OUTCOME_OTHER)
		return e.state->result;
	count(LOSS_HELLO_LONG);
	return OUTCOME_NAMELESS;
}

/*
 * A handshake message at `at`, of which the bytes before `end` are there. Global,
 * so that the verifier walks it once.
 */
__noinline int hello_parse(struct bytes *m, __u32 at, __u32 end,
			   struct found *out)
{
	__u32 stop, length;

	if (!m || !out || at > 64 || end > STREAM_MAX)
		return OUTCOME_OTHER;
	if (at + TLS_HANDSHAKE_HEADER > end)
		return hello_wait(out, at + TLS_HANDSHAKE_HEADER, end);
	if (byte_at(m, at) != TLS_CLIENT_HELLO)
		return OUTCOME_OTHER;
	stop = at + TLS_HANDSHAKE_HEADER + be24_at(m, at + 1);
	at += TLS_HANDSHAKE_HEADER + TLS_VERSION_AND_RANDOM;
	if (at + 1 > end)
		return hello_wait(out, at + 1, end);
	length = byte_at(m, at);
	if (length > TLS_SESSION_ID_MAX)
		return OUTCOME_MALFORMED;
	at += 1 + length;
	if (at + 2 > end)
		return hello_wait(out, at + 2, end);
	length = be16_at(m, at);
	if (length < 2 || length & 1)
		return OUTCOME_MALFORMED;
	at += 2 + length;
	if (at + 1 > stop)
		return OUTCOME_MALFORMED;
	if (at + 1 > end)
		return hello_wait(out, at + 1, end);
	length = byte_at(m, at);
	if (!length)
		return OUTCOME_MALFORMED;
	at += 1 + length;
	if (at == stop) /* TLS 1.2 and before: no extensions at all */
		return OUTCOME_NAMELESS;
	if (at + 2 > stop)
		return OUTCOME_MALFORMED;
	if (at + 2 > end)
		return hello_wait(out, at + 2, end);
	length = be16_at(m, at);
	at += 2;
	if (at + length > stop)
		return OUTCOME_MALFORMED;
	return hello_extensions(m, at, at + length, end, out);
}

struct join {
	const struct bytes *from;
	struct joined_bytes *to;
	volatile struct join_state *state;
	__u32 end;
};

#define JOIN_MAX (sizeof(struct joined_bytes) / 2)

/* Take one record's body; stops at the first that is cut short. */
static long join_record(__u32 index, struct join *j)
{
	volatile struct join_state *state = j->state;
	__u32 at = state->at, to = state->length, length, have;

	if (at + TLS_RECORD_HEADER > j->end)
		return 1;
	length = be16_at(j->from, at + 3);
	if (byte_at(j->from, at) != TLS_HANDSHAKE ||
	    byte_at(j->from, at + 1) != 3 || !length ||
	    length > TLS_RECORD_MAX) {
		state->broken = 1;
		return 1;
	}
	at += TLS_RECORD_HEADER;
	have = j->end - at;
	if (have > length)
		have = length;
	opaque(to);
	opaque(have);
	if (to >= JOIN_MAX || have > JOIN_MAX)
		return 1;
	if (bpf_probe_read_kernel(&j->to->b[to], have, j->from->b + at))
		return 1;
	state->length = to + have;
	state->at = at + length;
	return have < length || to + have >= STREAM_MAX;
}

/* The bodies of the handshake records at a stream's beginning, one after the other
 * in `joined`: how many bytes. How they end stands in scratch.join. */
static __always_inline __u32 records_join(struct scratch *s,
					  const struct bytes *m, __u32 end,
					  struct joined_bytes *to,
					  struct found *out)
{
	struct join j = { .from = m, .to = to, .end = end };
	__u32 length;

	j.state = &s->join;
	j.state->at = j.state->length = j.state->broken = 0;
	/* Not counted by join_record: the verifier would walk each count (6.18). */
	out->records = bpf_loop(TLS_RECORDS_MAX, join_record, &j, 0);
	out->in_joined = 1;
	length = j.state->length;
	return length > STREAM_MAX ? STREAM_MAX : length;
}

/* A hello that is spread over several records: joined, then parsed. The name's
 * offset is then one in `joined`. */
static __always_inline int hello_joined(const struct bytes *m, __u32 end,
					struct found *out)
{
	__u32 zero = 0, length;
	struct joined_bytes *to = bpf_map_lookup_elem(&joined, &zero);
	struct scratch *s = scratch_get();
	int result;

	if (!to || !s)
		return OUTCOME_OTHER;
	opaque(s);
	length = records_join(s, m, end, to, out);
	result = hello_parse((struct bytes *)to, 0, length, out);
	if (result == OUTCOME_MORE && s->join.broken)
		return OUTCOME_MALFORMED;
	if (result == OUTCOME_MORE && out->records >= TLS_RECORDS_MAX) {
		count(LOSS_HELLO_LONG);
		return OUTCOME_NAMELESS;
	}
	return result;
}

/* Do these bytes begin a ClientHello? As far as they are there. */
static __always_inline bool hello_begins(const struct bytes *m, __u32 end)
{
	if (byte_at(m, 0) != TLS_HANDSHAKE)
		return false;
	if (end > 1 && byte_at(m, 1) != 3)
		return false;
	if (end > 2 && byte_at(m, 2) > 4)
		return false;
	if (end > 4 && (!be16_at(m, 3) || be16_at(m, 3) > TLS_RECORD_MAX))
		return false;
	return end <= TLS_RECORD_HEADER ||
	       byte_at(m, TLS_RECORD_HEADER) == TLS_CLIENT_HELLO;
}

/* For certain, that is. */
static __always_inline bool hello_begun(const struct bytes *m, __u32 end)
{
	return end > TLS_RECORD_HEADER && hello_begins(m, end);
}

/* What stands in the first `end` bytes of a stream. Global: verified once. */
__noinline int hello_read(struct bytes *m, __u32 end, struct found *out)
{
	__u32 first;
	int result;

	if (!m || !out || end > STREAM_MAX)
		return OUTCOME_OTHER;
	if (!hello_begins(m, end))
		return OUTCOME_OTHER;
	if (end < TLS_RECORD_HEADER + TLS_HANDSHAKE_HEADER)
		return hello_wait(out, TLS_RECORD_HEADER + TLS_HANDSHAKE_HEADER,
				  end);
	first = TLS_RECORD_HEADER + be16_at(m, 3);
	result = hello_parse(m, TLS_RECORD_HEADER, first < end ? first : end,
			     out);
	if (result != OUTCOME_MORE || first >= end)
		return result;
	return hello_joined(m, end, out);
}

#define SERVER_HELLO_HEAD 11 /* bytes that tell it from others */

/* A ServerHello's first bytes. */
static __always_inline bool hello_answers(const struct bytes *m, __u32 end)
{
	return end >= SERVER_HELLO_HEAD && byte_at(m, 0) == TLS_HANDSHAKE &&
	       byte_at(m, 1) == 3 && byte_at(m, 2) <= 4 &&
	       byte_at(m, TLS_RECORD_HEADER) == TLS_SERVER_HELLO &&
	       byte_at(m, 9) == 3;
}

/* May more bytes make them one? Of fewer, hello_begins() says so. */
static __always_inline bool hello_may_answer(const struct bytes *m, __u32 end)
{
	return end > TLS_RECORD_HEADER && end < SERVER_HELLO_HEAD &&
	       byte_at(m, 0) == TLS_HANDSHAKE && byte_at(m, 1) == 3 &&
	       byte_at(m, 2) <= 4 &&
	       byte_at(m, TLS_RECORD_HEADER) == TLS_SERVER_HELLO;
}

#endif /* XDPPROBE_HELLO_H */
