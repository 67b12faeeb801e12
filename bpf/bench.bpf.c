// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * `xdpprobe bench` puts this before the program that it measures. A test run
 * repeats one buffer; here each repetition becomes the next packet of the next
 * flow, by writing over the client's address and port, and, where there are
 * several frames, over the whole frame. Then comes the program under test, or
 * an empty one: the difference of the two is what a packet costs.
 *
 * Checksums are not kept right; the data plane reads none.
 *
 * `xdp_send` really sends such packets, for `make bench`.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TC_NEXT (-1)
#define FRAMES 64
#define FRAME_MAX 2048
#define FIRST_PORT 1024

/* All set by user space, before the load. */
const volatile __u32 flows = 0;	    /* that take turns; 0: all are new */
const volatile __u32 by_chance = 0; /* 1: not in turn, any flow each time */
const volatile __u32 per_flow = 1;  /* frames that a flow gets in its turn */
const volatile __u32 frame_count = 1;
const volatile __u32 frame_length = FRAME_MAX;
const volatile __u32 address_at = 0; /* of its last four bytes */
const volatile __u32 port_at = 0;
const volatile __u32 line_mask = 0; /* lines - 1 */
const volatile __u32 target = 0;    /* interface that xdp_send sends through */

struct frame {
	__u8 b[FRAME_MAX];
};

/* Key: number of the frame, below frame_count. Written by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FRAMES);
	__type(key, __u32);
	__type(value, struct frame);
} frames SEC(".maps");

/* Key: 0 of the program under test, 1 of the empty one, so that both see the
 * same packets. Only one CPU runs either. */
struct position {
	__u32 flow;
	__u32 sent;  /* of the flow's frames */
	__u32 frame; /* that comes next */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct position);
} positions SEC(".maps");

/* [0] the program under test, [1] the empty one. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} xdp_next SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} tc_next SEC(".maps");

/* Key: any number below a power of two. As large as a flow table. (sized) */
struct line {
	__u64 packets;
	__u64 reserved[7];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct line);
} lines SEC(".maps");

/* The place of the next packet in the sequence of all of them. */
static __always_inline bool advance(__u32 which, struct position *now)
{
	struct position *p = bpf_map_lookup_elem(&positions, &which);

	if (!p)
		return false;
	*now = *p;
	if (++p->frame >= frame_count)
		p->frame = 0;
	if (++p->sent >= per_flow) {
		p->sent = 0;
		if (++p->flow == flows)
			p->flow = 0;
	}
	if (by_chance)
		now->flow = bpf_get_prandom_u32() % flows;
	return true;
}

/* A flow's number, as 24 bits of the address and 8 of the port. */
static __always_inline bool address(void *data, void *end, __u32 flow)
{
	__be32 *host = data + address_at;
	__be16 *port = data + port_at;

	if ((void *)(host + 1) > end || (void *)(port + 1) > end)
		return false;
	*host = bpf_htonl(10 << 24 | flow >> 8);
	*port = bpf_htons(FIRST_PORT + (flow & 0xff));
	return true;
}

static __always_inline struct frame *frame_of(const struct position *now)
{
	__u32 key = now->frame;

	return bpf_map_lookup_elem(&frames, &key);
}

static __always_inline bool xdp_write(struct xdp_md *ctx, __u32 which)
{
	struct position now;
	struct frame *f;

	if (!advance(which, &now))
		return false;
	if (frame_count > 1) {
		f = frame_of(&now);
		if (!f || bpf_xdp_store_bytes(ctx, 0, f, frame_length))
			return false;
	}
	return address((void *)(long)ctx->data, (void *)(long)ctx->data_end,
		       now.flow);
}

static __always_inline bool tc_write(struct __sk_buff *ctx, __u32 which)
{
	struct position now;
	struct frame *f;

	if (!advance(which, &now))
		return false;
	if (frame_count > 1) {
		f = frame_of(&now);
		if (!f || bpf_skb_store_bytes(ctx, 0, f, frame_length, 0))
			return false;
	}
	return address((void *)(long)ctx->data, (void *)(long)ctx->data_end,
		       now.flow);
}

/* Whatever fails gives a return value that user space takes for a failure. */
SEC("xdp.frags")
int xdp_tested(struct xdp_md *ctx)
{
	if (xdp_write(ctx, 0))
		bpf_tail_call(ctx, &xdp_next, 0);
	return XDP_ABORTED;
}

SEC("xdp.frags")
int xdp_base(struct xdp_md *ctx)
{
	if (xdp_write(ctx, 1))
		bpf_tail_call(ctx, &xdp_next, 1);
	return XDP_ABORTED;
}

SEC("xdp.frags")
int xdp_empty(struct xdp_md *ctx)
{
	return XDP_PASS;
}

/* A program under test that does no more than every flow table has to: find a
 * cache line by what the packet says, and count there. Which one is made to
 * depend on the last one's content (by a bit that is never set), so that the
 * CPU cannot fetch several packets' lines at once; with as much code a packet
 * as a real program has, it cannot either. */
SEC("xdp.frags")
int xdp_line(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data,
	     *end = (void *)(long)ctx->data_end;
	__u32 *host = data + address_at, zero = 0, key;
	__u16 *port = data + port_at;
	struct position *last;
	struct line *line;
	__u64 mixed;

	last = bpf_map_lookup_elem(&positions, &zero);
	if (!last || (void *)(host + 1) > end || (void *)(port + 1) > end)
		return XDP_ABORTED;
	mixed = ((__u64)*host << 16 | *port) * 0x9e3779b97f4a7c15; /* odd */
	key = (mixed >> 32 ^ last->reserved) & line_mask;
	line = bpf_map_lookup_elem(&lines, &key);
	if (line)
		last->reserved = __sync_fetch_and_add(&line->packets, 1) >> 63;
	return XDP_PASS;
}

/* Run with BPF_F_TEST_XDP_LIVE_FRAMES. */
SEC("xdp")
int xdp_send(struct xdp_md *ctx)
{
	if (!xdp_write(ctx, 0))
		return XDP_ABORTED;
	return bpf_redirect(target, 0);
}

SEC("tc")
int tc_tested(struct __sk_buff *ctx)
{
	if (tc_write(ctx, 0))
		bpf_tail_call(ctx, &tc_next, 0);
	return TC_ACT_SHOT;
}

SEC("tc")
int tc_base(struct __sk_buff *ctx)
{
	if (tc_write(ctx, 1))
		bpf_tail_call(ctx, &tc_next, 1);
	return TC_ACT_SHOT;
}

SEC("tc")
int tc_empty(struct __sk_buff *ctx)
{
	return TC_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
