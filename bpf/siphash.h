/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SipHash-1-3 over 64-bit words (Aumasson and Bernstein, "SipHash: a fast
 * short-input PRF", 2012): one round a word, three at the end. Keyed, so that
 * nobody outside can choose flows or names that share a set. The length word of
 * the original is left out: callers make inputs of different length differ in
 * their last word.
 */
#ifndef XDPPROBE_SIPHASH_H
#define XDPPROBE_SIPHASH_H

#include "config.h"

struct siphash {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 rotate_left(__u64 x, int bits)
{
	return (x << bits) | (x >> (64 - bits));
}

static __always_inline void sip_round(struct siphash *h)
{
	h->v0 += h->v1;
	h->v1 = rotate_left(h->v1, 13) ^ h->v0;
	h->v0 = rotate_left(h->v0, 32);
	h->v2 += h->v3;
	h->v3 = rotate_left(h->v3, 16) ^ h->v2;
	h->v0 += h->v3;
	h->v3 = rotate_left(h->v3, 21) ^ h->v0;
	h->v2 += h->v1;
	h->v1 = rotate_left(h->v1, 17) ^ h->v2;
	h->v2 = rotate_left(h->v2, 32);
}

static __always_inline void sip_begin(struct siphash *h)
{
	h->v0 = seed_0 ^ 0x736f6d6570736575ULL;
	h->v1 = seed_1 ^ 0x646f72616e646f6dULL;
	h->v2 = seed_0 ^ 0x6c7967656e657261ULL;
	h->v3 = seed_1 ^ 0x7465646279746573ULL;
}

static __always_inline void sip_word(struct siphash *h, __u64 word)
{
	h->v3 ^= word;
	sip_round(h);
	h->v0 ^= word;
}

static __always_inline __u64 sip_end(struct siphash *h)
{
	h->v2 ^= 0xff;
	sip_round(h);
	sip_round(h);
	sip_round(h);
	return h->v0 ^ h->v1 ^ h->v2 ^ h->v3;
}

/*
 * Add a word to a hash, for a third of what sip_word() costs: two multiplications by
 * secret odd numbers. With one alone, the highest bit would only flip bits that
 * are known, and the next word could undo it whatever the key is.
 */
static __always_inline __u64 keyed_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * (seed_0 | 1);
	hash = (hash ^ hash >> 32) * (seed_1 | 1);
	return hash ^ hash >> 29;
}

#endif /* XDPPROBE_SIPHASH_H */
