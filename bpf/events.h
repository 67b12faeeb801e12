/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records to readers: a flow got a name, ended, or was pushed out. One ring a
 * reader; without a reader nothing is written, and that is counted.
 */
#ifndef XDPPROBE_EVENTS_H
#define XDPPROBE_EVENTS_H

#include "counters.h"

static __always_inline __u32 readers_active(void)
{
	__u32 zero = 0;
	struct control_value *c = bpf_map_lookup_elem(&control, &zero);

	return c ? c->readers : 0;
}

/* Send scratch.record, which the caller has filled but for kind and time. */
static __always_inline void record_send(struct scratch *s, __u32 active,
					enum record_kind kind, __u32 now)
{
	s->record.kind = kind;
	s->record.now = now;
	for (__u32 i = 0; i < MAX_READERS; i++) {
		__u32 key = i;
		void *ring;

		if (!(active & (1u << i)))
			continue;
		ring = bpf_map_lookup_elem(&readers, &key);
		if (ring &&
		    bpf_ringbuf_output(ring, &s->record, sizeof(s->record), 0))
			count(LOSS_RING_FULL);
	}
}

#endif /* XDPPROBE_EVENTS_H */
