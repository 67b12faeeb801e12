/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SHA-256's compression (FIPS 180-4, 6.2), of blocks that are made up elsewhere.
 * The state stands in a map: the verifier does not follow what is in there.
 */
#ifndef XDPPROBE_SHA256_H
#define XDPPROBE_SHA256_H

#include "scratch.h"

#define SHA256_ROUNDS 64
#define SHA256_BLOCK 64 /* bytes */

/* FIPS 180-4, 4.2.2 */
const __u32 sha256_k[SHA256_ROUNDS] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
	0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
	0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
	0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
	0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
	0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
	0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
	0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
};

/* FIPS 180-4, 5.3.3 */
const __u32 sha256_start[8] = {
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
	0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19
};

/* A word behind itself: shifted right, its lower half is the word rotated. Two
 * instructions a rotation; there is none for it. */
static __always_inline __u64 doubled(__u32 x)
{
	return (__u64)x << 32 | x;
}

static __always_inline __u32 sha256_rotations(__u32 x, int i, int j, int k)
{
	__u64 d = doubled(x);

	return d >> i ^ d >> j ^ d >> k;
}

static __always_inline void sha256_expand(__u32 *w)
{
#pragma clang loop unroll_count(8)
	for (int i = 16; i < SHA256_ROUNDS; i++) {
		__u32 near = w[i - 2], far = w[i - 15];
		__u64 n = doubled(near), f = doubled(far);

		w[i] = w[i - 16] + ((__u32)(f >> 7 ^ f >> 18) ^ far >> 3) +
		       w[i - 7] + ((__u32)(n >> 17 ^ n >> 19) ^ near >> 10);
	}
}

#define SHA256_ROUND(a, b, c, d, e, f, g, h, i)                             \
	do {                                                                \
		h += sha256_rotations(e, 6, 11, 25) + (g ^ (e & (f ^ g))) + \
		     k[i] + w[i];                                           \
		d += h;                                                     \
		h += sha256_rotations(a, 2, 13, 22) +                       \
		     ((a & b) | (c & (a | b)));                             \
	} while (0)

/* Take in sha.block, whose words are in host byte order. Global: verified once. */
__noinline int sha256_block(struct sha256_state *sha)
{
	__u32 a, b, c, d, e, f, g, h;

	if (!sha)
		return 0;
	__builtin_memcpy(sha->schedule, sha->block, sizeof(sha->block));
	sha256_expand(sha->schedule);
	a = sha->hash[0];
	b = sha->hash[1];
	c = sha->hash[2];
	d = sha->hash[3];
	e = sha->hash[4];
	f = sha->hash[5];
	g = sha->hash[6];
	h = sha->hash[7];
#pragma clang loop unroll(disable)
	for (int i = 0; i < SHA256_ROUNDS; i += 8) {
		const __u32 *k = &sha256_k[i], *w = &sha->schedule[i];

		/* Eight at a time bring every word back to its place. */
		SHA256_ROUND(a, b, c, d, e, f, g, h, 0);
		SHA256_ROUND(h, a, b, c, d, e, f, g, 1);
		SHA256_ROUND(g, h, a, b, c, d, e, f, 2);
		SHA256_ROUND(f, g, h, a, b, c, d, e, 3);
		SHA256_ROUND(e, f, g, h, a, b, c, d, 4);
		SHA256_ROUND(d, e, f, g, h, a, b, c, 5);
		SHA256_ROUND(c, d, e, f, g, h, a, b, 6);
		SHA256_ROUND(b, c, d, e, f, g, h, a, 7);
	}
	sha->hash[0] += a;
	sha->hash[1] += b;
	sha->hash[2] += c;
	sha->hash[3] += d;
	sha->hash[4] += e;
	sha->hash[5] += f;
	sha->hash[6] += g;
	sha->hash[7] += h;
	return 1;
}

#endif /* XDPPROBE_SHA256_H */
