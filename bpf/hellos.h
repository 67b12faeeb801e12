/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The table of hellos: what clients' TLS libraries say of themselves, once for all
 * flows that say the same. Readers make fingerprints of it.
 */
#ifndef XDPPROBE_HELLOS_H
#define XDPPROBE_HELLOS_H

#include "counters.h"
#include "kept.h"
#include "siphash.h"

/* Of all that is in the entry, in whatever order its extensions came. */
static __always_inline __u64 hello_hash(const struct scratch *s)
{
	const struct hello_entry *e = &s->facts.entry;
	__u64 h = keyed_mix(s->facts.hash[0], s->facts.hash[1]);

	h = keyed_mix(h, s->hello.sum);
#pragma clang loop unroll(disable)
	for (int i = 0; i < HELLO_ALPN / 8; i++) {
		if (i * 8 >= e->alpn_length)
			break;
		h = keyed_mix(h, ((const __u64 *)e->alpn)[i]);
	}
	h = keyed_mix(h, (__u64)e->version << 48 | (__u64)e->named << 40 |
				 (__u64)e->ciphers << 32 | e->signatures << 16 |
				 e->extensions << 8 | e->alpn_length);
	return kept_hash(h);
}

/* Copy the facts into an entry that was claimed by its hash. */
static __always_inline void hello_write(struct hello_entry *to,
					const struct scratch *s, bool answered)
{
	const struct hello_entry *from = &s->facts.entry;
	const __u32 head = offsetof(struct hello_entry, version);

	to->used = s->work.now;
	bpf_probe_read_kernel((void *)to + head, sizeof(*to) - head,
			      (const void *)from + head);
	to->answered = answered;
}

/* The way of the set that has `hash`, or else is given up first. What is compared
 * stands in the map: in registers the verifier would walk every order of ranks. */
static __always_inline __u32 hello_way_of(struct scratch *s,
					  const struct hello_set *set,
					  __u64 hash)
{
	volatile struct kept_state *best = &s->kept;

	best->rank = best->way = 0;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < HELLO_WAYS_KEPT; i++) {
		const struct hello_entry *e = &set->way[i];
		__u64 rank;

		if (e->hash == hash) {
			best->way = i;
			break;
		}
		rank = kept_rank(e->hash, e->answered, e->used, s->work.now);
		if (rank > best->rank) {
			best->rank = rank;
			best->way = i;
		}
	}
	return best->way;
}

/* The entry of the hello in scratch.facts, made where there is none: its hash. The
 * known one's where there is no whole hello; 0 where that fails. Global: verified
 * once. */
__noinline __u64 hello_keep(struct scratch *s)
{
	struct hello_set *set;
	struct hello_entry *e;
	bool answered;
	__u64 hash, was;
	__u32 key;

	if (!s)
		return 0;
	if (!s->facts.whole)
		return s->facts.known;
	hash = hello_hash(s);
	key = (__u32)hash & (HELLO_SETS - 1);
	set = bpf_map_lookup_elem(&hellos, &key);
	answered = kept_answered(&s->work);
	if (!set)
		return 0;
	key = hello_way_of(s, set, hash);
	opaque(key);
	e = &set->way[key & (HELLO_WAYS_KEPT - 1)];
	was = e->hash;
	if (was == hash) {
		if (e->used != s->work.now)
			e->used = s->work.now;
		if (answered && !e->answered)
			e->answered = 1;
		return hash;
	}
	if (was == KEPT_BUSY ||
	    __sync_val_compare_and_swap(&e->hash, was, KEPT_BUSY) != was) {
		count(LOSS_FACTS_FULL);
		return 0;
	}
	if (was)
		count(LOSS_FACTS_EVICTED);
	hello_write(e, s, answered);
	__sync_lock_test_and_set(&e->hash, hash);
	return hash;
}

#endif /* XDPPROBE_HELLOS_H */
