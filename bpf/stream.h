/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The hello assembler: the first bytes of a stream, put at their offset as they
 * arrive, in any order, duplicated and overlapping; of two versions of a byte
 * the first one seen stays. What counts is the run of bytes from offset 0 on.
 */
#ifndef XDPPROBE_STREAM_H
#define XDPPROBE_STREAM_H

#include <stddef.h>

#include "flow.h"
#include "http.h"
#include "lock.h"

#define HELLO_WAYS 4
#define HELLO_PATIENCE 8 /* this part of the time-out, where slots are short */

/* What may be spent on one hello, in units of some 40 ns: reading 64 bytes, or
 * taking a record off. A sender who wants to be dear gets no further. */
#define HELLO_WORK_MAX (1 << 14)
#define WORK_READ 8
#define WORK_REBASE 256
#define WORK_OPEN 256 /* a datagram's pieces */

#define FULL_COVER (~0ULL)

/* Bytes of a word whose bits are set, as a mask: bit i is byte i. */
static __always_inline __u64 byte_mask(__u64 bits)
{
	/* Spread the bits so that bit i stands in byte i, at position i; then
	 * make every byte that is not 0 all ones. */
	__u64 spread = (bits & 0xff) * ONES & 0x8040201008040201ULL;
	__u64 high = ((spread + 0x7f7f7f7f7f7f7f7fULL) | spread) & HIGHS;

	return (high >> 7) * 0xff;
}

static __always_inline bool hello_lock(struct hello_slot *h)
{
	return word_take(&h->busy);
}

static __always_inline void hello_unlock(struct hello_slot *h)
{
	word_release(&h->busy);
}

/* Clear CLEAR_STEP words a call: a call by bpf_loop costs as much as eight. */
#define CLEAR_STEP 16

static long hello_clear(__u32 i, struct hello_slot **h)
{
	__u32 at = i * CLEAR_STEP;

	opaque(at);
	if (at > STREAM_BLOCKS - CLEAR_STEP)
		return 1;
	__builtin_memset(&(*h)->cover[at], 0, CLEAR_STEP * sizeof(__u64));
	return 0;
}

_Static_assert(STREAM_BLOCKS % CLEAR_STEP == 0, "cleared to the end");

/* What was put together so far is of another hello. */
static __always_inline void hello_restart(struct hello_slot *h)
{
	if (!h->work)
		return;
	h->contiguous = h->due = 0;
	bpf_loop(STREAM_BLOCKS / CLEAR_STEP, hello_clear, &h, 0);
}

/* The slot's hello is done with, whichever way. */
static __always_inline void hello_release(struct hello_slot *h)
{
	h->owner = 0;
	hello_unlock(h);
}

static __always_inline struct hello_slot *hello_way(__u64 owner, __u32 i)
{
	__u32 key = ((__u32)owner + i) & hello_mask;

	return bpf_map_lookup_elem(&hello_slots, &key);
}

#define RANK_OLD 0x80000000U /* and more: older than any is waited for */

/* How willingly a slot is given up; 0: not at all. Anybody can send a SYN and
 * the start of a hello under false addresses, but gets no answer to them: such
 * hellos give way to those of flows that were answered, and then those do that
 * take longer than a real one; so do they to each other, for a QUIC client's hello
 * has no answer before it is whole. */
static __always_inline __u32 hello_rank(const struct hello_slot *h, __u32 now,
					bool answered)
{
	__u32 age;
	bool late;

	if (!h->owner)
		return 0xffffffffU;
	age = age_of(now, h->born);
	if (age > hello_timeout)
		return RANK_OLD | age;
	if (!h->synced)
		return 0x40000000U | age;
	late = age > hello_timeout / HELLO_PATIENCE;
	if (!answered)
		return !h->answered && late ? age : 0;
	if (!h->answered)
		return 0x20000000U | age;
	return late ? age : 0;
}

/* The owner's slot, locked; NULL where it has none, or another CPU does not let
 * it go (*busy). */
static __always_inline struct hello_slot *hello_find(__u64 owner, bool *busy)
{
	for (__u32 i = 0; i < HELLO_WAYS; i++) {
		struct hello_slot *h = hello_way(owner, i);

		if (!h || h->owner != owner)
			continue;
		if (!hello_lock(h)) {
			count(LOSS_HELLO_BUSY);
			*busy = true;
			return NULL;
		}
		if (h->owner == owner)
			return h;
		hello_unlock(h);
	}
	return NULL;
}

/* A slot for a new owner, locked and empty; NULL where all are in use. `keep`: for what
 * is not known to be of a hello, which pushes out nothing. */
static __always_inline struct hello_slot *hello_claim(__u64 owner, __u32 now,
						      bool answered, bool keep)
{
	__u32 rank = keep ? RANK_OLD - 1 : 0;
	struct hello_slot *best = NULL;
	__u64 was = 0;

	for (__u32 i = 0; i < HELLO_WAYS; i++) {
		struct hello_slot *h = hello_way(owner, i);
		__u32 r;

		if (!h)
			continue;
		r = hello_rank(h, now, answered);
		opaque(r);
		if (r > rank) {
			rank = r;
			best = h;
			was = h->owner;
		}
	}
	if (!best) {
		if (!keep)
			count(LOSS_HELLO_FULL);
		return NULL;
	}
	if (!hello_lock(best)) {
		count(LOSS_HELLO_BUSY);
		return NULL;
	}
	/* Another CPU may have taken it meanwhile, for a hello of its own. */
	if (best->owner != was) {
		hello_unlock(best);
		count(LOSS_HELLO_BUSY);
		return NULL;
	}
	if (best->owner && !best->kept)
		count(LOSS_HELLO_AGED);
	best->owner = owner;
	best->born = now;
	best->contiguous = 0;
	best->due = best->work = best->named = 0;
	best->message = best->kept = best->heard = 0;
	best->keys.salt = 0;
	bpf_loop(STREAM_BLOCKS / CLEAR_STEP, hello_clear, &best, 0);
	return best;
}

struct merge {
	struct hello_slot *to;
	struct scratch *from;
	__u32 offset; /* in the stream, of the piece's first byte */
	__u32 stop;   /* behind its last */
	__u32 skip;   /* bytes of the payload before `offset` */
	__u32 block;
	__u32 news; /* it brought bytes that were missing */
};

/* Bits of the bytes [low, high) of a block; 0 <= low < high <= 64. */
static __always_inline __u64 span_bits(__u32 low, __u32 high)
{
	return FULL_COVER << low & FULL_COVER >> (64 - high);
}

/* One block of 64 bytes: copy what is new, mark it. */
static long merge_block(__u32 i, struct merge *m)
{
	__u32 block = m->block + i, start = block * STREAM_BLOCK;
	__u32 low = m->offset > start ? m->offset - start : 0;
	__u32 high = m->stop - start;
	__u32 source = GUARD + m->skip + start - m->offset;
	struct hello_slot *h = m->to;
	const __u64 *from;
	__u64 fresh, *to;

	if (block >= STREAM_BLOCKS || start >= m->stop)
		return 1;
	if (high > STREAM_BLOCK)
		high = STREAM_BLOCK;
	opaque(block);
	if (block >= STREAM_BLOCKS)
		return 1;
	fresh = span_bits(low & 63, high) & ~h->cover[block];
	h->cover[block] |= fresh;
	m->news |= fresh != 0;
	opaque(source);
	if (source > GUARD + STREAM_MAX)
		return 1;
	to = (__u64 *)&h->data.b[block * STREAM_BLOCK];
	opaque(to);
	from = (void *)m->from + offsetof(struct scratch, guard_before) +
	       source;
	opaque(from);
	for (int w = 0; w < 8; w++) {
		__u64 mask = byte_mask(fresh >> w * 8);

		to[w] = (to[w] & ~mask) | (from[w] & mask);
	}
	return 0;
}

/* Extend the run from offset 0 over what is now there. */
static long extend_run(__u32 i, struct hello_slot **hp)
{
	struct hello_slot *h = *hp;
	__u32 block = h->contiguous / STREAM_BLOCK;
	__u64 holes;

	if (block >= STREAM_BLOCKS)
		return 1;
	holes = ~h->cover[block];
	if (!holes) {
		h->contiguous = (block + 1) * STREAM_BLOCK;
		return 0;
	}
	h->contiguous = block * STREAM_BLOCK + bits_below(holes);
	return 1;
}

struct shift {
	struct hello_slot *h;
	__u32 by;
};

/* Move a block up by `by` bytes, highest block first: a byte of a lower offset
 * turned up in a stream whose start was not seen. */
static long shift_block(__u32 i, struct shift *s)
{
	__u32 block = STREAM_BLOCKS - 1 - i, low;
	__u32 whole = s->by / STREAM_BLOCK, rest = s->by % STREAM_BLOCK;
	struct hello_slot *h = s->h;
	__u64 cover = 0, *to;

	opaque(block);
	if (block >= STREAM_BLOCKS)
		return 1;
	low = block - whole;
	if (low < STREAM_BLOCKS)
		cover = h->cover[low] << rest;
	low--;
	if (rest && low < STREAM_BLOCKS)
		cover |= h->cover[low] >> (64 - rest);
	h->cover[block] = cover;
	to = (__u64 *)&h->data.b[block * STREAM_BLOCK];
	opaque(to);
	for (int w = 7; w >= 0; w--) {
		__u32 from = block * STREAM_BLOCK + w * 8 - s->by;
		__u32 below = 0 - from;

		opaque(from);
		if (from <= STREAM_MAX - 8)
			to[w] = *(__u64 *)&h->data.b[from];
		else if (below < 8) /* some of the word's bytes are new */
			to[w] = *(__u64 *)&h->data.b[0] << below * 8;
	}
	return 0;
}

/* Bytes of the payload, and where they belong. */
struct piece {
	__u32 at; /* in the payload */
	__u32 length;
	__u32 sequence; /* of the first, as the slot's base is counted */
};

/* Put a piece where it belongs. True: the run from 0 grew; *news: bytes that were
 * missing came. */
static __always_inline bool hello_merge(struct hello_slot *h, struct scratch *s,
					const struct piece *p, bool *news)
{
	struct merge m = { .to = h, .from = s, .skip = p->at };
	__s32 offset = p->sequence - h->base;
	__u32 stop, length = p->length, before = h->contiguous;

	if (offset < 0 && !h->synced && -offset < STREAM_MAX) {
		struct shift by = { .h = h, .by = -offset };

		bpf_loop(STREAM_BLOCKS, shift_block, &by, 0);
		h->base = p->sequence;
		h->contiguous = before = 0;
		h->due = 0;
		h->work += WORK_REBASE;
		offset = 0;
	}
	if (offset < 0) {
		if ((__u32)-offset >= length)
			return false;
		m.skip -= offset;
		length += offset;
		offset = 0;
	}
	stop = offset + length;
	if (stop > STREAM_MAX) {
		count(LOSS_HELLO_LONG);
		stop = STREAM_MAX;
	}
	if (offset >= STREAM_MAX)
		return false;
	m.offset = offset;
	m.stop = stop;
	m.block = m.offset / STREAM_BLOCK;
	bpf_loop(STREAM_BLOCKS, merge_block, &m, 0);
	bpf_loop(STREAM_BLOCKS, extend_run, &h, 0);
	*news = m.news;
	return h->contiguous > before;
}

#endif /* XDPPROBE_STREAM_H */
