/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How many QUIC Initials a CPU opens a second: each takes some ten microseconds, and
 * anybody can send them. A token bucket a CPU, refilled by the clock's ticks.
 */
#ifndef XDPPROBE_QUIC_BUDGET_H
#define XDPPROBE_QUIC_BUDGET_H

#include "flow.h"

/* May one more be opened? */
static __always_inline bool quic_afford(__u32 now)
{
	__u32 zero = 0, age;
	struct quic_bucket *b = bpf_map_lookup_elem(&quic_budget, &zero);
	__u64 gain;

	if (replaying) /* nobody waits, and a capture's clock may stand still */
		return true;
	if (!b)
		return false;
	if (!b->filled) { /* never: the bucket begins full */
		b->filled = now | 1;
		b->left = quic_burst;
	}
	age = age_of(now, b->filled);
	gain = (__u64)age * quic_rate / hz;
	if (gain) { /* else the time goes on to count */
		gain += b->left;
		b->left = gain < quic_burst ? gain : quic_burst;
		b->filled = now;
	}
	if (!b->left) {
		count(LOSS_QUIC_BUDGET);
		return false;
	}
	b->left--;
	return true;
}

#endif /* XDPPROBE_QUIC_BUDGET_H */
