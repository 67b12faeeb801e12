/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What differs between XDP and tc, under one name each. `hook` is always a
 * constant where these are inlined, so the other branch is not there.
 */
#ifndef XDPPROBE_CTX_H
#define XDPPROBE_CTX_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>

#include "scratch.h"

enum hook { HOOK_XDP, HOOK_TC };

#define TC_NEXT (-1) /* TCX_NEXT and TC_ACT_UNSPEC: the next program decides */

/* Keep a value in a register and forget what the compiler knows of it, so that
 * the bound that was checked is the one that the verifier sees used (clang 14
 * otherwise checks one copy and uses another, or moves arithmetic on a pointer
 * before its check for NULL). */
#define opaque(x) asm volatile("" : "+r"(x))

/* Copy 1 to `most` bytes of kernel memory; false where it is another number. Linux
 * before 6.8 does not conclude from a comparison with 0 that the number is at least
 * 1, as the call wants it, and clang 19 may compare one copy and hand over another. */
static __always_inline bool copy_bounded(void *to, const void *from,
					 __u32 length, __u32 most)
{
	__u32 rest = length - 1;

	opaque(rest);
	return rest < most && !bpf_probe_read_kernel(to, rest + 1, from);
}

/* What a callback of bpf_loop gives back to stop, or 0. Compilers may know that
 * `stop` is 0 or 1; the verifier wants to see it (clang 19, 6.18). */
static __always_inline long loop_answer(int stop)
{
	opaque(stop);
	return stop ? 1 : 0;
}

static __always_inline void *ctx_data(void *ctx, enum hook hook)
{
	if (hook == HOOK_XDP)
		return (void *)(long)((struct xdp_md *)ctx)->data;
	return (void *)(long)((struct __sk_buff *)ctx)->data;
}

static __always_inline void *ctx_data_end(void *ctx, enum hook hook)
{
	if (hook == HOOK_XDP)
		return (void *)(long)((struct xdp_md *)ctx)->data_end;
	return (void *)(long)((struct __sk_buff *)ctx)->data_end;
}

/* Bytes of the frame in hand, all its fragments. */
static __always_inline __u32 ctx_length(void *ctx, enum hook hook)
{
	if (hook == HOOK_XDP)
		return bpf_xdp_get_buff_len(ctx);
	return ((struct __sk_buff *)ctx)->len;
}

static __always_inline long ctx_load_bytes(void *ctx, enum hook hook,
					   __u32 offset, void *to, __u32 length)
{
	if (hook == HOOK_XDP)
		return bpf_xdp_load_bytes(ctx, offset, to, length);
	return bpf_skb_load_bytes(ctx, offset, to, length);
}

/* The outermost VLAN tag where the kernel took it out of the bytes, with bit
 * 16 set; 0 where it did not. */
static __always_inline __u32 ctx_vlan(void *ctx, enum hook hook)
{
	if (hook == HOOK_XDP || !((struct __sk_buff *)ctx)->vlan_present)
		return 0;
	return 1 << 16 | (((struct __sk_buff *)ctx)->vlan_tci & 0xfff);
}

static __always_inline int ctx_pass(enum hook hook)
{
	return hook == HOOK_XDP ? XDP_PASS : TC_NEXT;
}

static __always_inline void ctx_tail_call(void *ctx, enum hook hook,
					  enum stage stage)
{
	if (hook == HOOK_XDP)
		bpf_tail_call(ctx, &xdp_stages, stage);
	else
		bpf_tail_call(ctx, &tc_stages, stage);
}

#endif /* XDPPROBE_CTX_H */
