/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Later fragments of a datagram have no ports: the first one leaves them.
 */
#ifndef XDPPROBE_FRAGMENT_H
#define XDPPROBE_FRAGMENT_H

#include "flow.h"

/* The first fragment of a datagram leaves its ports for the later ones; not for
 * long, since another datagram may get its identification. */
static __always_inline int parse_fragment(struct packet *p, __u32 now)
{
	struct fragment_key key = {
		.address = { p->source[0], p->source[1], p->destination[0],
			     p->destination[1] },
		.id = p->fragment_id,
		.tunnel_id = p->tunnel_id,
		.l4 = p->l4,
		.vlan = p->vlan,
	};
	struct fragment_ports *known;

	if (fragments_apart)
		return p->later_fragment ? REASON_FRAGMENT : PARSED;
	if (p->first_fragment) {
		struct fragment_ports first = {
			.source = p->source_port,
			.destination = p->destination_port,
			.seen = now,
		};

		bpf_map_update_elem(&fragments, &key, &first, BPF_ANY);
		return PARSED;
	}
	known = bpf_map_lookup_elem(&fragments, &key);
	if (!known || age_of(now, known->seen) > fragment_timeout)
		return REASON_FRAGMENT;
	p->source_port = known->source;
	p->destination_port = known->destination;
	return PARSED;
}

#endif /* XDPPROBE_FRAGMENT_H */
