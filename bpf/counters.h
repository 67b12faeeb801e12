/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Counting of what is not a flow: reasons, losses, interface totals.
 */
#ifndef XDPPROBE_COUNTERS_H
#define XDPPROBE_COUNTERS_H

#include "config.h"
#include "scratch.h"

static __always_inline void count_many(enum counter which, __u64 packets,
				       __u64 bytes)
{
	__u32 key = which;
	struct counter_value *value = bpf_map_lookup_elem(&counters, &key);

	if (!value)
		return;
	value->packets += packets;
	value->bytes += bytes;
}

static __always_inline void count(enum counter which)
{
	count_many(which, 1, 0);
}

static __always_inline void count_port(__u32 egress, __u64 packets, __u64 bytes)
{
	__u32 key = slot;
	struct port_totals *totals = bpf_map_lookup_elem(&ports, &key);

	if (!totals)
		return;
	totals->packets[egress & 1] += packets;
	totals->bytes[egress & 1] += bytes;
}

static __always_inline struct scratch *scratch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

#endif /* XDPPROBE_COUNTERS_H */
