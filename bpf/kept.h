/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tables of what flows have in common, server names and hellos: which entry of a
 * full set is given up.
 */
#ifndef XDPPROBE_KEPT_H
#define XDPPROBE_KEPT_H

#include "flow.h"

#define KEPT_BUSY 1 /* an entry's hash while another CPU writes it */

/* How willingly an entry is given up; never 0. Anybody can send queries for names
 * that nobody has heard of: such entries give way to each other before those do
 * that a connection had, unless that was long ago. */
static __always_inline __u64 kept_rank(__u64 hash, bool answered, __u32 used,
				       __u32 now)
{
	__u64 age = age_of(now, used) + 1ULL;

	if (!hash)
		return ~0ULL;
	if (answered && age <= active_timeout)
		return age;
	return 1ULL << 32 | age;
}

/* Whether it is of a connection whose ends both spoke. A datagram's is not,
 * answered or not: a resolver answers whatever it is asked, so that answers would
 * protect names without end. */
static __always_inline bool kept_answered(const struct work *w)
{
	__u32 both = FLOW_ANSWERED_0 | FLOW_ANSWERED_1;
	const struct flow_hot *f = flow_at(w->index);

	return f && w->l4 == IPPROTO_TCP && (f->flags & both) == both;
}

/* A keyed hash that is neither of the values with a meaning. */
static __always_inline __u64 kept_hash(__u64 hash)
{
	return hash > KEPT_BUSY ? hash : hash + 2;
}

#endif /* XDPPROBE_KEPT_H */
