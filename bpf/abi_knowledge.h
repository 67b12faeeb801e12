/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The tables that user space fills: name rules, peers, signatures. A part of abi.h. */
#ifndef XDPPROBE_ABI_KNOWLEDGE_H
#define XDPPROBE_ABI_KNOWLEDGE_H

#include <linux/types.h>

#define NAME_KEY_LEN 64 /* reversed name bytes that rules may use */

/* Name rules: longest match over the reversed name followed by '.', so that
 * "moc.elpmaxe." matches example.com and what is below it. */
struct name_key {
	__u32 prefix_bits;
	__u8 text[NAME_KEY_LEN];
};

struct name_rule {
	__u16 suffix_app;   /* of this name and all below it, 0: none */
	__u16 exact_app;    /* of this very name only, 0: none */
	__u8 length;	    /* of the rule's name, without the '.' */
	__u8 public_suffix; /* length of the public suffix at its end */
	__u8 wildcard;	    /* 1: the public suffix has one label more */
	__u8 flags;	    /* enum name_flag */
};

enum name_flag {
	NAME_ECH_PUBLIC = 1 << 0, /* this very name stands for encrypted ones */
};

/*
 * Peers: an address, with or without port, or a prefix, whose flows are a
 * protocol's or an application's as long as nothing better is known of them. Looked
 * up when a flow is born. There are two sources, the operator (`xdpprobe peers`) and
 * the signatures' prefixes, and two generations of each, as of all tables.
 */
enum peers {
	PEERS_GENERATION = 1 << 0, /* which of the pushed ones is in force */
	PEERS_PUSHED = 1 << 1,	   /* the operator has pushed some */
	PEERS_PUBLISHED = 1 << 2,  /* the signatures have some */
	PEERS_MAX = 1000000,	   /* that may be pushed */
	PEER_AGE_SHIFT = 8,	   /* 34 years of jiffies in 32 bits */
};

/* What is said of a peer. */
struct peer_value {
	__u32 expires;	/* 64-bit jiffies >> PEER_AGE_SHIFT; 0: never */
	__u16 protocol; /* label ids, 0: none */
	__u16 app;
};

/*
 * Of a table with all that a set holds, addresses and prefixes alike: half a cache
 * line. What a slot is for is in its third word, but for `away`: who writes a slot
 * that packets may look at writes that word last, and forgets nothing.
 *
 *    0               8               16   18 19 20 21 22   24
 *   | address                       |port|l4|pl|ki| 0|away| value      |
 *
 * A block says which lengths the prefixes in it have, so that no others are asked
 * for: bit b of its 128 stands for 128 - b bits, of the v4-mapped address. They are
 * where a peer's value is (0..63) and its address's second word (64..127); the
 * first one has the block.
 */
struct peer_slot {
	__u8 address[16]; /* IPv4 v4-mapped, as in flow_cold */
	__u8 port[2];	  /* network byte order; 0: all, and l4 is 0 too */
	__u8 l4;
	__u8 prefix; /* of a prefix, its length of the v4-mapped address + 1 */
	__u8 kind;   /* enum peer_slot_kind */
	__u8 reserved;
	__u16 away; /* first slot of a bucket: who belongs here is elsewhere */
	struct peer_value value;
};

enum peer_slot_kind {
	PEER_SLOT_FREE = 0,
	PEER_SLOT_ADDRESS,
	PEER_SLOT_PREFIX,
	PEER_SLOT_BLOCK_4, /* 16 bits of an IPv4 address */
	PEER_SLOT_BLOCK_6, /* 32 of an IPv6 one */
};

/* One cache line. A slot is in one of two buckets that its hash names, and in the
 * first while that had room. */
#define PEER_WAYS 2
struct peer_bucket {
	struct peer_slot slot[PEER_WAYS];
};

/* What kinds of peers a set holds. */
enum peer_kind {
	PEER_ADDRESS = 1 << 0,
	PEER_PORT = 1 << 1,
	PEER_PREFIX = 1 << 2,
};

#define PEER_FILTER_WORDS 65536 /* a power of two */

/* A bit for each hash of what a set holds: most ends of most flows are in none, and
 * that is known after one look. Index: source * 2 + generation, where source is 0
 * for pushed peers and 1 for published prefixes. */
struct peer_filter {
	__u32 kinds;	  /* enum peer_kind, 0: the set is empty */
	__u32 shift;	  /* the hash's upper 64 - shift bits count */
	__u64 factors[2]; /* of the hash: odd, random */
	__u64 wide[2];	  /* as a block, of prefixes that are in none */
	__u32 mask;	  /* buckets of the table - 1 */
	__u32 addresses;  /* for reports: how many there are, at most */
	__u32 prefixes;
	__u32 earliest; /* expiry of the first that expires, 0: none does */
	__u64 reserved;
	__u64 bits[PEER_FILTER_WORDS];
};

/*
 * Signatures by pattern, compiled: one bit a row, and a column of bits for each
 * value that a packet's length, ports, number, the flow's stage and each of the
 * payload's first bytes may have. The rows whose bit is set in all of a packet's
 * columns fit; the lowest one decides whose automaton and length field agree.
 */
#define MATCH_CLASSES 4 /* l4 is UDP, times 2; + 1: from the responder */
#define MATCH_WIDTH 32	/* leading payload bytes that have columns */
#define MATCH_WORDS 16	/* of 64 rows */
#define MATCH_ROWS 1024
#define MATCH_LENGTHS 256     /* classes of payload lengths */
#define MATCH_LENGTH_MAX 2047 /* longer payloads count as this long */
#define MATCH_PORTS 256	      /* classes of ports */
#define MATCH_PACKETS 8	      /* payload packets of a direction */
#define MATCH_STAGES 64	      /* 0: nothing noted */
#define MATCH_STATES 4096     /* of all automata; 0: dead, 1: accepted */
#define MATCH_DEPTH 256	      /* payload bytes an automaton sees */

enum match_field {
	MATCH_FIELD_LITTLE = 1, /* least significant byte first */
	MATCH_FIELD_WITHIN = 2, /* more may follow what the field measures */
};

struct match_row {
	__u16 protocol; /* label ids, 0: none */
	__u16 app;
	__u8 method;	 /* enum method */
	__u8 confidence; /* 0..100 */
	__u8 final;
	__u8 stage;	  /* to be noted, 0: nothing */
	__u16 state;	  /* the automaton's first, 0: none */
	__u8 field_size;  /* bytes of the length field, 0: none */
	__u8 field_flags; /* enum match_field */
	__u16 field_at;
	__u16 multiplier; /* of the field's value */
	__s32 plus;	  /* payload length less that product */
	__u32 signature;  /* its number in the files' order */
};

struct match_class {
	__u32 words; /* in use */
	__u32 width;
	__u8 length_class[MATCH_LENGTH_MAX + 1];
	__u8 port_class[65536];
	__u64 length[MATCH_LENGTHS][MATCH_WORDS];
	__u64 port[MATCH_PORTS][MATCH_WORDS]; /* of either end */
	__u64 packet[MATCH_PACKETS][MATCH_WORDS];
	__u64 stage[MATCH_STAGES][MATCH_WORDS];
	__u64 byte[MATCH_WIDTH][256][MATCH_WORDS];
	struct match_row row[MATCH_ROWS];
};

struct match_automaton {
	__u16 next[MATCH_STATES][256];
};

/*
 * Signatures by a text that stands in one field of a message: of its kind, the
 * longest one that the text begins with decides.
 */
#define TEXT_LEN 63 /* bytes that are compared */

enum text_kind {
	TEXT_NONE = 0,
	TEXT_USER_AGENT,     /* of HTTP, RFC 9110, 10.1.5 */
	TEXT_CONTENT_TYPE,   /* of HTTP, RFC 9110, 8.3 */
	TEXT_REQUEST,	     /* HTTP's request line, RFC 9112, 3 */
	TEXT_STUN_ATTRIBUTE, /* its type, two bytes */
	TEXT_STUN_REALM,     /* a domain, as in name_key: reversed, '.' */
	TEXT_STUN_SOFTWARE,
	TEXT_ALPN,	  /* of TLS, RFC 7301: whole, with a NUL behind */
	TEXT_SERVER,	  /* of HTTP's answer, RFC 9110, 10.2.4 */
	TEXT_SOAP_ACTION, /* of HTTP, SOAP 1.1, 6.1.1 */
	TEXT_CERTIFICATE, /* its holder, X.520: common name, unit */
};

struct text_key {
	__u32 prefix_bits; /* of the two that follow; 0: no text */
	__u8 kind;	   /* enum text_kind */
	__u8 text[TEXT_LEN];
};

struct text_value {
	__u16 protocol; /* label ids, 0: none */
	__u16 app;
	__u8 confidence; /* 0..100 */
	__u8 final;
	__u8 in_place; /* of the host that was asked: it counts more */
	__u8 reserved;
};

#endif /* XDPPROBE_ABI_KNOWLEDGE_H */
