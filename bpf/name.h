/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From a server name as it was sent to an application and an entry of the name
 * table: normalise, match by longest suffix, hide if asked to, keep.
 */
#ifndef XDPPROBE_NAME_H
#define XDPPROBE_NAME_H

#include "text.h"

#define IPV4_LABEL_MAX 4 /* three digits and the dot before them */
#define NAME_WORDS ((NAME_MAX_LEN + 1) / 8)

/* The bytes of a word that are ASCII and not below `low`, as their highest bits. */
static __always_inline __u64 not_below(__u64 word, __u8 low)
{
	return ((word & ~HIGHS) + (0x80 - low) * ONES) & ~word & HIGHS;
}

/*
 * Lower case, and its length; 0 where a byte is one that no host name has. A
 * Host field's value ends with the line or before the port; an IPv6 literal
 * keeps its brackets. Eight bytes at a time; behind the name stand zeros.
 * Global: verified once.
 */
__noinline int name_lower(struct scratch *s)
{
	__u32 length, stop, i = 0;
	__u64 marks = 0;

	if (!s)
		return 0;
	length = s->work.name_length;
	stop = s->work.name_stop;
#pragma clang loop unroll(disable)
	for (i = 0; i < NAME_WORDS; i++) {
		__u64 *word = &((__u64 *)s->name)[i], w = *word;
		__u64 graphic = not_below(w, '!') ^ not_below(w, 0x7f);
		__u64 capital = not_below(w, 'A') ^ not_below(w, 'Z' + 1);

		*word = w | capital >> 2;
		marks = ~graphic & HIGHS;
		if (stop)
			marks |= zero_bytes(w ^ stop * ONES);
		if (marks)
			break;
	}
	i = i * 8 + (marks ? first_marked(marks) : 0);
	opaque(i);
	if (i > NAME_MAX_LEN)
		return 0;
	/* Above '~' there is nothing that may end a name. */
	if (s->name[i] > '~')
		return 0;
	if (!stop)
		return i < length ? 0 : i;
	if (i == NAME_MAX_LEN) /* longer than a name can be */
		return 0;
	if (stop != ']')
		return i;
	if (s->name[i] != ']')
		return 0;
	return i + 1;
}

const __u8 blank[NAME_MAX_LEN + 1] = {};

/* Strip a trailing dot, blank what follows the name. Global: verified once. */
__noinline int name_trim(struct scratch *s, __u32 length)
{
	__u32 last = length - 1;

	if (!s)
		return 0;
	opaque(last);
	if (last < NAME_MAX_LEN && s->name[last] == '.')
		length = last;
	opaque(length);
	if (length <= NAME_MAX_LEN)
		copy_bounded(&s->name[length], blank,
			     s->work.name_length - length, NAME_MAX_LEN);
	return length;
}

/* The rule key: the name reversed, and a dot, so that a rule matches on label
 * boundaries only. Global: verified once. */
__noinline int name_reverse(struct scratch *s, __u32 length)
{
	if (!s || !length || length > NAME_MAX_LEN)
		return 0;
	__builtin_memset(&s->key, 0, sizeof(s->key));
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < NAME_KEY_LEN; i++) {
		__u32 mirror = length - 1 - i;

		if (i >= length)
			break;
		opaque(mirror);
		if (mirror > NAME_MAX_LEN)
			break;
		s->key.text[i] = s->name[mirror];
	}
	opaque(length);
	if (length < NAME_KEY_LEN) {
		s->key.text[length] = '.';
		s->key.prefix_bits = (length + 1) * 8;
	} else {
		s->key.prefix_bits = NAME_KEY_LEN * 8;
	}
	return length;
}

/* From the bytes in scratch.name to a name and its rule key; 0: no name. */
static __always_inline int name_normalise(struct scratch *s)
{
	int length;

	s->work.name_stop = 0;
	if (s->work.method == METHOD_HTTP_HOST)
		s->work.name_stop = s->name[0] == '[' ? ']' : ':';
	length = name_lower(s);
	if (length <= 0 || length > NAME_MAX_LEN)
		return 0;
	length = name_trim(s, length);
	return name_reverse(s, length);
}

static __always_inline struct name_rule *name_match(struct scratch *s)
{
	__u32 key;
	void *rules;

	generation_choose(s);
	key = s->work.generation & 1;
	rules = bpf_map_lookup_elem(&name_rules, &key);
	return rules ? bpf_map_lookup_elem(rules, &s->key) : NULL;
}

static __always_inline __u32 name_app(const struct name_rule *rule,
				      __u32 length)
{
	if (!rule)
		return 0;
	if (rule->exact_app && rule->length == length)
		return rule->exact_app;
	return rule->suffix_app;
}

/* Keyed hash of the name. Global: verified once. */
__noinline __u64 name_hash(struct scratch *s, __u32 length)
{
	struct siphash h;

	if (!s)
		return 0;
	sip_begin(&h);
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < NAME_WORDS; i++) {
		if (i * 8 >= length)
			break;
		sip_word(&h, ((const __u64 *)s->name)[i]);
	}
	sip_word(&h, length);
	return kept_hash(sip_end(&h));
}

/* Replace the name by its keyed hash, 16 hexadecimal digits. */
static __always_inline __u32 name_hide(struct scratch *s, __u32 length)
{
	__u64 hash = name_hash(s, length);

	__builtin_memset(s->name, 0, sizeof(s->name));
	for (int i = 0; i < 16; i++) {
		__u8 digit = hash >> (60 - 4 * i) & 15;

		s->name[i] = digit < 10 ? '0' + digit : 'a' + digit - 10;
	}
	return 16;
}

/* True of an IPv4 address or a bracketed IPv6 one, which have no domain: the last
 * label is a number (RFC 1123, 2.1), which no top-level domain is. */
static __always_inline bool name_is_address(const struct scratch *s,
					    __u32 length)
{
	__u32 at = length - 1;

	opaque(at);
	if (s->name[at & NAME_MAX_LEN] == ']')
		return true;
#pragma clang loop unroll(disable)
	for (int i = 0; i < IPV4_LABEL_MAX; i++, at--) {
		__u32 c;

		opaque(at);
		c = s->name[at & NAME_MAX_LEN];

		if (c == '.')
			return i > 0;
		if (c - '0' > 9)
			return false;
		if (!at)
			return true;
	}
	return false;
}

/* Where the last `keep` labels before the name's last `suffix` bytes begin: 0
 * where there are no more than that. Global: verified once. */
__noinline int cut_start(struct scratch *s, __u32 length, __u32 suffix,
			 __u32 keep)
{
	__u32 at = length - suffix;

	if (!s || length > NAME_MAX_LEN || suffix >= length)
		return 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < NAME_MAX_LEN; i++) {
		at--;
		opaque(at);
		if (at > NAME_MAX_LEN)
			return 0;
		if (s->name[at] != '.')
			continue;
		keep--;
		if (!keep)
			return at + 1;
	}
	return 0;
}

/* Cut the name to its registered domain: the public suffix and one label. By
 * the Public Suffix List's default rule, a suffix is one label; a wildcard rule
 * has one label more than it says. Global: verified once. */
__noinline int name_cut(struct scratch *s, __u32 length, __u32 suffix,
			__u32 wildcard)
{
	__u32 start, rest;

	if (!s || !length || length > NAME_MAX_LEN)
		return 0;
	if (name_is_address(s, length))
		return length;
	/* The dot before the suffix ends no label that is kept. */
	start = cut_start(s, length, suffix, 2 + (suffix ? wildcard : 0));
	rest = length - start;
	opaque(start);
	if (!start || start >= length || start > NAME_MAX_LEN)
		return length;
	__builtin_memset(s->record.name, 0, sizeof(s->record.name));
	if (!copy_bounded(s->record.name, &s->name[start], rest, NAME_MAX_LEN))
		return 0;
	__builtin_memcpy(s->name, s->record.name, sizeof(s->name));
	return rest;
}

static __always_inline __u32 name_private(struct scratch *s,
					  const struct name_rule *rule,
					  __u32 length)
{
	if (privacy == PRIVACY_HASH)
		return name_hide(s, length);
	if (privacy == PRIVACY_CUT)
		return name_cut(s, length, rule ? rule->public_suffix : 0,
				rule ? rule->wildcard & 1 : 0);
	return length;
}

/* Write a name into an entry that was claimed by its hash. */
static __always_inline void name_write(struct name_entry *e, struct scratch *s,
				       __u32 length, __u32 app, bool answered)
{
	e->app = app;
	e->length = length;
	e->answered = answered;
	e->used = s->work.now;
	__builtin_memcpy(e->text, s->name, sizeof(e->text));
}

/* The entry of `hash`, made where there is none. 0 where that fails. */
static __always_inline __u64 name_keep(struct scratch *s, __u64 hash,
				       __u32 length, __u32 app)
{
	__u32 key = (__u32)hash & name_mask, first = 0;
	struct name_set *set = bpf_map_lookup_elem(&names, &key);
	bool answered = kept_answered(&s->work);
	struct name_entry *e;
	__u64 was, best = 0;

	if (!set)
		return 0;
	for (__u32 i = 0; i < NAME_WAYS; i++) {
		__u64 rank;

		e = &set->way[i];
		if (e->hash == hash) {
			if (e->used != s->work.now)
				e->used = s->work.now;
			if (answered && !e->answered)
				e->answered = 1;
			return hash;
		}
		rank = kept_rank(e->hash, e->answered, e->used, s->work.now);
		if (rank > best) {
			best = rank;
			first = i;
		}
	}
	e = &set->way[first & (NAME_WAYS - 1)];
	was = e->hash;
	if (was == KEPT_BUSY ||
	    __sync_val_compare_and_swap(&e->hash, was, KEPT_BUSY) != was) {
		count(LOSS_NAME_FULL);
		return 0;
	}
	if (was)
		count(LOSS_NAME_EVICTED);
	name_write(e, s, length, app, answered);
	__sync_lock_test_and_set(&e->hash, hash);
	return hash;
}

/* Has the flow a name that this message's can only follow? Several queries may go
 * by one flow: it is called after the first. */
static __always_inline bool name_settled(const struct scratch *s)
{
	const struct flow_hot *f;
	const struct flow_cold *c;

	if (s->work.method != METHOD_DNS)
		return false;
	f = flow_at(s->work.index);
	c = cold_at(s->work.index);
	return f && c && f->protocol_method == METHOD_DNS && c->name;
}

/* Does the name stand for one that is encrypted (RFC 9849)? Such names are used for
 * that alone: without a look at the rest of the hello, as long as it is missing. */
static __always_inline bool
name_outer(const struct scratch *s, const struct name_rule *rule, __u32 length)
{
	if (s->work.method != METHOD_SNI && s->work.method != METHOD_QUIC_SNI)
		return false;
	if (!rule || !(rule->flags & NAME_ECH_PUBLIC) || rule->length != length)
		return false;
	return s->facts.tls_flags || !s->facts.walked;
}

/* The flow's true name is not known: whatever else tells its application stays. */
static __always_inline void outer_decide(struct scratch *s)
{
	struct verdict *v = &s->verdict;

	s->facts.tls_flags = TLS_ECH;
	v->quiet = s->work.named;
	v->protocol_method = METHOD_ECH_OUTER;
	v->app_method = METHOD_NONE;
	if (!v->quiet)
		count(INFO_ECH);
	verdict_give();
}

/* Did the beginning of the hello pass for one whose name is encrypted? */
static __always_inline bool name_was_outer(const struct scratch *s)
{
	const struct flow_hot *f = flow_at(s->work.index);

	return f && f->protocol_method == METHOD_ECH_OUTER;
}

/* The name in scratch.name decides the flow. Returns whether it is one; its
 * application is in scratch.verdict. */
static __always_inline bool name_decide(struct scratch *s)
{
	struct work *w = &s->work;
	struct verdict *v = &s->verdict;
	int length = name_normalise(s);
	bool settled = name_settled(s);
	struct name_rule *rule;

	v->protocol = w->protocol;
	v->protocol_method = v->app_method = w->method;
	v->confidence = 100;
	/* A query's answer is still to come, or a TLS server's, the id that a QUIC server
	 * chooses, or the rest of a hello. */
	v->final = w->protocol != PROTOCOL_DNS &&
		   w->protocol != PROTOCOL_QUIC && !w->open && !w->partial;
	v->quiet = w->named && !name_was_outer(s);
	v->app = 0;
	v->name = 0;
	if (length <= 0) {
		count(LOSS_NAME_CHARS);
		v->protocol_method = METHOD_PATTERN;
		v->final = !w->open;
		if (!settled)
			verdict_give();
		return false;
	}
	rule = name_match(s);
	if (name_outer(s, rule, length)) {
		outer_decide(s);
		return true;
	}
	v->app = name_app(rule, length);
	if (settled)
		return true;
	if (!v->quiet)
		count(INFO_NAMED);
	length = name_private(s, rule, length);
	if (length > 0 && length <= NAME_MAX_LEN)
		v->name = name_keep(s, name_hash(s, length), length, v->app);
	verdict_give();
	return true;
}

/* The text of a name that was kept, to scratch.name: its length, 0: not there. */
static __always_inline __u32 name_text(struct scratch *s, __u64 hash)
{
	__u32 key = (__u32)hash & name_mask;
	struct name_set *set = bpf_map_lookup_elem(&names, &key);

	if (!set || hash <= KEPT_BUSY)
		return 0;
	for (__u32 i = 0; i < NAME_WAYS; i++) {
		struct name_entry *e = &set->way[i];

		if (e->hash != hash)
			continue;
		__builtin_memcpy(s->name, e->text, sizeof(s->name));
		/* Another CPU may just have given it to another name. */
		return e->hash == hash ? e->length : 0;
	}
	return 0;
}

#endif /* XDPPROBE_NAME_H */
