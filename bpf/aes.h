/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * AES-128's encryption (FIPS 197), by tables that do a byte's substitution and its
 * part of a column's mixing in one look-up. Words are as bytes lie in memory, least
 * significant first, which both supported machines are.
 */
#ifndef XDPPROBE_AES_H
#define XDPPROBE_AES_H

#include "ctx.h"

#define AES_ROUNDS 10
#define AES_BLOCK 16 /* bytes */

/* FIPS 197, 5.1.1: the S-box, F() of each byte. */
#define AES_BOX(F)                                                             \
	F(0x63), F(0x7c), F(0x77), F(0x7b), F(0xf2), F(0x6b), F(0x6f),         \
		F(0xc5), F(0x30), F(0x01), F(0x67), F(0x2b), F(0xfe), F(0xd7), \
		F(0xab), F(0x76), F(0xca), F(0x82), F(0xc9), F(0x7d), F(0xfa), \
		F(0x59), F(0x47), F(0xf0), F(0xad), F(0xd4), F(0xa2), F(0xaf), \
		F(0x9c), F(0xa4), F(0x72), F(0xc0), F(0xb7), F(0xfd), F(0x93), \
		F(0x26), F(0x36), F(0x3f), F(0xf7), F(0xcc), F(0x34), F(0xa5), \
		F(0xe5), F(0xf1), F(0x71), F(0xd8), F(0x31), F(0x15), F(0x04), \
		F(0xc7), F(0x23), F(0xc3), F(0x18), F(0x96), F(0x05), F(0x9a), \
		F(0x07), F(0x12), F(0x80), F(0xe2), F(0xeb), F(0x27), F(0xb2), \
		F(0x75), F(0x09), F(0x83), F(0x2c), F(0x1a), F(0x1b), F(0x6e), \
		F(0x5a), F(0xa0), F(0x52), F(0x3b), F(0xd6), F(0xb3), F(0x29), \
		F(0xe3), F(0x2f), F(0x84), F(0x53), F(0xd1), F(0x00), F(0xed), \
		F(0x20), F(0xfc), F(0xb1), F(0x5b), F(0x6a), F(0xcb), F(0xbe), \
		F(0x39), F(0x4a), F(0x4c), F(0x58), F(0xcf), F(0xd0), F(0xef), \
		F(0xaa), F(0xfb), F(0x43), F(0x4d), F(0x33), F(0x85), F(0x45), \
		F(0xf9), F(0x02), F(0x7f), F(0x50), F(0x3c), F(0x9f), F(0xa8), \
		F(0x51), F(0xa3), F(0x40), F(0x8f), F(0x92), F(0x9d), F(0x38), \
		F(0xf5), F(0xbc), F(0xb6), F(0xda), F(0x21), F(0x10), F(0xff), \
		F(0xf3), F(0xd2), F(0xcd), F(0x0c), F(0x13), F(0xec), F(0x5f), \
		F(0x97), F(0x44), F(0x17), F(0xc4), F(0xa7), F(0x7e), F(0x3d), \
		F(0x64), F(0x5d), F(0x19), F(0x73), F(0x60), F(0x81), F(0x4f), \
		F(0xdc), F(0x22), F(0x2a), F(0x90), F(0x88), F(0x46), F(0xee), \
		F(0xb8), F(0x14), F(0xde), F(0x5e), F(0x0b), F(0xdb), F(0xe0), \
		F(0x32), F(0x3a), F(0x0a), F(0x49), F(0x06), F(0x24), F(0x5c), \
		F(0xc2), F(0xd3), F(0xac), F(0x62), F(0x91), F(0x95), F(0xe4), \
		F(0x79), F(0xe7), F(0xc8), F(0x37), F(0x6d), F(0x8d), F(0xd5), \
		F(0x4e), F(0xa9), F(0x6c), F(0x56), F(0xf4), F(0xea), F(0x65), \
		F(0x7a), F(0xae), F(0x08), F(0xba), F(0x78), F(0x25), F(0x2e), \
		F(0x1c), F(0xa6), F(0xb4), F(0xc6), F(0xe8), F(0xdd), F(0x74), \
		F(0x1f), F(0x4b), F(0xbd), F(0x8b), F(0x8a), F(0x70), F(0x3e), \
		F(0xb5), F(0x66), F(0x48), F(0x03), F(0xf6), F(0x0e), F(0x61), \
		F(0x35), F(0x57), F(0xb9), F(0x86), F(0xc1), F(0x1d), F(0x9e), \
		F(0xe1), F(0xf8), F(0x98), F(0x11), F(0x69), F(0xd9), F(0x8e), \
		F(0x94), F(0x9b), F(0x1e), F(0x87), F(0xe9), F(0xce), F(0x55), \
		F(0x28), F(0xdf), F(0x8c), F(0xa1), F(0x89), F(0x0d), F(0xbf), \
		F(0xe6), F(0x42), F(0x68), F(0x41), F(0x99), F(0x2d), F(0x0f), \
		F(0xb0), F(0x54), F(0xbb), F(0x16)

/* FIPS 197, 5.1.3: a column's products with 2 and 3, by the byte's row. */
#define TWICE(s) ((__u32)(s) << 1 ^ ((s)&0x80 ? 0x11b : 0))
#define THRICE(s) (TWICE(s) ^ (s))
#define AES_ROW_0(s) (TWICE(s) | (s) << 8 | (s) << 16 | THRICE(s) << 24)
#define AES_ROW_1(s) (THRICE(s) | TWICE(s) << 8 | (s) << 16 | (__u32)(s) << 24)
#define AES_ROW_2(s) ((s) | THRICE(s) << 8 | TWICE(s) << 16 | (__u32)(s) << 24)
#define AES_ROW_3(s) ((s) | (s) << 8 | THRICE(s) << 16 | TWICE(s) << 24)

/* In one struct, so that one register leads to all four. */
const struct aes_tables {
	__u32 row[4][256];
} aes_tables = { { { AES_BOX(AES_ROW_0) },
		   { AES_BOX(AES_ROW_1) },
		   { AES_BOX(AES_ROW_2) },
		   { AES_BOX(AES_ROW_3) } } };

/* Row `row` of the table at an index that is already times 4. Opaque, or clang 14
 * makes a pointer to each row and keeps them all on the stack. */
static __always_inline __u32 aes_at(const struct aes_tables *t, __u32 row,
				    __u32 index)
{
	const __u8 *p = (const __u8 *)t + index;

	opaque(p);
	return *(const __u32 *)(p + row * sizeof(t->row[0]));
}

/* Byte `n` of a word, times 4. */
#define AES_INDEX(word, n) \
	(((n) ? (word) >> ((n) ? 8 * (n)-2 : 0) : (word) << 2) & 0xff << 2)

/* A word of the next state from a byte of each of four. */
static __always_inline __u32 aes_column(const struct aes_tables *t, __u32 a,
					__u32 b, __u32 c, __u32 d)
{
	return aes_at(t, 0, AES_INDEX(a, 0)) ^ aes_at(t, 1, AES_INDEX(b, 1)) ^
	       aes_at(t, 2, AES_INDEX(c, 2)) ^ aes_at(t, 3, AES_INDEX(d, 3));
}

/* The same without mixing: each row has the bare byte somewhere. */
static __always_inline __u32 aes_last(const struct aes_tables *t, __u32 a,
				      __u32 b, __u32 c, __u32 d)
{
	return (aes_at(t, 2, AES_INDEX(a, 0)) & 0xff) ^
	       (aes_at(t, 3, AES_INDEX(b, 1)) & 0xff00) ^
	       (aes_at(t, 0, AES_INDEX(c, 2)) & 0xff0000) ^
	       (aes_at(t, 1, AES_INDEX(d, 3)) & 0xff000000);
}

/* FIPS 197, 5.2: the round keys of `key`. Global: verified once. */
__noinline int aes_expand(struct aes_state *aes)
{
	const struct aes_tables *t = &aes_tables;
	__u32 constant = 1, *k;

	if (!aes)
		return 0;
	opaque(t);
	k = aes->round_key;
	for (int i = 0; i < 4; i++)
		k[i] = aes->key[i];
#pragma clang loop unroll(disable)
	for (int i = 0; i < AES_ROUNDS; i++, k += 4) {
		__u32 w = k[3] >> 8 | k[3] << 24;

		k[4] = k[0] ^ aes_last(t, w, w, w, w) ^ constant;
		k[5] = k[1] ^ k[4];
		k[6] = k[2] ^ k[5];
		k[7] = k[3] ^ k[6];
		constant = TWICE(constant) & 0xff;
	}
	return 1;
}

struct aes_words {
	__u32 a, b, c, d;
};

/* One round (FIPS 197, 5.1), by the round key at `k`. */
static __always_inline struct aes_words
aes_round(const struct aes_tables *t, const __u32 *k, struct aes_words w)
{
	return (struct aes_words){
		.a = aes_column(t, w.a, w.b, w.c, w.d) ^ k[0],
		.b = aes_column(t, w.b, w.c, w.d, w.a) ^ k[1],
		.c = aes_column(t, w.c, w.d, w.a, w.b) ^ k[2],
		.d = aes_column(t, w.d, w.a, w.b, w.c) ^ k[3],
	};
}

/* The rounds from `first` on, to aes.block. */
static __always_inline void aes_rounds(struct aes_state *aes, int first,
				       struct aes_words w)
{
	const struct aes_tables *t = &aes_tables;
	const __u32 *k = aes->round_key;

	opaque(t);
#pragma clang loop unroll(full)
	for (int i = first; i < AES_ROUNDS; i++)
		w = aes_round(t, &k[4 * i], w);
	k += 4 * AES_ROUNDS;
	aes->block[0] = aes_last(t, w.a, w.b, w.c, w.d) ^ k[0];
	aes->block[1] = aes_last(t, w.b, w.c, w.d, w.a) ^ k[1];
	aes->block[2] = aes_last(t, w.c, w.d, w.a, w.b) ^ k[2];
	aes->block[3] = aes_last(t, w.d, w.a, w.b, w.c) ^ k[3];
}

/* aes.block behind the first round key. */
static __always_inline struct aes_words aes_begin(const struct aes_state *aes)
{
	const __u32 *b = aes->block, *k = aes->round_key;

	return (struct aes_words){ b[0] ^ k[0], b[1] ^ k[1], b[2] ^ k[2],
				   b[3] ^ k[3] };
}

/* Encrypt aes.block. */
static __always_inline void aes_encrypt(struct aes_state *aes)
{
	aes_rounds(aes, 1, aes_begin(aes));
}

#define AES_COUNTERS 256 /* blocks that differ in one byte */

/*
 * What blocks have in common that differ in their last byte alone, counted there: it
 * goes into one word of the first round, and through that into each of the second
 * by one byte. aes.block is the first of them, whose last byte is 0.
 */
static __always_inline void aes_count_from(struct aes_state *aes)
{
	const struct aes_tables *t = &aes_tables;
	const __u32 *k = aes->round_key;
	struct aes_words w = aes_begin(aes);

	opaque(t);
	aes->last = w.d >> 24;
	w.d &= 0xffffff;
	w = aes_round(t, &k[4], w);
	aes->first_round = w.a ^ aes_at(t, 3, 0);
	aes->second_round[0] = aes_at(t, 1, AES_INDEX(w.b, 1)) ^
			       aes_at(t, 2, AES_INDEX(w.c, 2)) ^
			       aes_at(t, 3, AES_INDEX(w.d, 3)) ^ k[8];
	aes->second_round[1] = aes_at(t, 0, AES_INDEX(w.b, 0)) ^
			       aes_at(t, 1, AES_INDEX(w.c, 1)) ^
			       aes_at(t, 2, AES_INDEX(w.d, 2)) ^ k[9];
	aes->second_round[2] = aes_at(t, 0, AES_INDEX(w.c, 0)) ^
			       aes_at(t, 1, AES_INDEX(w.d, 1)) ^
			       aes_at(t, 3, AES_INDEX(w.b, 3)) ^ k[10];
	aes->second_round[3] = aes_at(t, 0, AES_INDEX(w.d, 0)) ^
			       aes_at(t, 2, AES_INDEX(w.b, 2)) ^
			       aes_at(t, 3, AES_INDEX(w.c, 3)) ^ k[11];
}

/* Encrypt the one of them that has this last byte. */
static __always_inline void aes_encrypt_counted(struct aes_state *aes,
						__u32 counter)
{
	const struct aes_tables *t = &aes_tables;
	__u32 a;

	opaque(t);
	a = aes->first_round ^
	    aes_at(t, 3, ((counter ^ aes->last) & 0xff) << 2);
	aes_rounds(aes, 3,
		   (struct aes_words){
			   aes->second_round[0] ^ aes_at(t, 0, AES_INDEX(a, 0)),
			   aes->second_round[1] ^ aes_at(t, 3, AES_INDEX(a, 3)),
			   aes->second_round[2] ^ aes_at(t, 2, AES_INDEX(a, 2)),
			   aes->second_round[3] ^ aes_at(t, 1, AES_INDEX(a, 1)),
		   });
}

#endif /* XDPPROBE_AES_H */
