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

#include "facts.h"

#define TLS_RECORD_HEADER 5
#define TLS_HANDSHAKE_HEADER 4
#define TLS_HANDSHAKE 22
#define TLS_CLIENT_HELLO 1
#define TLS_SERVER_HELLO 2
#define TLS_RECORD_MAX (16384 + 256) /* RFC 8446, 5.2 */
#define TLS_SESSION_ID_MAX 32
#define TLS_VERSION_AND_RANDOM 34
#define TLS_NAME_TYPE_HOST 0
#define TLS_EXTENSIONS_MAX 256
#define TLS_EXTENSIONS_STEP 8
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
	struct scratch *s; /* what is counted stands there: see join_state */
	struct found *out;
	__u32 stop, end;
};

/* Up to TLS_EXTENSIONS_STEP extensions: a call for each would cost more than reading
 * it. OUTCOME_OTHER: go on; OUTCOME_NAMELESS: that was all. */
static __always_inline enum outcome hello_step(struct extensions *e)
{
	__u32 at = ((volatile struct hello_state *)&e->s->hello)->at;

#pragma clang loop unroll(disable)
	for (int i = 0; i < TLS_EXTENSIONS_STEP; i++) {
		__u32 head, length;

		if (at + 4 > e->stop)
			return OUTCOME_NAMELESS;
		if (at + 4 > e->end)
			return hello_wait(e->out, at + 4, e->end);
		head = be32_at(e->m, at);
		length = head & 0xffff;
		at += 4;
		if (at + length > e->stop)
			return OUTCOME_MALFORMED;
		facts_extension(e->s, head >> 16, at, length);
		at += length;
	}
	e->s->hello.at = at;
	return OUTCOME_OTHER;
}

static long hello_extension(__u32 i, struct extensions *e)
{
	volatile struct hello_state *state = &e->s->hello;

	state->result = hello_step(e);
	return state->result != OUTCOME_OTHER || state->at > STREAM_MAX;
}

/* What is known after the walk: `result` is how that ended. A name counts though
 * what comes behind it is missing, or wrong. */
static __always_inline int hello_concluded(struct scratch *s, struct bytes *m,
					   __u32 stop, __u32 end, int result,
					   struct found *out)
{
	__u32 name = s->hello.body[PART_NAME];
	__u32 length = s->hello.length[PART_NAME];
	bool whole = result == OUTCOME_NAMELESS && stop <= end;
	int named;

	if (whole)
		facts_note(m, s, end);
	if (result == OUTCOME_OTHER) /* more extensions than are looked at */
		count(LOSS_FACTS);
	if (!name && result == OUTCOME_NAMELESS && !whole)
		return hello_wait(out, stop, end);
	if (!name)
		return result;
	if (name + length > end)
		return hello_wait(out, name + length, end);
	named = hello_server_name(m, name, length, out);
	if (result == OUTCOME_NAMELESS && !whole)
		out->missing = stop - end;
	if (named != OUTCOME_NAME)
		out->missing = 0;
	return named;
}

/* Extensions from `at` to `stop`, of which the bytes before `end` are there. */
static __always_inline int hello_extensions(struct bytes *m, struct scratch *s,
					    __u32 at, __u32 stop, __u32 end,
					    struct found *out)
{
	struct extensions e = {
		.m = m, .s = s, .out = out, .stop = stop, .end = end
	};
	int result;

	s->hello.at = at;
	s->hello.result = OUTCOME_OTHER;
	bpf_loop(TLS_EXTENSIONS_MAX / TLS_EXTENSIONS_STEP, hello_extension, &e,
		 0);
	result = s->hello.result;
	if (result == OUTCOME_OTHER && !s->hello.body[PART_NAME]) {
		count(LOSS_HELLO_LONG);
		return OUTCOME_NAMELESS;
	}
	return hello_concluded(s, m, stop, end, result, out);
}

/*
 * A handshake message at `at`, of which the bytes before `end` are there. What it
 * says beyond the name is noted in scratch.facts, once it is there as a whole.
 * Global, so that the verifier walks it once.
 */
__noinline int hello_parse(struct bytes *m, __u32 at, __u32 end,
			   struct found *out)
{
	struct scratch *s = scratch_get();
	__u32 stop, length;

	if (!m || !s || !out || at > 64 || end > STREAM_MAX)
		return OUTCOME_OTHER;
	opaque(s);
	out->missing = 0;
	if (at + TLS_HANDSHAKE_HEADER > end)
		return hello_wait(out, at + TLS_HANDSHAKE_HEADER, end);
	if (byte_at(m, at) != TLS_CLIENT_HELLO)
		return OUTCOME_OTHER;
	facts_begin(s, at);
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
	s->hello.ciphers = at + 2;
	s->hello.ciphers_length = length;
	at += 2 + length;
	if (at + 1 > stop)
		return OUTCOME_MALFORMED;
	if (at + 1 > end)
		return hello_wait(out, at + 1, end);
	length = byte_at(m, at);
	if (!length)
		return OUTCOME_MALFORMED;
	at += 1 + length;
	if (at == stop) { /* TLS 1.2 and before: no extensions at all */
		if (stop <= end)
			facts_note(m, s, end);
		return OUTCOME_NAMELESS;
	}
	if (at + 2 > stop)
		return OUTCOME_MALFORMED;
	if (at + 2 > end)
		return hello_wait(out, at + 2, end);
	length = be16_at(m, at);
	at += 2;
	if (at + length > stop)
		return OUTCOME_MALFORMED;
	return hello_extensions(m, s, at, at + length, end, out);
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
	if (s->join.broken || out->records >= TLS_RECORDS_MAX)
		out->missing = 0;
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
	if ((result != OUTCOME_MORE && !out->missing) || first >= end)
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
