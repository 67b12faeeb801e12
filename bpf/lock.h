/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Locks that are a word of a map's value: the flow table's, one a stripe of sets,
 * and those of unfinished hellos. Not bpf_spin_lock: switching interrupts off
 * and on, and the calls, would be a third of what a new flow costs
 * (docs/design/table-lock.md).
 */
#ifndef XDPPROBE_LOCK_H
#define XDPPROBE_LOCK_H

#include "config.h"
#include "ctx.h"

/* A program of another CPU can hold the lock, one of this CPU cannot: XDP and tc
 * run with bottom halves off. (A test run before Linux 6.10 does not, and may
 * make a packet wait.) */

/* Tries before a packet goes on without the lock: some 10 ms, for the CPU that
 * holds it may be a virtual one that is not running. */
#define LOCK_TRIES (1 << 20)

struct word_wait {
	__u32 *held;
	__u64 taken;
};

static long word_try(__u64 i, struct word_wait *w)
{
	if (!*(volatile __u32 *)w->held)
		w->taken = !__sync_lock_test_and_set(w->held, 1);
	return w->taken;
}

/* Take a lock that is a word of a map's value. False: another CPU does not let it
 * go. */
static __always_inline bool word_take(__u32 *held)
{
	struct word_wait wait = { .held = held };

	if (!__sync_lock_test_and_set(held, 1))
		return true;
	bpf_loop(LOCK_TRIES, word_try, &wait, 0);
	return wait.taken;
}

/* A plain store releases the lock where the machine keeps stores in order; it
 * does not wait for cache lines that are still on their way. */
static __always_inline void word_release(__u32 *held)
{
	asm volatile("" : : : "memory");
	if (weak_memory)
		__sync_lock_test_and_set(held, 0);
	else
		*(volatile __u32 *)held = 0;
}

/* The lock of a stripe, or NULL if another CPU does not let it go. */
static __always_inline struct stripe *lock_take(__u32 stripe)
{
	struct stripe *guard = bpf_map_lookup_elem(&flow_lock, &stripe);

	if (!guard)
		return NULL;
	opaque(guard);
	return word_take(&guard->held) ? guard : NULL;
}

static __always_inline void lock_release(struct stripe *guard)
{
	word_release(&guard->held);
}

#endif /* XDPPROBE_LOCK_H */
