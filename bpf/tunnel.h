/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets in packets: with `tunnels` set, a flow is what a tunnel carries. One
 * tunnel is entered; a tunnel within it is a flow. What does not look as its
 * specification says is no tunnel, but a flow of its own.
 */
#ifndef XDPPROBE_TUNNEL_H
#define XDPPROBE_TUNNEL_H

#include "parse.h"

#define PORT_VXLAN 4789	      /* RFC 7348, 5 */
#define PORT_VXLAN_LINUX 8472 /* the Linux driver's before the RFC */
#define PORT_GENEVE 6081      /* RFC 8926, 3.3 */
#define PORT_GTP_U 2152	      /* 3GPP TS 29.281, 4.4.2.0 */

#define ETH_P_ETHERNET 0x6558 /* transparent Ethernet bridging */

/* Inside is IP of the version that its first four bits tell. */
static __always_inline bool tunnel_version(const struct cursor *c,
					   struct packet *p)
{
	const __u8 *first = c->at;

	if ((void *)(first + 1) > c->end)
		return false;
	p->ether_type = *first >> 4 == 4 ? ETH_P_IP : ETH_P_IPV6;
	return *first >> 4 == 4 || *first >> 4 == 6;
}

/* What has a protocol field: an EtherType. */
static __always_inline bool tunnel_type(struct packet *p, __u16 type)
{
	p->ether_type = type;
	return type == ETH_P_ETHERNET || type == ETH_P_IP || type == ETH_P_IPV6;
}

/*
 * RFC 7348, 5; RFC 8926, 3.4. VXLAN: only the flag I is set.
 *
 *  +---------------+-----------------------------------------------+
 *  |R|R|R|R|I|R|R|R|                  reserved                     |
 *  |Ver|  Opt Len  |O|C|    Rsvd.  |          Protocol Type        |
 *  +---------------+-----------+---+---------------+---------------+
 *  |      Virtual Network Identifier (VNI)         |    reserved   |
 *  +-----------------------------------------------+---------------+
 */
struct overlay_header {
	__be32 first;
	__be32 vni;
};

static __always_inline bool tunnel_overlay(struct cursor *c, struct packet *p,
					   bool geneve)
{
	struct overlay_header *h = c->at;
	__u32 first;

	if ((void *)(h + 1) > c->end)
		return false;
	first = bpf_ntohl(h->first);
	p->tunnel_id = bpf_ntohl(h->vni) >> 8;
	c->at = h + 1;
	if (!geneve) {
		p->tunnel = TUNNEL_VXLAN;
		return first == 0x08000000 && tunnel_type(p, ETH_P_ETHERNET);
	}
	/* Version 0, and not a control packet. */
	if (first >> 30 || first & 1 << 23)
		return false;
	p->tunnel = TUNNEL_GENEVE;
	c->at += (first >> 24 & 0x3f) * 4;
	return tunnel_type(p, first & 0xffff);
}

/*
 * 3GPP TS 29.281, 5.1; a G-PDU (255) of version 1. The last four bytes are there
 * if one of E, S, PN is set; with E, extension headers follow, each a length in
 * units of four bytes first and the next one's type last (5.2.1). The TEID is a
 * direction's own and so no part of the flow.
 *
 *  +-----+-+-+-+-+-+---------------+-------------------------------+
 *  | 001 |1|*|E|S|P|  Message Type |            Length             |
 *  +-----+-+-+-+-+-+---------------+-------------------------------+
 *  |                Tunnel Endpoint Identifier (TEID)              |
 *  +-------------------------------+---------------+---------------+
 *  |        Sequence Number        |  N-PDU Number | Next Ext. Type|
 *  +-------------------------------+---------------+---------------+
 */
#define GTP_EXTENSIONS 4

static __always_inline bool tunnel_gtp(void *ctx, enum hook hook,
				       struct cursor *c, struct packet *p)
{
	__u8 *h = c->at;
	__u32 more;
	__u8 next = 0;

	if (h + 12 > (__u8 *)c->end || h[0] >> 4 != 3 || h[1] != 255)
		return false;
	p->tunnel = TUNNEL_GTP_U;
	c->at = h + 8;
	if (h[0] & 7) {
		c->at = h + 12;
		if (h[0] & 4)
			next = h[11];
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < GTP_EXTENSIONS && next; i++) {
		cursor_save(c, p);
		if (!cursor_settle(ctx, hook, c, p))
			return false;
		h = c->at;
		if (h + 1 > (__u8 *)c->end || !h[0])
			return false;
		/* The bound is for Linux before 6.8, which does not conclude
		 * it from the comparison with 0. */
		more = h[0] - 1;
		opaque(more);
		h += (more & 0xff) * 4 + 3;
		opaque(h);
		if (h + 1 > (__u8 *)c->end)
			return false;
		next = *h;
		c->at = h + 1;
	}
	return !next && tunnel_version(c, p);
}

/*
 * RFC 2784, 2.1; RFC 2890, 2. Version 0; no source routing.
 *
 *  +-+-+-+-+-----------------+-----+-------------------------------+
 *  |C|0|K|S|    Reserved0    | Ver |         Protocol Type         |
 *  +-+-+-+-+-----------------+-----+-------------------------------+
 *  |  Checksum and Reserved1, Key, Sequence Number: as C, K, S say |
 *  +---------------------------------------------------------------+
 */
static __always_inline bool tunnel_gre(struct cursor *c, struct packet *p)
{
	__be16 *h = c->at;
	__u16 flags;

	if ((void *)(h + 2) > c->end)
		return false;
	flags = bpf_ntohs(h[0]);
	if (flags & ~0xb000)
		return false;
	p->tunnel = TUNNEL_GRE;
	c->at +=
		4 + 4 * ((flags >> 15) + (flags >> 13 & 1) + (flags >> 12 & 1));
	return tunnel_type(p, bpf_ntohs(h[1]));
}

static __always_inline bool tunnel_udp(void *ctx, enum hook hook,
				       struct cursor *c, struct packet *p)
{
	struct udphdr *udp = c->at;
	__u32 length;
	__u16 port;

	if ((void *)(udp + 1) > c->end)
		return false;
	port = bpf_ntohs(udp->dest);
	length = udp_length(udp);
	if (length && length < p->payload_length)
		p->payload_length = length;
	c->at = udp + 1;
	if (port == PORT_GTP_U)
		return tunnel_gtp(ctx, hook, c, p);
	if (port == PORT_VXLAN || port == PORT_VXLAN_LINUX)
		return tunnel_overlay(c, p, false);
	return port == PORT_GENEVE && tunnel_overlay(c, p, true);
}

/* True: p->offset is at what the tunnel carries, p->ether_type tells what. */
static __always_inline bool tunnel_enter(void *ctx, enum hook hook,
					 struct packet *p)
{
	struct cursor c;
	__u32 before = p->offset;
	bool inside;

	if (p->first_fragment || p->later_fragment)
		return false;
	if (!cursor_settle(ctx, hook, &c, p))
		return false;
	if (p->l4 == IPPROTO_UDP) {
		inside = tunnel_udp(ctx, hook, &c, p);
	} else if (p->l4 == IPPROTO_GRE) {
		inside = tunnel_gre(&c, p);
	} else if (p->l4 == IPPROTO_IPIP || p->l4 == IPPROTO_IPV6) {
		p->tunnel = TUNNEL_IP;
		inside = tunnel_version(&c, p);
	} else {
		return false;
	}
	if (inside) {
		cursor_save(&c, p);
		return true;
	}
	p->offset = before;
	p->tunnel = TUNNEL_NONE;
	p->tunnel_id = 0;
	return false;
}

/* Outer and inner headers mostly end before this offset. */
#define TUNNEL_HEADERS 256

/* Was a tunnel looked for, and not found? */
static __always_inline bool tunnel_likely(const struct packet *p)
{
	return p->tunnel == TUNNEL_NONE &&
	       (p->l4 == IPPROTO_UDP || p->l4 == IPPROTO_GRE ||
		p->l4 == IPPROTO_IPIP || p->l4 == IPPROTO_IPV6);
}

/* What a tunnel carries: its IP header, as if nothing were around it. */
static __always_inline int parse_inside(void *ctx, enum hook hook,
					struct packet *p, __u32 frame_length)
{
	int why = PARSED;

	packet_clear(p);
	if (*(volatile __u32 *)&p->ether_type == ETH_P_ETHERNET)
		why = parse_below_ip(ctx, hook, p, false);
	return why == PARSED ? parse_ip(ctx, hook, p, frame_length) : why;
}

/* What a tunnel carries ends where the tunnel does: behind that is padding. */
static __always_inline int tunnel_bound(struct packet *p, __u32 end)
{
	if (p->offset > end)
		return REASON_MALFORMED;
	if (p->payload_length > end - p->offset)
		p->payload_length = end - p->offset;
	return PARSED;
}

/* PARSED, or the reason why not. `frame_length` counts what is not in the
 * linear part, too. */
static __always_inline int parse_packet(void *ctx, enum hook hook,
					struct packet *p, __u32 frame_length)
{
	struct cursor c;
	__u32 end;
	int why;

	p->offset = 0;
	p->tunnel = TUNNEL_NONE;
	p->tunnel_id = 0;
	why = parse_below_ip(ctx, hook, p, raw_ip);
	if (why == PARSED)
		why = parse_ip(ctx, hook, p, frame_length);
	end = p->offset;
	if (tunnels && why == PARSED && tunnel_enter(ctx, hook, p)) {
		end += p->payload_length;
		why = parse_inside(ctx, hook, p, frame_length);
		if (why == PARSED)
			why = tunnel_bound(p, end);
	}
	if (why != PARSED)
		return why;
	if (p->later_fragment) {
		p->payload_offset = p->offset;
		p->payload_length = 0;
		return PARSED;
	}
	if (!cursor_settle(ctx, hook, &c, p))
		return REASON_MALFORMED;
	return parse_transport(&c, p, frame_length);
}

#endif /* XDPPROBE_TUNNEL_H */
