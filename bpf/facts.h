/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a ClientHello says beyond the name: noted while its extensions are walked
 * over, and written into scratch.facts once it is known to be whole.
 *
 * supported_versions (RFC 8446, 4.2.1)  signature_algorithms (RFC 8446, 4.2.3)
 *  0          1                          0          2
 *  +----------+---------+--------        +----------+--------+--------
 *  | list len | version | ...            | list len | scheme | ...
 *  +----------+---------+--------        +----------+--------+--------
 * ALPN (RFC 7301, 3.1)                  encrypted_client_hello (RFC 9849, 5)
 *  0          2     3                    0
 *  +----------+-----+----------+----     +------+--------
 *  | list len | len | protocol | ...     | type | ...       0: outer, 1: inner
 *  +----------+-----+----------+----     +------+--------
 */
#ifndef XDPPROBE_FACTS_H
#define XDPPROBE_FACTS_H

#include "bits.h"
#include "counters.h"
#include "outcome.h"
#include "siphash.h"

#define TLS_EXTENSION_SERVER_NAME 0
#define TLS_EXTENSION_SIGNATURES 13
#define TLS_EXTENSION_ALPN 16
#define TLS_EXTENSION_VERSIONS 43
#define TLS_EXTENSION_ECH 0xfe0d
#define TLS_EXTENSION_ESNI 0xffce /* draft-ietf-tls-esni-02 */
#define ECH_OUTER 0
#define VERSIONS_MAX 16
#define VERSION_DTLS 0xfe00 /* RFC 6347, 4.1: 254.255, 254.253, 254.252.. */
#define LIST_SHORT 64	    /* bytes */

/* RFC 8701, 2 and 3: 0x0a0a, 0x1a1a, ..., 0xfafa, meant to be ignored. */
static __always_inline bool grease(__u32 number)
{
	return (number & 0x0f0f) == 0x0a0a && number >> 8 == (number & 0xff);
}

/* Four numbers of a list, of which those of GREASE all become 0x0a0a. */
static __always_inline __u64 grease_alike(__u64 word)
{
	__u64 other = word ^ 0x0a0a0a0a0a0a0a0aULL, mask;

	/* Lanes that are 0 are GREASE: both low nibbles, and the bytes alike. */
	other = (other & 0x0f0f0f0f0f0f0f0fULL) |
		((other ^ other >> 8) & 0x00ff00ff00ff00ffULL);
	mask = ~(other + 0x7fff7fff7fff7fffULL) & 0x8000800080008000ULL;
	mask = (mask >> 15) * 0xffff;
	return (word & ~mask) | (mask & 0x0a0a0a0a0a0a0a0aULL);
}

/* Extensions whose data are read; all others are only numbers. */
#define PARTS_LOW                                                         \
	(1ULL << TLS_EXTENSION_SERVER_NAME | 1ULL << TLS_EXTENSION_ALPN | \
	 1ULL << TLS_EXTENSION_SIGNATURES | 1ULL << TLS_EXTENSION_VERSIONS)

static __always_inline bool facts_wanted(__u32 type)
{
	if (type < 64)
		return PARTS_LOW >> type & 1;
	return type == TLS_EXTENSION_ECH || type == TLS_EXTENSION_ESNI;
}

static __always_inline __u32 hello_part(__u32 type)
{
	switch (type) {
	case TLS_EXTENSION_SERVER_NAME:
		return PART_NAME;
	case TLS_EXTENSION_ALPN:
		return PART_ALPN;
	case TLS_EXTENSION_SIGNATURES:
		return PART_SIGNATURES;
	case TLS_EXTENSION_VERSIONS:
		return PART_VERSIONS;
	case TLS_EXTENSION_ECH:
		return PART_ECH;
	default:
		return PART_ESNI;
	}
}

/* A message begins at `message`: nothing is known of it. */
static __always_inline void facts_begin(struct scratch *s, __u32 message)
{
	s->facts.whole = s->facts.walked = 0;
	s->facts.tls_flags = 0;
	__builtin_memset(&s->hello, 0, sizeof(s->hello));
	s->hello.message = message;
}

/* Where the data of such an extension are. The first of its kind counts. Global:
 * verified once, and not for each extension that one may be. */
__noinline int facts_part(struct scratch *s, __u32 type, __u32 at, __u32 length)
{
	__u32 part = hello_part(type);

	if (!s)
		return 0;
	opaque(part);
	if (part >= PART_MAX || s->hello.body[part])
		return 0;
	s->hello.body[part] = at;
	s->hello.length[part] = length;
	return 1;
}

static __always_inline void facts_extension(struct scratch *s, __u32 type,
					    __u32 at, __u32 length)
{
	__u32 n;

	if (grease(type))
		return;
	n = s->hello.extensions;
	s->hello.extensions = n + 1;
	/* A sum is the same in any order: browsers shuffle them each time. */
	s->hello.sum += keyed_mix(seed_0, type);
	opaque(n);
	if (n < HELLO_EXTENSIONS)
		((__u16 *)s->facts.entry.extension)[n] = bpf_htons(type);
	if (facts_wanted(type))
		facts_part(s, type, at, length);
}

/* A list of `length` bytes at `at` to the words at `to`; returns its keyed hash. Most
 * are short, and copied without asking the kernel to. */
static __always_inline __u64 list_take(const struct bytes *m, __u32 at,
				       __u32 length, __u64 *to, __u32 words)
{
	__u32 last = length / 8, rest = length % 8;
	__u64 hash = seed_0;
	const __u64 *from;

	opaque(at);
	opaque(length);
	if (!length || length > words * 8 || at > STREAM_MAX)
		return 0;
	if (length <= LIST_SHORT && at <= STREAM_MAX - LIST_SHORT) {
		opaque(at);
		if (at > STREAM_MAX - LIST_SHORT)
			return 0;
		from = (const __u64 *)&m->b[at];
		/* What follows the list may be the server's name. */
		for (__u32 i = 0; i < LIST_SHORT / 8; i++)
			to[i] = from[i] & sign_mask((__s64)i - 1 - last);
	} else {
		if (!copy_bounded(to, &m->b[at], length, words * 8))
			return 0;
	}
	opaque(last);
	if (last < words)
		to[last] &= (1ULL << 8 * rest) - 1;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < words; i++) {
		if (i * 8 >= length)
			break;
		to[i] = grease_alike(to[i]);
		hash = keyed_mix(hash, to[i]);
	}
	return hash;
}

/* Both global: verified once, and not again for each length of what comes before. */
__noinline int facts_cipher_list(struct bytes *m, struct scratch *s, __u32 at,
				 __u32 length)
{

	if (!m || !s)
		return 0;
	s->facts.hash[0] = list_take(m, at, length, s->facts.entry.cipher,
				     HELLO_CIPHERS / 4);
	return 1;
}

__noinline int facts_signature_list(struct bytes *m, struct scratch *s,
				    __u32 at, __u32 length)
{

	if (!m || !s)
		return 0;
	s->facts.hash[1] = list_take(m, at, length, s->facts.entry.signature,
				     HELLO_SIGNATURES / 4);
	return 1;
}

/* The higher, the later: DTLS counts its versions down. */
static __always_inline __u32 version_rank(__u32 version)
{
	return (version & 0xff00) == VERSION_DTLS ? version ^ 0xff : version;
}

/* The highest version that the message offers. What is compared stands in the map:
 * in registers the verifier would walk every order. Global: verified once. */
__noinline int facts_version(struct bytes *m, struct scratch *s)
{
	volatile __u32 *at;
	volatile __u16 *best;
	__u32 length;

	if (!m || !s)
		return 0;
	at = &s->hello.at;
	best = &s->facts.entry.version;
	*at = s->hello.body[PART_VERSIONS];
	*best = 0;
	length = s->hello.length[PART_VERSIONS];
	if (length && byte_at(m, *at) < length)
		length = byte_at(m, *at) + 1;
	*at += 1;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < VERSIONS_MAX; i++, *at += 2) {
		__u32 version;

		if (3 + i * 2 > length)
			break;
		version = be16_at(m, *at);
		if (version_rank(version) > version_rank(*best) &&
		    !grease(version))
			*best = version;
	}
	if (!*best) /* TLS 1.2 and before, or nothing but GREASE */
		*best = be16_at(m, s->hello.message + 4);
	return 1;
}

/* The first protocol of ALPN, as far as it is kept; returns its length. Global. */
__noinline int facts_alpn(struct bytes *m, struct scratch *s)
{
	__u32 at, length, list;

	if (!m || !s)
		return 0;
	__builtin_memset(s->facts.entry.alpn, 0, HELLO_ALPN);
	at = s->hello.body[PART_ALPN];
	list = s->hello.length[PART_ALPN];
	if (list < 4 || at > STREAM_MAX - 3)
		return 0;
	length = byte_at(m, at + 2);
	if (length + 3 > list)
		return 0;
	for (__u32 i = 0; i < HELLO_ALPN / 8; i++) {
		__u32 rest = length - i * 8;
		__u64 word;

		if (i * 8 >= length)
			break;
		word = word_at(m, at + 3 + i * 8);
		if (rest < 8)
			word &= ~0ULL >> (64 - 8 * rest);
		((__u64 *)s->facts.entry.alpn)[i] = word;
	}
	return length;
}

/* RFC 9849, 5: an inner hello, which a frontend hands on decrypted, has its true
 * name. The older way has no name in the clear at all. */
static __always_inline __u8 facts_ech(const struct hello_state *h,
				      const struct bytes *m, __u32 end)
{
	__u32 at = h->body[PART_ECH];

	if (h->body[PART_ESNI] && !h->body[PART_NAME])
		return TLS_ECH;
	if (!at || at >= end || !h->length[PART_ECH] ||
	    byte_at(m, at) != ECH_OUTER)
		return 0;
	return TLS_ECH_GREASE;
}

/* Bytes of the list of signature schemes. */
static __always_inline __u32 facts_signatures(const struct hello_state *h,
					      const struct bytes *m)
{
	__u32 at = h->body[PART_SIGNATURES];
	__u32 length = h->length[PART_SIGNATURES], list;

	if (!at || length < 4)
		return 0;
	list = be16_at(m, at);
	return (list < length - 2 ? list : length - 2) & ~1U;
}

/* The message, whose extensions were walked over to the last, is there as a whole.
 * Global: verified once. */
__noinline int facts_note(struct bytes *m, struct scratch *s, __u32 end)
{
	struct hello_entry *entry;
	__u32 schemes;

	if (!m || !s)
		return 0;
	s->facts.tls_flags = facts_ech(&s->hello, m, end);
	s->facts.walked = 1;
	schemes = facts_signatures(&s->hello, m);
	if (s->hello.ciphers_length > HELLO_CIPHERS * 2 ||
	    s->hello.extensions > HELLO_EXTENSIONS ||
	    schemes > HELLO_SIGNATURES * 2) {
		count(LOSS_FACTS);
		return 0;
	}
	entry = &s->facts.entry;
	facts_version(m, s);
	entry->named = !!s->hello.body[PART_NAME];
	entry->ciphers = s->hello.ciphers_length / 2;
	entry->signatures = schemes / 2;
	entry->extensions = s->hello.extensions;
	entry->alpn_length = facts_alpn(m, s);
	entry->reserved = 0;
	facts_cipher_list(m, s, s->hello.ciphers, s->hello.ciphers_length);
	facts_signature_list(m, s, s->hello.body[PART_SIGNATURES] + 2, schemes);
	s->facts.whole = 1;
	return 1;
}

#endif /* XDPPROBE_FACTS_H */
