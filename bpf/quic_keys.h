/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The keys of a connection's Initials (RFC 9001, 5.2), which anybody can derive who
 * sees the first one: by HKDF (RFC 5869), from the connection id that the client made
 * up for the server. Three HMACs that lead to each other and two more:
 *
 *   HMAC(salt, id) -> HMAC(., "client in") -> HMAC(., "quic key"), iv, hp
 *
 * An HMAC is two runs of SHA-256, each over a block made of the key and then over the
 * message. What the salts' blocks leave behind is constant, and stands here.
 */
#ifndef XDPPROBE_QUIC_KEYS_H
#define XDPPROBE_QUIC_KEYS_H

#include "quic.h"
#include "sha256.h"

const struct quic_salt_states {
	__u32 inner[8];
	__u32 outer[8];
} quic_salts[QUIC_SALTS] = {
	/* RFC 9001, 5.2: 38762cf7f55934b34d179ae6a4c80cadccbb7f0a */
	[QUIC_V1] = { .inner = { 0x2d5eed97, 0x70d71abf, 0x4c9b8799, 0xc4eb86b0,
				 0xe9b16e41, 0xd04322f6, 0xf73a0cb2,
				 0x9e23a203 },
		      .outer = { 0x0d3d813d, 0xcffa6f1f, 0x7dbcb03e, 0x923042dc,
				 0xd15a45f6, 0x55ab0325, 0xf3c23aab,
				 0x37426939 } },
	/* RFC 9369, 3.3.1: 0dede3def700a6db819381be6e269dcbf9bd2ed9 */
	[QUIC_V2] = { .inner = { 0x9f201982, 0x7e771bd0, 0x601a8795, 0x5d7ab60d,
				 0x2ff30d4b, 0x72201a09, 0x6eaa0d12,
				 0xca4e4d6b },
		      .outer = { 0xbb153200, 0x003bcf3a, 0xf99876d1, 0xf698c9aa,
				 0x804d4d49, 0x7a379cfe, 0xc1eb346e,
				 0xadaf299f } },
	/* draft-ietf-quic-v2-01: a707c203a59b47184a1d62ca570406ea7ae3e5d3 */
	[QUIC_V2_DRAFT] = { .inner = { 0xcce4bb6f, 0x0a7c2b78, 0x820e67c0,
				       0x710e9c2f, 0x8c3ccd4a, 0x75f0b741,
				       0xef914e3a, 0xec1dbf74 },
			    .outer = { 0x035d9c64, 0x52292702, 0x721552a0,
				       0xff97e830, 0x43228d88, 0x570728d7,
				       0x6b40b86e, 0xaaf59d0d } },
	/* draft-ietf-quic-tls-29: afbfec289993d24c9e9786f19c6111e04390a899 */
	[QUIC_DRAFT_29] = { .inner = { 0x5a14242c, 0x451b6623, 0x8bda6c0c,
				       0x56a97e94, 0xa7e1ce39, 0x201b10d1,
				       0x424f7ac4, 0x82ada9c5 },
			    .outer = { 0x85562323, 0x55aa3152, 0x4f429776,
				       0x5f4cbb4a, 0x1f3a1465, 0x72c5b0e0,
				       0x0e00e756, 0x23be8427 } },
	/* draft-ietf-quic-tls-23: c3eef712c72ebb5a11a7d2432bb46365bef9f502 */
	[QUIC_DRAFT_23] = { .inner = { 0xc6f38919, 0x78b648b1, 0x4d6df0c2,
				       0xa6136e04, 0xa5ec29ac, 0xc58e0267,
				       0x8a836edc, 0x3bbfb57c },
			    .outer = { 0x4fe93735, 0xbb79fa70, 0xae1fc5ef,
				       0x0e65e811, 0x332ef4d8, 0xc0caa806,
				       0x56e4a622, 0x30febb0e } },
	/* draft-ietf-quic-tls-22: 7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a */
	[QUIC_DRAFT_22] = { .inner = { 0x6af0afa5, 0x323a04fd, 0x19b7309d,
				       0xe5a443f6, 0x56986063, 0x0e196725,
				       0x4a0d91bf, 0x0779975e },
			    .outer = { 0xfdfe1026, 0x789fe625, 0x04d4d234,
				       0x60f2c922, 0x241f7232, 0x05055544,
				       0x5f36f07d, 0xa0d39d5d } },
	/* Google, Q050: 504574efd066fe2f9d945cfcdbd3a7f0d3b56b45 */
	[QUIC_Q050] = { .inner = { 0xb138867e, 0xc07086cd, 0x79ecab3c,
				   0x2977b404, 0x76c36893, 0x34f7be49,
				   0x2a4b7896, 0x3fa8f998 },
			.outer = { 0x8081b7fa, 0x34d6a301, 0x4a2d8719,
				   0xc5137bc9, 0xe2a93d6e, 0xd5ef6a31,
				   0x7037431d, 0xa9fea940 } },
	/* Google, T050: 7ff579e5acd072915580304c43a2367c60488310 */
	[QUIC_T050] = { .inner = { 0x5bd05cf9, 0x8df30516, 0x04ccfca0,
				   0xde954b0a, 0x36b84e61, 0xd1a25c91,
				   0xcdaf8a9c, 0x692b5344 },
			.outer = { 0xd53700df, 0x3172d48b, 0x11a565ac,
				   0x3bca87fd, 0xc35a737e, 0x46f97fea,
				   0xc92d62e1, 0x20e8f480 } },
	/* Google, T051: 7a4edef4e7ccee5fa4506c19124fc8ccda6e033d */
	[QUIC_T051] = { .inner = { 0x5e457787, 0x9e624aaa, 0xb1952599,
				   0x2b0da8c7, 0x05298279, 0x6a079935,
				   0x3c0711b2, 0x44b81437 },
			.outer = { 0x6e069193, 0x4a6c0147, 0xf165a4a5,
				   0xe60682e7, 0xc79f5817, 0xeda51540,
				   0xb516ce7b, 0xa9da726d } },
};

enum quic_label {
	QUIC_LABEL_CLIENT = 0,
	QUIC_LABEL_KEY,
	QUIC_LABEL_NONCE,
	QUIC_LABEL_HEADER,
	QUIC_LABEL_V2 = 3, /* RFC 9369, 3.3.2: the last three, in other words */
	QUIC_LABELS = 7,
};

/*
 * HkdfLabel (RFC 8446, 7.1), HKDF's counter (1), and the padding of SHA-256, which
 * counts the key's block too:
 *
 *  0        2              3            n     n + 1  n + 2        62
 *  +--------+--------------+------------+-----+------+------+-----+------+
 *  | length | label length | "tls13 ".. |  0  |  1   | 0x80 | 0.. | bits |
 *  +--------+--------------+------------+-----+------+------+-----+------+
 */
const __u8
	quic_labels[QUIC_LABELS][SHA256_BLOCK] = {
		[QUIC_LABEL_CLIENT] = { 0,    32,	15,	   't', 'l',
					's',  '1',	'3',	   ' ', 'c',
					'l',  'i',	'e',	   'n', 't',
					' ',  'i',	'n',	   0,	1,
					0x80, [62] = 2, [63] = 160 },
		[QUIC_LABEL_KEY] = { 0,	  16,	14,	  't',	     'l', 's',
				     '1', '3',	' ',	  'q',	     'u', 'i',
				     'c', ' ',	'k',	  'e',	     'y', 0,
				     1,	  0x80, [62] = 2, [63] = 152 },
		[QUIC_LABEL_NONCE] = { 0,    12,       13,	  't', 'l', 's',
				       '1',  '3',      ' ',	  'q', 'u', 'i',
				       'c',  ' ',      'i',	  'v', 0,   1,
				       0x80, [62] = 2, [63] = 144 },
		[QUIC_LABEL_HEADER] = { 0,	   16,	13,  't',  'l',
					's',	   '1', '3', ' ',  'q',
					'u',	   'i', 'c', ' ',  'h',
					'p',	   0,	1,   0x80, [62] = 2,
					[63] = 144 },
		[QUIC_LABEL_V2 +
			QUIC_LABEL_KEY] = { 0,	 16,   16,	 't',	    'l',
					    's', '1',  '3',	 ' ',	    'q',
					    'u', 'i',  'c',	 'v',	    '2',
					    ' ', 'k',  'e',	 'y',	    0,
					    1,	 0x80, [62] = 2, [63] = 168 },
		[QUIC_LABEL_V2 +
			QUIC_LABEL_NONCE] = { 0,    12,	      15,	 't',
					      'l',  's',      '1',	 '3',
					      ' ',  'q',      'u',	 'i',
					      'c',  'v',      '2',	 ' ',
					      'i',  'v',      0,	 1,
					      0x80, [62] = 2, [63] = 160 },
		[QUIC_LABEL_V2 +
			QUIC_LABEL_HEADER] = { 0,    16,       15,	  't',
					       'l',  's',      '1',	  '3',
					       ' ',  'q',      'u',	  'i',
					       'c',  'v',      '2',	  ' ',
					       'h',  'p',      0,	  1,
					       0x80, [62] = 2, [63] = 160 },
	};

static __always_inline void sha256_resume(struct sha256_state *sha,
					  const __u32 *from)
{
	__builtin_memcpy(sha->hash, from, sizeof(sha->hash));
}

/* The end of an HMAC whose message stands in sha.block. Its result, in sha.hash. */
static __always_inline void hmac_end(struct quic_state *q)
{
	struct sha256_state *sha = &q->sha;

	sha256_resume(sha, q->inner);
	sha256_block(sha);
	__builtin_memcpy(sha->block, sha->hash, sizeof(sha->hash));
	__builtin_memset(&sha->block[8], 0, 8 * sizeof(__u32));
	sha->block[8] = 1U << 31;
	sha->block[15] = (SHA256_BLOCK + 32) * 8;
	sha256_resume(sha, q->outer);
	sha256_block(sha);
}

/* The two states behind the key in sha.hash (RFC 2104, 2). */
static __always_inline void hmac_key(struct quic_state *q)
{
	struct sha256_state *sha = &q->sha;

	for (int i = 0; i < 8; i++) {
		sha->block[i] = sha->hash[i] ^ 0x36363636;
		sha->block[8 + i] = 0x36363636;
	}
	sha256_resume(sha, sha256_start);
	sha256_block(sha);
	__builtin_memcpy(q->inner, sha->hash, sizeof(q->inner));
	for (int i = 0; i < 16; i++)
		sha->block[i] ^= 0x36363636 ^ 0x5c5c5c5c;
	sha256_resume(sha, sha256_start);
	sha256_block(sha);
	__builtin_memcpy(q->outer, sha->hash, sizeof(q->outer));
}

/* HKDF-Expand-Label, of no more than one hash's length. Global: verified once. */
__noinline int quic_expand(struct quic_state *q, __u32 label)
{
	const __u8 *from;

	if (!q || label >= QUIC_LABELS)
		return 0;
	from = quic_labels[label];
	for (int i = 0; i < 16; i++)
		q->sha.block[i] = bpf_ntohl(((const __u32 *)from)[i]);
	hmac_end(q);
	return 1;
}

/* What was derived, as bytes. */
static __always_inline void quic_derived(const struct quic_state *q, __u32 *to,
					 int words)
{
	for (int i = 0; i < words; i++)
		to[i] = bpf_htonl(q->sha.hash[i]);
}

/* The connection id as an HMAC's message, in sha.block. */
static __always_inline void quic_id_block(struct quic_state *q)
{
	__u32 length = q->keys.id_length;
	__u8 *b = (__u8 *)q->sha.block;

	__builtin_memset(b, 0, SHA256_BLOCK);
	__builtin_memcpy(b, q->keys.id, QUIC_ID_MAX);
	opaque(length);
	if (length > QUIC_ID_MAX)
		return;
	b[length] = 0x80; /* behind it stand zeros */
	for (int i = 0; i <= QUIC_ID_MAX / 4; i++)
		q->sha.block[i] = bpf_ntohl(q->sha.block[i]);
	q->sha.block[15] = (SHA256_BLOCK + length) * 8;
}

/* Fill quic.keys, of which the id and the salt are there. Global: verified once. */
__noinline int quic_derive(struct quic_state *q)
{
	__u32 salt, second;

	if (!q)
		return 0;
	salt = q->keys.salt;
	if (salt >= QUIC_SALTS)
		return 0;
	__builtin_memcpy(q->inner, quic_salts[salt].inner, sizeof(q->inner));
	__builtin_memcpy(q->outer, quic_salts[salt].outer, sizeof(q->outer));
	quic_id_block(q);
	hmac_end(q);
	hmac_key(q);
	quic_expand(q, QUIC_LABEL_CLIENT);
	hmac_key(q);
	second = quic_second(salt) ? QUIC_LABEL_V2 : 0;
	quic_expand(q, second + QUIC_LABEL_KEY);
	quic_derived(q, q->keys.key, 4);
	quic_expand(q, second + QUIC_LABEL_NONCE);
	quic_derived(q, q->keys.nonce, 3);
	quic_expand(q, second + QUIC_LABEL_HEADER);
	quic_derived(q, q->keys.header, 4);
	return 1;
}

#endif /* XDPPROBE_QUIC_KEYS_H */
