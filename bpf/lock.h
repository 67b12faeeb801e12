/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The flow table's locks, one a stripe of sets. Not bpf_spin_lock: switching
 * interrupts off and on, and the calls, would be a third of what a new flow
 * costs (docs/design/table-lock.md).
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

struct lock_wait {
	struct stripe *guard;
	__u32 taken;
};

static long lock_try(__u64 i, struct lock_wait *w)
{
	volatile __u32 *held = &w->guard->held;

	if (!*held)
		w->taken = !__sync_lock_test_and_set(&w->guard->held, 1);
	return w->taken;
}

/* The lock of a stripe, or NULL if another CPU does not let it go. */
static __always_inline struct stripe *lock_take(__u32 stripe)
{
	struct stripe *guard = bpf_map_lookup_elem(&flow_lock, &stripe);
	struct lock_wait wait = { .guard = guard };

	if (!guard)
		return NULL;
	opaque(guard);
	if (!__sync_lock_test_and_set(&guard->held, 1))
		return guard;
	bpf_loop(LOCK_TRIES, lock_try, &wait, 0);
	return wait.taken ? guard : NULL;
}

/* A plain store releases the lock where the machine keeps stores in order; it
 * does not wait for cache lines that are still on their way. */
static __always_inline void lock_release(struct stripe *guard)
{
	asm volatile("" : : : "memory");
	if (weak_memory)
		__sync_lock_test_and_set(&guard->held, 0);
	else
		*(volatile __u32 *)&guard->held = 0;
}

#endif /* XDPPROBE_LOCK_H */
