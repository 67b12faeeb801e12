/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How many packets and bytes the wire carries for the frame in hand, which may be
 * an aggregate, or lack the VLAN tag that it had.
 */
#ifndef XDPPROBE_WIRE_H
#define XDPPROBE_WIRE_H

#include "counters.h"
#include "tunnel.h"

/* One frame for the wire, until GSO says otherwise: a VLAN tag that the kernel
 * took out counts as the four bytes that it was. */
static __always_inline void wire_frame(void *ctx, enum hook hook,
				       struct wire *w, __u32 length)
{
	__u32 zero = 0;
	struct replay_value *r;

	w->packets = 1;
	w->bytes = length + (ctx_vlan(ctx, hook) ? 4 : 0);
	if (!replaying)
		return;
	r = bpf_map_lookup_elem(&replay, &zero);
	if (r)
		w->bytes = r->wire_length;
}

/* Where the payload of what a tunnel carries begins, 0 where that cannot be
 * told: an aggregate is cut inside of its tunnel. Global: verified once. */
__noinline int tc_inside(struct __sk_buff *ctx)
{
	struct scratch *s = scratch_get();
	struct packet *q;
	struct cursor c;

	if (!s)
		return 0;
	opaque(s);
	q = &s->inside;
	q->offset = s->packet.offset;
	q->l4 = s->packet.l4;
	q->vlan = 0;
	q->first_fragment = q->later_fragment = 0;
	if (!tunnel_enter(ctx, HOOK_TC, q) ||
	    parse_inside(ctx, HOOK_TC, q, ctx->len) != PARSED ||
	    !cursor_settle(ctx, HOOK_TC, &c, q) ||
	    parse_transport(&c, q, ctx->len) != PARSED)
		return 0;
	return q->payload_offset;
}

/* SCTP's aggregates are lists of segments of any size (linux/skbuff.h). */
#define GSO_BY_FRAGS 0xffff

/* An aggregate is as many packets as its payload has segments, each with the
 * headers. */
static __always_inline void wire_segments(void *ctx, enum hook hook,
					  const struct packet *p,
					  struct wire *w, __u32 length)
{
	struct __sk_buff *skb = ctx;
	__u32 size, segments, headers = p->payload_offset;
	int inside;

	if (hook == HOOK_XDP)
		return;
	size = skb->gso_size;
	if (!size)
		return;
	if (!tunnels && p->l4 != IPPROTO_TCP) {
		inside = tc_inside(skb);
		if (inside > 0)
			headers = inside;
	}
	if (length <= headers)
		return;
	segments = size == GSO_BY_FRAGS ? skb->gso_segs :
					  (length - headers + size - 1) / size;
	if (segments < 2)
		return;
	w->packets = segments;
	w->bytes += (segments - 1) * (w->bytes - length + headers);
	count_many(INFO_GSO, 1, w->bytes);
}

#endif /* XDPPROBE_WIRE_H */
