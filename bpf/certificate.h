/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host names in an X.509 certificate, and its subject's common name and unit (RFC
 * 5280, 4.1, 4.1.2.4 and 4.2.1.6), in DER (X.690):
 *
 *   Certificate: SEQUENCE { tbsCertificate, algorithm, signature }
 *   tbsCertificate: SEQUENCE { [0] version, INTEGER serial, SEQUENCE algorithm,
 *       SEQUENCE issuer, SEQUENCE validity, SEQUENCE subject, SEQUENCE key,
 *       [1] and [2] unique identifiers, [3] { SEQUENCE extensions } }
 *   an attribute of subject: SET { SEQUENCE { OID, string } }
 *   an extension: SEQUENCE { OID, BOOLEAN critical, OCTET STRING { value } }
 *   subjectAltName: SEQUENCE of names, of which [2] is a dNSName
 *
 * The elements up to the extensions are taken one after the other; within subject
 * and extensions, sets and sequences are opened as they come, and what an identifier
 * says is true of the next string. Nothing is read behind the end of the element
 * that all of it stands in.
 */
#ifndef XDPPROBE_CERTIFICATE_H
#define XDPPROBE_CERTIFICATE_H

#include "name.h"
#include "outcome.h"

#define DER_BOOLEAN 0x01
#define DER_INTEGER 0x02
#define DER_OCTETS 0x04
#define DER_OID 0x06
#define DER_SEQUENCE 0x30
#define DER_SET 0x31
#define DER_VERSION 0xa0	 /* [0] of tbsCertificate */
#define DER_UNIQUE_IDS 0x81	 /* [1] and [2] of it, as they come in DER */
#define DER_EXTENSIONS 0xa3	 /* [3] of it */
#define DER_DNS_NAME 0x82	 /* [2] of GeneralName */
#define OID_COMMON_NAME 0x550403 /* 2.5.4.3 */
#define OID_UNIT 0x55040b	 /* 2.5.4.11, organizationalUnitName */
#define OID_SUBJECT_ALT 0x551d11 /* 2.5.29.17 */

#define DER_STEP 16 /* elements a call by bpf_loop */
#define SUBJECT_STEPS 8
#define EXTENSIONS_STEPS 16
#define ALTERNATIVES_STEPS 64 /* 1024 names are looked at */

/*
 * The element at the cursor, which must end where the cursor's does or before: tag
 * and content to scratch.der. Lengths of four bytes and more, and indefinite ones,
 * which DER does not have, count as broken. Returns whether there is one. Global:
 * verified once.
 */
__noinline int der_take(struct scratch *s, struct bytes *m)
{
	__u32 at, length, head = 2;

	if (!s || !m)
		return 0;
	at = s->der.at;
	if (at > STREAM_MAX || at + head > s->der.stop)
		return 0;
	length = byte_at(m, at + 1);
	if (length == 0x81) {
		length = byte_at(m, at + 2);
		head = 3;
	} else if (length == 0x82) {
		length = be16_at(m, at + 2);
		head = 4;
	} else if (length >= 0x80) {
		return 0;
	}
	if (at + head + length > s->der.stop)
		return 0;
	s->der.tag = byte_at(m, at);
	s->der.from = at + head;
	s->der.to = at + head + length;
	return 1;
}

static __always_inline bool der_is(struct scratch *s, struct bytes *m,
				   __u32 tag)
{
	return der_take(s, m) && s->der.tag == tag;
}

static __always_inline void der_skip(struct scratch *s)
{
	s->der.at = s->der.to;
}

static __always_inline void der_enter(struct scratch *s)
{
	s->der.at = s->der.from;
	s->der.stop = s->der.to;
}

static __always_inline void der_set(struct scratch *s, __u32 at, __u32 stop)
{
	s->der.at = at;
	s->der.stop = stop;
	s->der.wanted = 0;
}

/* Is the identifier just taken this one of three bytes? */
static __always_inline bool der_oid(const struct scratch *s,
				    const struct bytes *m, __u32 oid)
{
	return s->der.to - s->der.from == 3 && be24_at(m, s->der.from) == oid;
}

/* Global: verified once. Returns whether the elements before the extensions are there,
 * in their order; the cursor is then before the extensions, or at the end. */
__noinline int certificate_fields(struct scratch *s, struct bytes *m)
{
	if (!s || !m)
		return 0;
	if (!der_is(s, m, DER_SEQUENCE))
		return 0;
	der_enter(s);
	if (!der_is(s, m, DER_SEQUENCE))
		return 0;
	der_enter(s);
	if (der_is(s, m, DER_VERSION))
		der_skip(s);
	if (!der_is(s, m, DER_INTEGER))
		return 0;
	der_skip(s);
#pragma clang loop unroll(disable)
	for (int i = 0; i < 5; i++) { /* algorithm to key */
		if (!der_is(s, m, DER_SEQUENCE))
			return 0;
		if (i == 3) {
			s->certificate.subject = s->der.from;
			s->certificate.subject_stop = s->der.to;
		}
		der_skip(s);
	}
#pragma clang loop unroll(disable)
	for (int i = 0; i < 2; i++)
		if (der_take(s, m) && (s->der.tag | 3) == (DER_UNIQUE_IDS | 3))
			der_skip(s);
	return 1;
}

struct certificate_walk {
	struct scratch *s;
	struct bytes *m;
};

enum { WANTED_COMMON = 1, WANTED_UNIT };

/* Which attribute of the subject comes next, if the element just taken says that. */
static __always_inline __u32 subject_wanted(const struct scratch *s,
					    const struct bytes *m)
{
	if (s->der.tag != DER_OID)
		return 0;
	if (der_oid(s, m, OID_COMMON_NAME))
		return WANTED_COMMON;
	return der_oid(s, m, OID_UNIT) ? WANTED_UNIT : 0;
}

/* The next element of the subject. 0: that was all. Global, as the next two of their
 * kind: verified once, and not for each round of a loop. */
__noinline int subject_element(struct scratch *s, struct bytes *m)
{
	if (!s || !m)
		return 0;
	if (s->der.at >= s->der.stop)
		return false;
	if (!der_take(s, m)) {
		s->certificate.broken = 1;
		return false;
	}
	if (s->der.tag == DER_SET || s->der.tag == DER_SEQUENCE) {
		s->der.at = s->der.from;
		return true;
	}
	if (s->der.wanted == WANTED_COMMON) {
		s->certificate.common = s->der.from;
		s->certificate.common_length = s->der.to - s->der.from;
	} else if (s->der.wanted == WANTED_UNIT) {
		s->certificate.unit = s->der.from;
		s->certificate.unit_length = s->der.to - s->der.from;
	}
	s->der.wanted = subject_wanted(s, m);
	der_skip(s);
	return true;
}

static long subject_step(__u32 i, struct certificate_walk *w)
{
#pragma clang loop unroll(disable)
	for (int n = 0; n < DER_STEP; n++)
		if (!subject_element(w->s, w->m))
			return 1;
	return 0;
}

/* The next element of the extensions. 0: that was all, or the names were found. */
__noinline int extensions_element(struct scratch *s, struct bytes *m)
{
	if (!s || !m)
		return 0;
	if (s->der.at >= s->der.stop)
		return false;
	if (!der_take(s, m)) {
		s->certificate.broken = 1;
		return false;
	}
	if (s->der.tag == DER_SEQUENCE) {
		s->der.at = s->der.from;
		return true;
	}
	if (s->der.tag == DER_OCTETS && s->der.wanted) {
		der_enter(s);
		if (der_is(s, m, DER_SEQUENCE)) {
			s->certificate.alternatives = s->der.from;
			s->certificate.alternatives_stop = s->der.to;
		} else {
			s->certificate.broken = 1;
		}
		return false;
	}
	if (s->der.tag != DER_BOOLEAN)
		s->der.wanted = s->der.tag == DER_OID &&
				der_oid(s, m, OID_SUBJECT_ALT);
	der_skip(s);
	return true;
}

static long extensions_step(__u32 i, struct certificate_walk *w)
{
#pragma clang loop unroll(disable)
	for (int n = 0; n < DER_STEP; n++)
		if (!extensions_element(w->s, w->m))
			return 1;
	return 0;
}

static __always_inline __u64 word_lower(__u64 w)
{
	return w | (not_below(w, 'A') ^ not_below(w, 'Z' + 1)) >> 2;
}

/* Are up to eight bytes, `left` of them, of the certificate at `at` and of scratch.name
 * at `name` the same? Global: verified once, and not for each word of a name. */
__noinline int word_fits(struct scratch *s, struct bytes *m, __u32 at,
			 __u32 name, __u32 left)
{
	__u64 differ;

	if (!s || !m)
		return 0;
	opaque(name);
	if (name > NAME_MAX_LEN)
		return 0;
	differ = word_lower(word_at(m, at)) ^ *(const __u64 *)&s->name[name];
	if (left < 8)
		differ &= (1ULL << left * 8) - 1;
	return !differ;
}

/*
 * Is the server name in scratch.name, of work.name_length bytes, the certificate's at
 * `at`? A wildcard is a whole label and stands for one (RFC 9525, 6.3). Global:
 * verified once.
 */
__noinline int certificate_fits(struct scratch *s, struct bytes *m, __u32 at,
				__u32 length)
{
	__u32 skip = 0;

	if (!s || !m || at > STREAM_MAX)
		return 0;
	if (length > 2 && be16_at(m, at) == ('*' << 8 | '.')) {
		skip = s->certificate.rest;
		if (!skip)
			return 0;
		at++;
		length--;
	}
	if (!length || length + skip != s->work.name_length)
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i <= NAME_MAX_LEN; i += 8) {
		if (i >= length)
			break;
		if (!word_fits(s, m, at + i, skip + i, length - i))
			return 0;
	}
	return 1;
}

/* The next of the alternative names. 0: no other one is needed. */
__noinline int alternative(struct scratch *s, struct bytes *m)
{
	__u32 at, length;

	if (!s || !m)
		return 0;
	if (s->der.at >= s->der.stop)
		return false;
	if (!der_take(s, m)) {
		s->certificate.broken = 1;
		return false;
	}
	der_skip(s);
	if (s->der.tag != DER_DNS_NAME)
		return true;
	at = s->der.from;
	length = s->der.to - at;
	if (!s->certificate.first_length) {
		s->certificate.first = at;
		s->certificate.first_length = length;
	}
	if (!s->work.name_length)
		return !length;
	s->certificate.fits = certificate_fits(s, m, at, length);
	return !s->certificate.fits;
}

static long alternatives_step(__u32 i, struct certificate_walk *w)
{
#pragma clang loop unroll(disable)
	for (int n = 0; n < DER_STEP; n++)
		if (!alternative(w->s, w->m))
			return 1;
	return 0;
}

/* Where the first dot of scratch.name is, for wildcards; 0: none. */
static __always_inline __u32 first_label(const struct scratch *s)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < NAME_WORDS; i++) {
		__u64 w = ((const __u64 *)s->name)[i];
		__u64 marks = zero_bytes(w ^ ONES * '.');

		if (marks)
			return i * 8 + first_marked(marks);
	}
	return 0;
}

/*
 * The certificate in [at, stop) of `joined`: its names to scratch.certificate, and whether one fits
 * scratch.name where that has work.name_length bytes. Returns whether all of it
 * was read. Global: verified once.
 */
__noinline int certificate_read(struct scratch *s, __u32 at, __u32 stop)
{
	__u32 zero = 0;
	struct bytes *m = bpf_map_lookup_elem(&joined, &zero);
	struct certificate_walk w = { .s = s, .m = m };
	bool whole = true;

	if (!s || !m || stop > STREAM_MAX)
		return 0;
	__builtin_memset(&s->certificate, 0, sizeof(s->certificate));
	s->certificate.rest = first_label(s);
	der_set(s, at, stop);
	if (!certificate_fields(s, m)) {
		count(LOSS_CERTIFICATE_MALFORMED);
		return 0;
	}
	if (der_is(s, m, DER_EXTENSIONS)) {
		der_set(s, s->der.from, s->der.to);
		whole &= bpf_loop(EXTENSIONS_STEPS, extensions_step, &w, 0) <
			 EXTENSIONS_STEPS;
		der_set(s, s->certificate.alternatives,
			s->certificate.alternatives_stop);
		whole &= bpf_loop(ALTERNATIVES_STEPS, alternatives_step, &w,
				  0) < ALTERNATIVES_STEPS;
	}
	/* Where there are names of hosts, the subject's is none (RFC 9525, 2). */
	if (!s->certificate.first_length) {
		der_set(s, s->certificate.subject, s->certificate.subject_stop);
		whole &= bpf_loop(SUBJECT_STEPS, subject_step, &w, 0) <
			 SUBJECT_STEPS;
	}
	if (s->certificate.broken)
		count(LOSS_CERTIFICATE_MALFORMED);
	else if (!whole)
		count(LOSS_CERTIFICATE_LONG);
	else
		count(INFO_CERTIFICATES);
	return whole && !s->certificate.broken;
}

#endif /* XDPPROBE_CERTIFICATE_H */
