/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host that a SOCKS proxy is asked to connect to, where it is asked by name.
 *
 * Version 5 (RFC 1928, 4), after the methods      Version 4A (Y. Lee), first of all
 *  0   1   2   3   4     5                        0   1   2      4           8
 *  +---+---+---+---+-----+------+------           +---+---+------+-----------+------
 *  | 5 |cmd| 0 | 3 | len | name | port            | 4 |cmd| port | 0.0.0.x   | user,
 *  +---+---+---+---+-----+------+------           +---+---+------+-----------+------
 *                                                 0, name, 0
 */
#ifndef XDPPROBE_SOCKS_H
#define XDPPROBE_SOCKS_H

#include "read.h"

#define SOCKS5_NAME 5
#define SOCKS4_USER 8
#define SOCKS4_USER_MAX 64

/* Is the payload a request of version 5 with a name? */
static __always_inline bool socks5_name(const struct bytes *m, __u32 end,
					struct found *out)
{
	__u32 command = byte_at(m, 1), length = byte_at(m, 4);

	if (byte_at(m, 0) != 5 || !command || command > 3 ||
	    be16_at(m, 2) != 3 || !length || SOCKS5_NAME + length + 2 != end)
		return false;
	out->offset = SOCKS5_NAME;
	out->length = length;
	return true;
}

/* Is it one of version 4A? The address is one that no host has, and not 0. */
static __always_inline bool socks4_name(const struct bytes *m, __u32 end,
					struct found *out)
{
	__u32 command = byte_at(m, 1), at = SOCKS4_USER;

	if (end < SOCKS4_USER + 3 || byte_at(m, 0) != 4 || !command ||
	    command > 2 || be24_at(m, 4) || !byte_at(m, 7) ||
	    byte_at(m, end - 1))
		return false;
#pragma clang loop unroll(disable)
	for (int i = 0; i < SOCKS4_USER_MAX; i++, at++)
		if (!byte_at(m, at))
			break;
	at++;
	if (at + 1 >= end || byte_at(m, at - 1) || end - 1 - at > NAME_MAX_LEN)
		return false;
	out->offset = at;
	out->length = end - 1 - at;
	return true;
}

/* A request to a proxy whose name stands in scratch.name then. `begins`: it is the
 * first of its direction. Global: verified once. */
__noinline int socks_read(struct scratch *s, __u32 begins)
{
	const struct flow_hot *f;
	struct found at = {};
	__u32 end;

	if (!s || s->work.responder)
		return 0;
	f = flow_at(s->work.index);
	end = s->work.length;
	if (!f || end > STREAM_MAX)
		return 0;
	if (begins ? !socks4_name(&s->payload, end, &at) :
		     f->protocol != PROTOCOL_SOCKS ||
			     !socks5_name(&s->payload, end, &at))
		return 0;
	if (!name_take(s, &s->payload, &at))
		return 0;
	s->work.protocol = PROTOCOL_SOCKS;
	s->work.method = METHOD_SOCKS;
	s->work.open = 1; /* what goes through the proxy is still to come */
	return 1;
}

#endif /* XDPPROBE_SOCKS_H */
