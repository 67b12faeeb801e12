/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Open a QUIC Initial: take header protection off (RFC 9001, 5.4), decrypt in place
 * (AES-128 in counter mode, which is GCM without its tag), and find its CRYPTO frames
 * (RFC 9000, 19). The tag is not verified: docs/design/quic.md.
 */
#ifndef XDPPROBE_QUIC_OPEN_H
#define XDPPROBE_QUIC_OPEN_H

#include "aes.h"
#include "bits.h"
#include "quic.h"

#define QUIC_RESERVED_BITS 0x0c /* RFC 9000, 17.2; 0 once protection is off */
#define QUIC_CIPHER_STEP 4	/* blocks a call */
#define QUIC_FRAME_STEP 8	/* frames, or words of padding, a call */
#define QUIC_FRAMES_MAX (QUIC_CLEAR_MAX / 4)

#define QUIC_PADDING 0x00
#define QUIC_PING 0x01
#define QUIC_ACK 0x02
#define QUIC_ACK_ECN 0x03
#define QUIC_CRYPTO 0x06
#define QUIC_CLOSE 0x1c
#define GOOGLE_PING 0x07
#define GOOGLE_CRYPTO 0x08
#define GOOGLE_OTHER 0xff

_Static_assert(QUIC_CLEAR_MAX / AES_BLOCK + 2 < AES_COUNTERS, "one byte "
							      "counts");

/* Find the packet number's length, and make the cipher's nonce of it. False: the
 * keys are another packet's. Global: verified once. */
__noinline int quic_unprotect(struct scratch *s)
{
	struct quic_state *q;
	__u32 sample, number, size, first;

	if (!s)
		return 0;
	q = &s->quic;
	sample = q->number + QUIC_SAMPLE_AT;
	opaque(sample);
	if (sample > STREAM_MAX - AES_BLOCK)
		return 0;
	__builtin_memcpy(q->aes.block, &s->payload.b[sample], AES_BLOCK);
	__builtin_memcpy(q->aes.key, q->keys.header, sizeof(q->aes.key));
	aes_expand(&q->aes);
	aes_encrypt(&q->aes);
	first = q->head ^ (q->aes.block[0] & 0x0f);
	if (first & QUIC_RESERVED_BITS)
		return 0;
	size = (first & 3) + 1;
	number = be32_at(&s->payload, q->number) ^
		 bpf_ntohl(q->aes.block[0] >> 8 | q->aes.block[1] << 24);
	number >>= 32 - 8 * size;
	q->clear = q->number + size;
	q->clear_end = q->next - QUIC_TAG;
	if (q->clear_end > q->clear + QUIC_CLEAR_MAX)
		q->clear_end = q->clear + QUIC_CLEAR_MAX;
	__builtin_memcpy(q->aes.key, q->keys.key, sizeof(q->aes.key));
	aes_expand(&q->aes);
	q->aes.block[0] = q->keys.nonce[0];
	q->aes.block[1] = q->keys.nonce[1];
	q->aes.block[2] = q->keys.nonce[2] ^ bpf_htonl(number);
	q->aes.block[3] = 0;
	aes_count_from(&q->aes);
	return 1;
}

/* Decrypt a few blocks. What the last one has too much falls on the tag. */
static long quic_decrypt(__u32 i, struct scratch **sp)
{
	struct scratch *s = *sp;
	struct quic_state *q = &s->quic;
	__u32 at = q->clear + i * QUIC_CIPHER_STEP * AES_BLOCK;
	__u32 counter = i * QUIC_CIPHER_STEP + 2; /* 1 is the tag's */
	__u32 *to;

#pragma clang loop unroll(disable)
	for (int k = 0; k < QUIC_CIPHER_STEP; k++) {
		if (at >= q->clear_end)
			return 1;
		aes_encrypt_counted(&q->aes, counter + k);
		opaque(at);
		if (at > STREAM_MAX - AES_BLOCK)
			return 1;
		to = (__u32 *)&s->payload.b[at];
		to[0] ^= q->aes.block[0];
		to[1] ^= q->aes.block[1];
		to[2] ^= q->aes.block[2];
		to[3] ^= q->aes.block[3];
		at += AES_BLOCK;
	}
	return 0;
}

/* Note a CRYPTO frame (RFC 9000, 19.6) whose numbers begin at `at`; behind its end. */
static __always_inline __u32 quic_crypto(struct quic_state *q, struct bytes *m,
					 __u32 at)
{
	__u32 offset = quic_number(m, &at), length = quic_number(m, &at);
	__u32 n = q->pieces, there = q->clear_end - at;

	opaque(n);
	if (n >= QUIC_PIECES) {
		count(LOSS_HELLO_LONG);
		return at + length;
	}
	if (!length || at >= q->clear_end)
		return at + length;
	q->piece[n].offset = offset;
	q->piece[n].at = at;
	q->piece[n].length = length < there ? length : there;
	q->pieces = n + 1;
	if (!offset)
		q->first = n + 1;
	return at + length;
}

/* RFC 9000, 19.3: largest, delay, ranges, first range, then two numbers a range, and
 * three more with ECN. */
static __always_inline __u32 quic_ack(struct quic_state *q, struct bytes *m,
				      __u32 at, __u32 type)
{
	quic_number(m, &at);
	quic_number(m, &at);
	q->fields = 1 + 2 * quic_number(m, &at);
	if (type == QUIC_ACK_ECN)
		q->fields += 3;
	return at;
}

/* RFC 9000, 19.19: error, frame type, length of the reason, reason. */
static __always_inline __u32 quic_close(struct bytes *m, __u32 at)
{
	__u32 length;

	quic_number(m, &at);
	quic_number(m, &at);
	length = quic_number(m, &at);
	return at + length;
}

/* Behind the frame at `at`; 0: no frame of an Initial (RFC 9000, 12.4). */
static __always_inline __u32 quic_frame(struct quic_state *q, struct bytes *m,
					__u32 at)
{
	__u32 rest = q->clear_end - at, type;
	__u64 word = word_at(m, at);

	type = word & 0xff;

	if (q->fields) {
		q->fields--;
		return at + (1 << (type >> 6));
	}
	if (type == QUIC_PADDING) {
		__u32 zeros = bits_below(word) / 8;

		return at + (zeros < rest ? zeros : rest);
	}
	if (quic_google(q->salt))
		type = type == GOOGLE_CRYPTO ? QUIC_CRYPTO :
		       type == GOOGLE_PING   ? QUIC_PING :
					       GOOGLE_OTHER;
	switch (type) {
	case QUIC_PING:
		return at + 1;
	case QUIC_ACK:
	case QUIC_ACK_ECN:
		return quic_ack(q, m, at + 1, type);
	case QUIC_CRYPTO:
		return quic_crypto(q, m, at + 1);
	case QUIC_CLOSE:
		return quic_close(m, at + 1);
	default:
		return 0;
	}
}

/* quic.result: 1 once the packet's end is reached, else 0. */
static long quic_walk(__u32 i, struct scratch **sp)
{
	struct scratch *s = *sp;
	volatile struct quic_state *q = &s->quic;

#pragma clang loop unroll(disable)
	for (int k = 0; k < QUIC_FRAME_STEP; k++) {
		__u32 at = q->at, end = q->clear_end;

		if (at >= end) {
			q->result = !q->fields;
			return 1;
		}
		at = quic_frame(&s->quic, &s->payload, at);
		if (!at || at > q->next - QUIC_TAG)
			return 1;
		q->at = at;
	}
	return 0;
}

/* The packet at hand as quic.keys open it: its CRYPTO frames, in quic.piece. False: it
 * is none of theirs. Global: verified once. */
__noinline int quic_open(struct scratch *s)
{
	struct quic_state *q;

	if (!s)
		return 0;
	opaque(s);
	q = &s->quic;
	q->pieces = q->first = q->fields = q->result = 0;
	if (!quic_unprotect(s))
		return 0;
	q->at = q->clear;
	if (q->clear >= q->clear_end)
		return 0;
	bpf_loop(QUIC_CLEAR_MAX / AES_BLOCK / QUIC_CIPHER_STEP + 1,
		 quic_decrypt, &s, 0);
	bpf_loop(QUIC_FRAMES_MAX / QUIC_FRAME_STEP, quic_walk, &s, 0);
	return q->result;
}

#endif /* XDPPROBE_QUIC_OPEN_H */
