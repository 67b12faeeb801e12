/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Questions to a word of 64 bits, or of eight bytes, without a loop.
 */
#ifndef XDPPROBE_BITS_H
#define XDPPROBE_BITS_H

#include <linux/types.h>

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

#endif /* XDPPROBE_BITS_H */
