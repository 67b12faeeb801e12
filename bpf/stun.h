/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stage STUN: whose call a STUN message belongs to (RFC 8489, 5 and 14).
 *
 *   0  type (2), its two highest bits 0   4  magic cookie 0x2112a442
 *   2  length (2) of the attributes       8  transaction id (12)
 *   20 attributes: type (2), length (2), value, filled up to words
 *
 * Before RFC 5389 the transaction id had 16 bytes. Over TCP a length of 2 bytes may
 * come before the message (RFC 4571). A pattern has said before that it is STUN.
 *
 * One socket is one call's: what a relay's realm says of it holds for what else it
 * talks to, other relays and the callers, which often say nothing.
 */
#ifndef XDPPROBE_STUN_H
#define XDPPROBE_STUN_H

#include "name.h"
#include "read.h"

#define STUN_HEADER 20
#define STUN_COOKIE 0x2112a442U
#define STUN_ATTRIBUTES_MAX 32
#define STUN_REALM 0x0014
#define STUN_SOFTWARE 0x8022
#define STUN_REALM_CONFIDENCE 80 /* of a name rule, which knows no calls */
#define STUN_SOCKET_CONFIDENCE 70
#define STUN_SOCKET_SECONDS 60 /* that a socket keeps its name */

static __always_inline __u32 stun_cookie(const struct bytes *m, __u32 at)
{
	return be16_at(m, at + 4) << 16 | be16_at(m, at + 6);
}

/* Is the payload a STUN message? Where it stands is noted in scratch.stun. */
static __always_inline bool stun_begin(struct scratch *s)
{
	const struct bytes *m = &s->payload;
	__u32 length = s->work.length, at = 0, size;

	if (length < STUN_HEADER)
		return false;
	s->stun.cookie = stun_cookie(m, 0) == STUN_COOKIE;
	if (!s->stun.cookie && s->work.l4 == IPPROTO_TCP &&
	    stun_cookie(m, 2) == STUN_COOKIE) {
		s->stun.cookie = 1;
		at = 2;
	}
	size = be16_at(m, at + 2);
	if (byte_at(m, at) & 0xc0 || size & 3)
		return false;
	if (!s->stun.cookie && STUN_HEADER + size != length)
		return false;
	s->stun.at = at + STUN_HEADER;
	s->stun.end = at + STUN_HEADER + size;
	if (s->stun.end > length)
		s->stun.end = length;
	return true;
}

/* One attribute. Returns 1 to stop. */
static long stun_attribute(__u32 index, struct scratch **sp)
{
	struct scratch *s = *sp;
	__u32 at = s->stun.at, end = s->stun.end, type, length;

	if (at + 4 > end)
		return 1;
	type = be16_at(&s->payload, at);
	length = be16_at(&s->payload, at + 2);
	at += 4;
	if (length > end - at)
		return 1;
	s->stun.at = at + ((length + 3) & ~3U);
	if (type == STUN_REALM) {
		s->stun.realm = at;
		s->stun.realm_length = length;
	} else if (type == STUN_SOFTWARE) {
		s->stun.software = at;
		s->stun.software_length = length;
	} else {
		s->text.text[0] = type >> 8;
		s->text.text[1] = type;
		text_ask(s);
	}
	return 0;
}

/* A realm is a domain, or should be: ask for it as a name. */
static __always_inline void stun_realm(struct scratch *s)
{
	struct found at = { .offset = s->stun.realm,
			    .length = s->stun.realm_length };
	int length;
	__u16 app;

	if (at.length - 1 >= NAME_MAX_LEN || !name_take(s, &s->payload, &at))
		return;
	s->work.method = METHOD_PATTERN;
	length = name_normalise(s);
	if (length <= 0)
		return;
	text_take(s, TEXT_STUN_REALM, s->key.text, s->key.prefix_bits / 8);
	text_ask(s);
	if (s->told.confidence >= STUN_REALM_CONFIDENCE)
		return;
	app = name_app(name_match(s), length);
	if (!app)
		return;
	s->told.app = app;
	s->told.confidence = STUN_REALM_CONFIDENCE;
}

/* Ask for all that the message says. Global: verified once; without the scratch as an
 * argument, as moved_ask(). */
__noinline int stun_read(void)
{
	struct scratch *s = scratch_get(), *loop = s;

	if (!s)
		return 0;
	s->stun.realm = s->stun.software = 0;
	text_forget(s);
	__builtin_memset(s->text.text, 0, sizeof(s->text.text));
	s->text.kind = TEXT_STUN_ATTRIBUTE;
	s->text.prefix_bits = (1 + 2) * 8;
	if (bpf_loop(STUN_ATTRIBUTES_MAX, stun_attribute, &loop, 0) >=
		    STUN_ATTRIBUTES_MAX &&
	    s->stun.at < s->stun.end)
		count(LOSS_STUN_LONG);
	if (s->stun.software) {
		text_take(s, TEXT_STUN_SOFTWARE,
			  (void *)&s->payload + s->stun.software,
			  s->stun.software_length);
		text_ask(s);
	}
	if (s->stun.realm)
		stun_realm(s);
	return s->told.app || s->told.protocol;
}

/* The key of one of the flow's two sockets. */
static __always_inline void socket_key(struct scratch *s,
				       const struct flow_cold *c, __u32 end)
{
	struct socket_key *k = &s->stun.key;

	end &= 1;
	__builtin_memcpy(k->address, c->address[end], sizeof(k->address));
	__builtin_memcpy(k->port, c->port[end], sizeof(k->port));
	k->vlan = c->vlan;
	k->tunnel_id = c->tunnel_id;
}

/* The initiator's socket is the application's. */
static __always_inline void socket_learn(struct scratch *s,
					 const struct flow_hot *f,
					 const struct flow_cold *c, __u16 app)
{
	socket_key(s, c, !!(f->flags & FLOW_INITIATOR_1));
	s->stun.value = (struct socket_app){ .seen = s->work.now, .app = app };
	bpf_map_update_elem(&sockets, &s->stun.key, &s->stun.value, BPF_ANY);
}

/* The message says nothing: is one of the flow's sockets known? */
static __always_inline void socket_ask(struct scratch *s,
				       const struct flow_hot *f,
				       const struct flow_cold *c)
{
	const struct socket_app *known = NULL;

#pragma clang loop unroll(disable)
	for (__u32 end = 0; end < 2 && !known; end++) {
		socket_key(s, c, end);
		known = bpf_map_lookup_elem(&sockets, &s->stun.key);
	}
	if (!known || f->app_method >= METHOD_PEER ||
	    age_of(s->work.now, known->seen) > STUN_SOCKET_SECONDS * hz)
		return;
	count(INFO_SOCKETS);
	s->verdict = (struct verdict){
		.app = known->app,
		.app_method = METHOD_PEER,
		.confidence = STUN_SOCKET_CONFIDENCE,
	};
	verdict_give();
}

static __always_inline int stage_stun(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	const struct flow_cold *c;
	const struct flow_hot *f;
	bool told;

	if (!s)
		return ctx_pass(hook);
	f = flow_at(s->work.index);
	c = cold_at(s->work.index);
	if (!f || !c || f->tag != s->work.tag)
		return ctx_pass(hook);
	told = stun_read();
	/* Without the cookie the attributes alone would be weak evidence. */
	if (told && !s->stun.cookie && s->told.protocol != f->protocol)
		return ctx_pass(hook);
	if (told)
		text_give(s, 0, METHOD_PATTERN);
	if (s->work.l4 != IPPROTO_UDP)
		return ctx_pass(hook);
	if (f->app && f->app_method == METHOD_PATTERN)
		socket_learn(s, f, c, f->app);
	else
		socket_ask(s, f, c);
	return ctx_pass(hook);
}

#endif /* XDPPROBE_STUN_H */
