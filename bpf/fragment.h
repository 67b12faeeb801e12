/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Later fragments of a datagram have no ports: the first one leaves them.
 */
#ifndef XDPPROBE_FRAGMENT_H
#define XDPPROBE_FRAGMENT_H

#include "parse.h"

/* The first fragment of a datagram leaves its ports for the later ones. */
static __always_inline int parse_fragment(struct packet *p)
{
	struct fragment_key key = {
		.address = { p->source[0], p->source[1], p->destination[0],
			     p->destination[1] },
		.id = p->fragment_id,
		.l4 = p->l4,
		.vlan = p->vlan,
	};
	__u32 *known;

	if (fragments_apart)
		return p->later_fragment ? REASON_FRAGMENT : PARSED;
	if (p->first_fragment) {
		__u32 value = (__u32)p->source_port << 16 | p->destination_port;

		bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
		return PARSED;
	}
	known = bpf_map_lookup_elem(&fragments, &key);
	if (!known)
		return REASON_FRAGMENT;
	p->source_port = *known >> 16;
	p->destination_port = *known & 0xffff;
	return PARSED;
}

#endif /* XDPPROBE_FRAGMENT_H */
