/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * QUIC connections whose client's address or port changes, as behind a NAT that forgot it:
 * the client goes on sending to the id that its server chose (RFC 9000, 5.1), and a new
 * flow that begins with that id is the old connection.
 *
 * Short header (RFC 9000, 17.3.1), where the id's length is known to its maker alone:
 *  0           1
 *  +-----------+-------------------
 *  | 0 1 . ... | id, number, payload
 *  +-----------+-------------------
 */
#ifndef XDPPROBE_MOVED_H
#define XDPPROBE_MOVED_H

#include "name.h"
#include "quic.h"

#define MOVED_ID \
	8 /* bytes of an id that are compared; shorter ones are not kept */
#define MOVED_MIN \
	21 /* RFC 9000, 10.3: the least that passes for a short header */

/* The flow's server, and the id whose first bytes these are. */
static __always_inline void
moved_key(struct scratch *s, const struct flow_cold *c, __u32 server, __u64 id)
{
	struct moved_key *key = &s->moved.key;

	__builtin_memcpy(key->address, c->address[server & 1],
			 sizeof(key->address));
	__builtin_memcpy(key->port, c->port[server & 1], sizeof(key->port));
	key->vlan = c->vlan;
	key->tunnel_id = c->tunnel_id;
	key->id = id;
}

/* The id's bytes from number `from` on, where its first stands at `at`. */
static __always_inline __u64 moved_rest(const struct scratch *s, __u32 at,
					__u32 length, __u32 from)
{
	__u32 bytes = length > from ? length - from : 0;
	__u64 word = word_at(&s->payload, at + from);

	return bytes < 8 ? word & ((1ULL << 8 * bytes) - 1) : word;
}

/* Note the id in the server's long header, which was just read, for the flow's name
 * and hello. */
static __always_inline void moved_learn(struct scratch *s,
					const struct flow_hot *f)
{
	__u32 at = s->quic.id_at + s->quic.id_length, length;
	const struct flow_cold *c = cold_at(s->work.index);

	length = byte_at(&s->payload, at);
	if (!c || f->protocol_method != METHOD_QUIC_SNI || length < MOVED_ID)
		return;
	moved_key(s, c, s->work.direction, word_at(&s->payload, at + 1));
	s->moved.value.name = c->name;
	s->moved.value.hello = c->hello;
	s->moved.value.tls_flags = c->tls_flags;
	s->moved.value.rest[0] = moved_rest(s, at + 1, length, MOVED_ID);
	s->moved.value.rest[1] = moved_rest(s, at + 1, length, 2 * MOVED_ID);
	s->moved.value.id_length = length;
	s->moved.value.learned = s->work.now;
	/* What its name says, and not what addresses did. */
	s->moved.value.app = f->app_method == METHOD_QUIC_SNI ? f->app : 0;
	bpf_map_update_elem(&moved, &s->moved.key, &s->moved.value, BPF_ANY);
}

/* Is the whole id that of a connection, and of one that may still stand? */
static __always_inline bool moved_same(const struct scratch *s,
				       const struct moved_value *found)
{
	__u32 length = found->id_length;

	return s->work.length > length &&
	       moved_rest(s, 1, length, MOVED_ID) == found->rest[0] &&
	       moved_rest(s, 1, length, 2 * MOVED_ID) == found->rest[1] &&
	       age_of(s->work.now, found->learned) <= idle_established;
}

/* Is a flow's first packet one of a connection that had another flow? Then it has the
 * name of that, and the hello. Global: verified once; and its scratch is not an argument, which Linux
 * 6.1 takes for no map's, and no place of a key. */
__noinline int moved_ask(void)
{
	struct scratch *s = scratch_get();
	const struct flow_cold *c;
	struct moved_value *found;

	if (!s)
		return 0;
	c = cold_at(s->work.index);
	if (!c || s->work.responder || s->work.packet != 1 ||
	    s->work.length < MOVED_MIN ||
	    (byte_at(&s->payload, 0) & 0xc0) != 0x40)
		return 0;
	moved_key(s, c, ~s->work.direction, word_at(&s->payload, 1));
	found = bpf_map_lookup_elem(&moved, &s->moved.key);
	if (!found || !moved_same(s, found))
		return 0;
	s->verdict = (struct verdict){
		.protocol = PROTOCOL_QUIC,
		.app = found->app,
		.protocol_method = METHOD_QUIC_SNI,
		.app_method = METHOD_QUIC_SNI,
		.confidence = 100,
		.final = 1,
		.name = name_text(s, found->name) ? found->name : 0,
	};
	s->facts.known = found->hello;
	s->facts.tls_flags = found->tls_flags;
	count(INFO_QUIC_MOVED);
	verdict_give();
	return 1;
}

#endif /* XDPPROBE_MOVED_H */
