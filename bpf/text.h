/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Signatures by a text: what a message's field says of itself. See struct
 * text_key in abi.h.
 */
#ifndef XDPPROBE_TEXT_H
#define XDPPROBE_TEXT_H

#include "verdict.h"

/* Which tables count for this packet: asked once, for a reload may happen between
 * two questions. */
static __always_inline void generation_choose(struct scratch *s)
{
	__u32 zero = 0;
	struct control_value *c = bpf_map_lookup_elem(&control, &zero);

	s->work.generation = c ? c->generation & 1 : 0;
}

/* Take the text at `from`; what is behind TEXT_LEN bytes does not count. */
static __always_inline void text_take(struct scratch *s, enum text_kind kind,
				      const void *from, __u32 length)
{
	s->text.prefix_bits = 0;
	if (length > TEXT_LEN)
		length = TEXT_LEN;
	if (!length)
		return;
	__builtin_memset(s->text.text, 0, sizeof(s->text.text));
	opaque(length);
	length &= TEXT_LEN;
	if (bpf_probe_read_kernel(s->text.text, length, from))
		return;
	s->text.kind = kind;
	s->text.prefix_bits = (1 + length) * 8;
}

static __always_inline void text_forget(struct scratch *s)
{
	s->told = (struct text_value){};
}

/* What the signatures say of scratch.text. Of several answers to a message the more
 * confident one counts, of two alike the first. */
static __always_inline void text_ask(struct scratch *s)
{
	__u32 generation = s->work.generation & 1;
	void *table = bpf_map_lookup_elem(&texts, &generation);
	const struct text_value *t;

	if (!table || !s->text.prefix_bits)
		return;
	t = bpf_map_lookup_elem(table, &s->text);
	if (!t)
		return;
	count(INFO_TEXTS);
	if (t->confidence > s->told.confidence)
		s->told = *t;
}

/* Ask for the first protocol of a hello that is whole. It says what goes on, not whether
 * that is all there is to know. Global: verified once. */
__noinline int alpn_ask(void)
{
	struct scratch *s = scratch_get();
	__u32 length;

	if (!s || !s->facts.whole)
		return 0;
	length = s->facts.entry.alpn_length;
	if (!length || length >= HELLO_ALPN)
		return 0;
	generation_choose(s);
	text_take(s, TEXT_ALPN, s->facts.entry.alpn, length + 1);
	text_ask(s);
	s->told.final = 0;
	return 1;
}

/* The flow is what the texts say. `method`: what they count as for the application;
 * `name`: the flow's, whose text stands in scratch.name; 0: none. Global: verified
 * once. */
__noinline int text_give(struct scratch *s, __u64 name, __u32 method)
{
	if (!s || !s->told.confidence)
		return 0;
	s->verdict = (struct verdict){
		.protocol = s->told.protocol,
		.app = s->told.app,
		.protocol_method = METHOD_PATTERN,
		.app_method = method,
		.confidence = s->told.confidence,
		.final = s->told.final,
		.name = name,
	};
	verdict_give();
	return 1;
}

#endif /* XDPPROBE_TEXT_H */
