/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From the link header to the transport payload, by direct packet access. Each
 * step checks that its header is there, and that the length it declares is one
 * that it can have; what cannot be parsed has a reason.
 */
#ifndef XDPPROBE_PARSE_H
#define XDPPROBE_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>

#include "config.h"
#include "ctx.h"

#define PARSED (-1)

#define VLAN_TAGS 4
#define MPLS_LABELS 8
#define IPV6_EXTENSIONS 8

#define IPPROTO_ICMP6 58
#define IPPROTO_MOBILITY 135
#define IPPROTO_HIP 139
#define IPPROTO_SHIM6 140

#define ETH_P_RARP_ 0x8035
#define PPP_IPV4 0x0021 /* RFC 1332 */
#define PPP_IPV6 0x0057 /* RFC 5072 */

#define IPV4_OFFSET_MASK 0x1fff /* RFC 791: in units of 8 bytes */
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV6_OFFSET_MASK 0xfff8 /* RFC 8200, 4.5 */
#define IPV6_MORE_FRAGMENTS 0x0001

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct cursor {
	void *start;
	void *at;
	void *end;
};

/* Headers end before this offset, or the packet is malformed. */
#define HEADERS_MAX 0x3fff

/*
 * Move on to p->offset. The offset goes through memory and the pointers are read
 * anew, so that the verifier (6.1 to 6.18) forgets which of the many ways led
 * here and walks what follows once instead of once a way.
 */
static __always_inline bool cursor_settle(void *ctx, enum hook hook,
					  struct cursor *c, struct packet *p)
{
	__u32 offset = *(volatile __u32 *)&p->offset;

	if (offset > HEADERS_MAX)
		return false;
	c->start = ctx_data(ctx, hook);
	c->end = ctx_data_end(ctx, hook);
	c->at = c->start + offset;
	return true;
}

/*
 * Bytes before the cursor. Opaque, since clang 19 otherwise adds the difference
 * to other lengths one pointer at a time, in 32 bits, which verifiers refuse.
 */
static __always_inline __u32 cursor_offset(const struct cursor *c)
{
	long offset = c->at - c->start;

	opaque(offset);
	return offset;
}

static __always_inline void cursor_save(const struct cursor *c,
					struct packet *p)
{
	*(volatile __u32 *)&p->offset = cursor_offset(c);
}

/* What a parser may leave unset. */
static __always_inline void packet_clear(struct packet *p)
{
	p->source_port = p->destination_port = 0;
	p->tcp_flags = 0;
	p->ipv6 = 0;
	p->first_fragment = p->later_fragment = 0;
	p->fragment_id = 0;
	p->sequence = 0;
}

struct vlan_header {
	__be16 tci;
	__be16 protocol;
};

/* RFC 2516, 4, then the PPP protocol number. */
struct pppoe_header {
	__u8 version_type;
	__u8 code;
	__be16 session;
	__be16 length;
	__be16 protocol;
};

struct ipv6_extension {
	__u8 next_header;
	__u8 length; /* RFC 8200, 4.2: in 8 bytes, without the first 8 */
	__u8 data[6];
};

struct ipv6_fragment {
	__u8 next_header;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

struct sctp_ports {
	__be16 source;
	__be16 destination;
};

/* The EtherType behind all tags; the first VLAN id goes to p->vlan. */
static __always_inline int parse_link(struct cursor *c, struct packet *p)
{
	struct ethhdr *eth = c->at;
	__u16 proto;

	if ((void *)(eth + 1) > c->end)
		return REASON_TRUNCATED;
	c->at = eth + 1;
	proto = bpf_ntohs(eth->h_proto);
#pragma unroll
	for (int i = 0; i < VLAN_TAGS; i++) {
		struct vlan_header *tag = c->at;

		if (proto != ETH_P_8021Q && proto != ETH_P_8021AD &&
		    proto != ETH_P_QINQ1)
			break;
		if ((void *)(tag + 1) > c->end)
			return REASON_TRUNCATED;
		if (!p->vlan)
			p->vlan = bpf_ntohs(tag->tci) & 0xfff;
		proto = bpf_ntohs(tag->protocol);
		c->at = tag + 1;
	}
	if (proto == ETH_P_8021Q || proto == ETH_P_8021AD ||
	    proto == ETH_P_QINQ1)
		return REASON_TAGS;
	p->ether_type = proto;
	return PARSED;
}

/* RFC 3032: labels down to the one with the bottom-of-stack bit; what follows
 * tells its version in its first four bits. */
static __always_inline int parse_mpls(struct cursor *c, struct packet *p)
{
#pragma unroll
	for (int i = 0; i < MPLS_LABELS; i++) {
		__u8 *label = c->at;

		if (label + 5 > (__u8 *)c->end)
			return REASON_TRUNCATED;
		c->at = label + 4;
		if (!(label[2] & 1))
			continue;
		if (label[4] >> 4 == 4)
			p->ether_type = ETH_P_IP;
		else if (label[4] >> 4 == 6)
			p->ether_type = ETH_P_IPV6;
		else
			return REASON_NOT_IP;
		return PARSED;
	}
	return REASON_TAGS;
}

static __always_inline int parse_pppoe(struct cursor *c, struct packet *p)
{
	struct pppoe_header *ppp = c->at;

	if ((void *)(ppp + 1) > c->end)
		return REASON_TRUNCATED;
	if (ppp->version_type != 0x11)
		return REASON_MALFORMED;
	if (ppp->code || (ppp->protocol != bpf_htons(PPP_IPV4) &&
			  ppp->protocol != bpf_htons(PPP_IPV6)))
		return REASON_NOT_IP;
	p->ether_type = ppp->protocol == bpf_htons(PPP_IPV4) ? ETH_P_IP :
							       ETH_P_IPV6;
	c->at = ppp + 1;
	return PARSED;
}

/* Sets p->payload_length to what follows the header by the header's account;
 * a total length of 0 (segmentation offload of more than 64 kB) means all. */
static __always_inline int parse_ipv4(struct cursor *c, struct packet *p,
				      __u32 frame_length)
{
	struct iphdr *ip = c->at;
	__u32 header, total, rest;
	__u16 fragment;

	if ((void *)(ip + 1) > c->end)
		return REASON_TRUNCATED;
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip))
		return REASON_MALFORMED;
	if (c->at + header > c->end)
		return REASON_TRUNCATED;
	total = bpf_ntohs(ip->tot_len);
	rest = frame_length - cursor_offset(c);
	if (!total || total > rest)
		total = rest;
	if (total < header)
		return REASON_MALFORMED;
	p->payload_length = total - header;
	p->l4 = ip->protocol;
	p->source[0] = p->destination[0] = 0;
	p->source[1] = (__u64)ip->saddr << 32 | 0xffff0000;
	p->destination[1] = (__u64)ip->daddr << 32 | 0xffff0000;
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & (IPV4_OFFSET_MASK | IPV4_MORE_FRAGMENTS)) {
		p->later_fragment = (fragment & IPV4_OFFSET_MASK) != 0;
		p->first_fragment = !p->later_fragment;
		p->fragment_id = ip->id;
	}
	c->at += header;
	return PARSED;
}

/* One extension header; true while there may be another. */
static __always_inline bool parse_ipv6_extension(struct cursor *c,
						 struct packet *p, int *why)
{
	struct ipv6_extension *ext = c->at;
	__u32 length = 8;

	*why = PARSED;
	if (p->l4 != IPPROTO_HOPOPTS && p->l4 != IPPROTO_ROUTING &&
	    p->l4 != IPPROTO_DSTOPTS && p->l4 != IPPROTO_FRAGMENT &&
	    p->l4 != IPPROTO_MOBILITY && p->l4 != IPPROTO_HIP &&
	    p->l4 != IPPROTO_SHIM6)
		return false;
	*why = REASON_TRUNCATED;
	if ((void *)(ext + 1) > c->end)
		return false;
	if (p->l4 == IPPROTO_FRAGMENT) {
		struct ipv6_fragment *fragment = c->at;
		__u16 offset = bpf_ntohs(fragment->offset);

		p->fragment_id = fragment->id;
		p->later_fragment = (offset & IPV6_OFFSET_MASK) != 0;
		p->first_fragment = !p->later_fragment &&
				    (offset & IPV6_MORE_FRAGMENTS);
	} else {
		length += ext->length * 8;
	}
	if (c->at + length > c->end)
		return false;
	*why = REASON_MALFORMED;
	if (length > p->payload_length)
		return false;
	p->payload_length -= length;
	p->l4 = ext->next_header;
	c->at += length;
	*why = PARSED;
	/* Behind a later fragment's header stands no header, but data. */
	return !p->later_fragment;
}

static __always_inline int parse_ipv6(void *ctx, enum hook hook,
				      struct cursor *c, struct packet *p,
				      __u32 frame_length)
{
	struct ipv6hdr *ip = c->at;
	__u32 rest;
	int why;

	if ((void *)(ip + 1) > c->end)
		return REASON_TRUNCATED;
	if (ip->version != 6)
		return REASON_MALFORMED;
	rest = frame_length - cursor_offset(c) - sizeof(*ip);
	p->payload_length = bpf_ntohs(ip->payload_len);
	if (!p->payload_length || p->payload_length > rest)
		p->payload_length = rest;
	__builtin_memcpy(p->source, &ip->saddr, 16);
	__builtin_memcpy(p->destination, &ip->daddr, 16);
	p->ipv6 = 1;
	p->l4 = ip->nexthdr;
	c->at = ip + 1;
#pragma clang loop unroll(disable)
	for (int i = 0; i < IPV6_EXTENSIONS; i++) {
		if (!parse_ipv6_extension(c, p, &why))
			return why;
		cursor_save(c, p);
		if (!cursor_settle(ctx, hook, c, p))
			return REASON_MALFORMED;
	}
	return parse_ipv6_extension(c, p, &why) ? REASON_IPV6_CHAIN : why;
}

/* RFC 768: header and payload; what IP has behind them no receiver takes for
 * payload. 0 (RFC 2675: longer than the field can say): as far as IP goes. */
static __always_inline __u32 udp_length(const struct udphdr *udp)
{
	__u32 length = bpf_ntohs(udp->len);

	return length && length < sizeof(*udp) ? sizeof(*udp) : length;
}

/* Ports, and where the payload starts; of others than TCP, UDP, SCTP and the
 * like the payload is all that follows IP. */
static __always_inline int parse_transport(struct cursor *c, struct packet *p,
					   __u32 frame_length)
{
	__u32 header = 0, datagram = 0;

	if (p->l4 == IPPROTO_TCP) {
		struct tcphdr *tcp = c->at;

		if ((void *)(tcp + 1) > c->end)
			return REASON_TRUNCATED;
		header = tcp->doff * 4;
		if (header < sizeof(*tcp))
			return REASON_MALFORMED;
		p->source_port = tcp->source;
		p->destination_port = tcp->dest;
		p->sequence = bpf_ntohl(tcp->seq);
		p->tcp_flags = ((__u8 *)tcp)[13];
	} else if (p->l4 == IPPROTO_UDP || p->l4 == IPPROTO_UDPLITE) {
		struct udphdr *udp = c->at;

		if ((void *)(udp + 1) > c->end)
			return REASON_TRUNCATED;
		header = sizeof(*udp);
		if (p->l4 == IPPROTO_UDP)
			datagram = udp_length(udp);
		p->source_port = udp->source;
		p->destination_port = udp->dest;
	} else if (p->l4 == IPPROTO_SCTP || p->l4 == IPPROTO_DCCP) {
		struct sctp_ports *sctp = c->at;

		if ((void *)(sctp + 1) > c->end)
			return REASON_TRUNCATED;
		header = 12;
		p->source_port = sctp->source;
		p->destination_port = sctp->destination;
	}
	p->payload_offset = cursor_offset(c) + header;
	if (p->payload_offset > frame_length)
		return REASON_TRUNCATED;
	if (header > p->payload_length)
		return REASON_MALFORMED;
	if (datagram && datagram < p->payload_length)
		p->payload_length = datagram;
	p->payload_length -= header;
	return PARSED;
}

/* Devices without a link header: the version tells what it is. */
static __always_inline int parse_version(struct cursor *c, struct packet *p)
{
	__u8 *first = c->at;

	if ((void *)(first + 1) > c->end)
		return REASON_TRUNCATED;
	if (*first >> 4 == 4)
		p->ether_type = ETH_P_IP;
	else if (*first >> 4 == 6)
		p->ether_type = ETH_P_IPV6;
	else
		return REASON_NOT_IP;
	return PARSED;
}

/* Link header, tags and labels, from p->offset down to IP. raw: IP begins there. */
static __always_inline int parse_below_ip(void *ctx, enum hook hook,
					  struct packet *p, bool raw)
{
	struct cursor c;
	int why;

	if (!cursor_settle(ctx, hook, &c, p))
		return REASON_MALFORMED;
	if (raw)
		return parse_version(&c, p);
	why = parse_link(&c, p);
	if (why != PARSED)
		return why;
	cursor_save(&c, p);
	if (p->ether_type == ETH_P_IP || p->ether_type == ETH_P_IPV6)
		return PARSED;
	if (!cursor_settle(ctx, hook, &c, p))
		return REASON_MALFORMED;
	if (p->ether_type == ETH_P_MPLS_UC || p->ether_type == ETH_P_MPLS_MC)
		why = parse_mpls(&c, p);
	else if (p->ether_type == ETH_P_PPP_SES)
		why = parse_pppoe(&c, p);
	else
		return p->ether_type == ETH_P_ARP ||
				       p->ether_type == ETH_P_RARP_ ?
			       REASON_ARP :
			       REASON_NOT_IP;
	cursor_save(&c, p);
	return why;
}

static __always_inline int parse_ip(void *ctx, enum hook hook, struct packet *p,
				    __u32 frame_length)
{
	struct cursor c;
	int why;

	if (!cursor_settle(ctx, hook, &c, p))
		return REASON_MALFORMED;
	if (*(volatile __u32 *)&p->ether_type == ETH_P_IP)
		why = parse_ipv4(&c, p, frame_length);
	else
		why = parse_ipv6(ctx, hook, &c, p, frame_length);
	cursor_save(&c, p);
	return why;
}

#endif /* XDPPROBE_PARSE_H */
