/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Questions to a word of 64 bits, or of eight bytes, without a loop or a branch.
 */
#ifndef XDPPROBE_BITS_H
#define XDPPROBE_BITS_H

#include "ctx.h"

#define ONES 0x0101010101010101ULL
#define HIGHS 0x8080808080808080ULL

/* The zero bytes of a word, as their highest bits (the lowest one is exact). */
static __always_inline __u64 zero_bytes(__u64 word)
{
	return (word - ONES) & ~word & HIGHS;
}

/* The bytes that are `value`, as their highest bits; each is exact. */
static __always_inline __u64 bytes_like(__u64 word, __u8 value)
{
	word ^= value * ONES;
	return ~(((word & ~HIGHS) + ~HIGHS) | word) & HIGHS;
}

/* The number of bytes below the lowest one marked. */
static __always_inline __u32 first_marked(__u64 marks)
{
	marks >>= 7;
	return (((marks - 1) & ~marks & ONES) * ONES) >> 56;
}

/* The number of bits below the lowest one that is set; 64 where none is. */
static __always_inline __u32 bits_below(__u64 word)
{
	word = ~word & (word - 1);
	word -= word >> 1 & 0x5555555555555555ULL;
	word = (word & 0x3333333333333333ULL) +
	       (word >> 2 & 0x3333333333333333ULL);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return word * ONES >> 56;
}

/* All ones of a negative number, else 0. Neither clang's knowledge of what x is
 * nor of what becomes of the mask shall turn this into a branch. */
static __always_inline __s64 sign_mask(__s64 x)
{
	opaque(x);
	x >>= 63;
	opaque(x);
	return x;
}

/* 1 of a negative number, else 0. */
static __always_inline __u64 sign_bit(__s64 x)
{
	__u64 bits = x;

	opaque(bits);
	bits >>= 63;
	opaque(bits);
	return bits;
}

/* 1 where x is 0, else 0. */
static __always_inline __u64 zero_bit(__u64 x)
{
	__u64 negative = -x;

	opaque(negative);
	return sign_bit(x | negative) ^ 1;
}

#endif /* XDPPROBE_BITS_H */
