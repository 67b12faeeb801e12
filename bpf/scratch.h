/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs that a packet passes hand to each other: too much for their
 * stack, and what would make the verifier walk them again for each value. As in
 * maps.h.
 */
#ifndef XDPPROBE_SCRATCH_H
#define XDPPROBE_SCRATCH_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "knowledge.h"
#include "learned.h"
#include "maps.h"

/* A parsed packet. Addresses and ports are in network byte order, IPv4
 * addresses v4-mapped. */
struct packet {
	__u64 source[2];
	__u64 destination[2];
	__be16 source_port;
	__be16 destination_port;
	__u16 vlan;
	__u8 l4;
	__u8 tcp_flags;
	__u8 ipv6;
	__u8 first_fragment;
	__u8 later_fragment;
	__u8 tunnel;	    /* enum tunnel: what it was inside of */
	__u32 ether_type;   /* behind all tags, host byte order */
	__u32 offset;	    /* of the header that is parsed next */
	__u32 frame_length; /* as the hook has it, all fragments */
	__u32 fragment_id;
	__u32 sequence;	      /* host byte order */
	__u32 payload_offset; /* from the start of the frame */
	__u32 payload_length; /* what IP says, 0 of later fragments */
	__u32 tunnel_id;      /* VXLAN, Geneve: the network, else 0 */
};

/* A flow's place in the table, and the packet's direction in the flow. */
struct place {
	__u64 tag;
	__u32 primary; /* the first candidate set */
	__u32 set;     /* where the entry is */
	__u32 way;
	__u32 direction;
	__u32 now;  /* jiffies */
	__u32 port; /* where the packet was seen: slot * 2 + egress + 1 */
	__u32 born; /* the entry is this packet's making */
	__u32 told; /* the newborn's application by DNS, 0: none */
	__u32 reserved;
};

/* Packets and bytes that the wire carries for the frame in hand. */
struct wire {
	__u64 packets;
	__u64 bytes;
};

/* What inspection found out. */
struct verdict {
	__u16 protocol;
	__u16 app;
	__u8 protocol_method;
	__u8 app_method;
	__u8 confidence;
	__u8 final;
	__u64 name;  /* hash, 0: none */
	__u64 hello; /* hash, 0: none */
	__u8 tls_flags;
	__u8 quiet;  /* readers know it already */
	__u8 walked; /* tls_flags are of a whole hello */
	__u8 reserved[5];
};

/* What one stage hands to the next about the packet in hand. */
struct work {
	__u64 tag;
	__u32 index;	   /* of the flow: set * FLOW_WAYS + way */
	__u32 now;	   /* jiffies */
	__u32 offset;	   /* of the payload in the frame */
	__u32 length;	   /* of the payload, as copied from INSPECT on */
	__u32 sequence;	   /* TCP, host byte order */
	__u16 source_port; /* host byte order */
	__u16 destination_port;
	__u8 l4;
	__u8 direction;
	__u8 method; /* of the name in `name` */
	__u8 name_length;
	__u16 protocol;
	__u16 name_stop; /* byte that ends the name in `name`, 0: none */
	__u8 packet;	 /* number of the payload packet in its direction */
	__u8 responder;	 /* the packet is the flow's responder's */
	__u8 after; /* enum stage to go on with where no pattern fits, or 0 */
	__u8 generation; /* of the tables, for the whole packet */
	__u8 open;	 /* the name in `name` may get company: not final yet */
	__u8 late; /* TLS begins with this packet, in the middle of a stream */
	__u8 partial; /* there is a name, and more of its hello to come */
	__u8 named;   /* the flow has the name of the hello in hand */
	__u8 keep;    /* the segment may be a later one of a hello: late.h */
};

/* What loops carry along stands in a map, which the verifier does not follow: with
 * numbers in registers or on the stack it would walk every value of each (seen
 * on Linux 6.1 and 6.12). */
struct join_state {
	__u32 at;     /* of the next record header */
	__u32 length; /* joined so far */
	__u32 broken;
	__u32 reserved;
};

struct question_state {
	__u32 at;     /* of the next label's length */
	__u32 length; /* of the name so far */
	__s32 result;
	__u32 reserved;
};

/* What a DNS message is, and how far its answer section was read. */
struct answer_state {
	__u32 at;      /* of the next label, pointer or record */
	__u32 end;     /* of the message */
	__u32 records; /* that are still to be looked at */
	__u16 id;
	__u16 response; /* 1: an answer, 0: a query */
	struct resolved_key key;
	struct resolved_app value;
};

/* Extensions whose data are read, once all of them are there. */
enum hello_part {
	PART_NAME,
	PART_ALPN,
	PART_SIGNATURES,
	PART_VERSIONS,
	PART_ECH,
	PART_ESNI,
	PART_MAX,
};

/* How far the walk over a hello's extensions has come. */
struct hello_state {
	__u32 at;
	__s32 result;
	__u32 message; /* where the handshake message begins */
	__u32 ciphers; /* where the list is, and its length in bytes */
	__u32 ciphers_length;
	__u32 extensions;     /* that count; may be more than are kept */
	__u64 sum;	      /* of their keyed hashes: in any order the same */
	__u32 body[PART_MAX]; /* where its data begin, 0: not there */
	__u32 length[PART_MAX]; /* of its data */
};

/* Which way of a full set is given up, as far as was looked. */
struct kept_state {
	__u64 rank;
	__u64 way;
};

/* What the packet in hand says of its flow's hello, see facts.h. */
struct hello_facts {
	__u8 whole; /* `entry` is complete but for the hash */
	__u8 tls_flags;
	__u8 walked; /* tls_flags are of all extensions */
	__u8 reserved[5];
	__u64 known;   /* hash of a hello that the table has already, 0: none */
	__u64 hash[2]; /* of the lists of ciphers and of signatures */
	struct hello_entry entry;
};

/* What a TLS server's first flight says. */
struct server_state {
	__u32 at;      /* of the next extension or message, in `joined` */
	__u16 version; /* negotiated, 0: not known yet */
	__u8 flags;    /* enum tls_flag */
	__u8 reserved;
};

/* A cursor over DER, and the element last read. */
struct der_state {
	__u32 at; /* of the next element */
	__u32 stop;
	__u32 tag;	/* of the last one */
	__u32 from, to; /* its content */
	__u32 wanted;	/* the identifier before it was the one looked for */
};

/* What a certificate says. Offsets in `joined`; a length of 0: none. */
struct certificate_state {
	__u32 subject, subject_stop;
	__u32 common, common_length; /* the subject's last common name */
	__u32 unit, unit_length;     /* its last organizational unit */
	__u32 first, first_length;   /* the first dNSName */
	__u32 alternatives, alternatives_stop;
	__u32 rest; /* where the first dot of the server name is, 0: none */
	__u32 fits; /* a name fits the server name */
	__u32 broken;
	__u32 dots; /* the common name has some */
};

/* How far the search for a request's Host field has come, or for an answer's Server. */
struct http_state {
	__u32 at;      /* of the line that is looked at */
	__u32 from;    /* where the search for its end goes on */
	__u32 value;   /* of the Host field, when found */
	__u32 agent;   /* the User-Agent field's, 0: none so far */
	__u32 type;    /* the Content-Type field's, likewise */
	__u32 action;  /* SOAPAction's */
	__u32 server;  /* Server's */
	__u32 answers; /* it is an answer */
	__u32 lines;
	__s32 result;
	__u32 reserved;
};

/* Guard before and behind the payload: the assembler copies whole words and
 * masks what is not the packet's. */
#define GUARD 64

/* Rows that fit so far, and which one is tried. */
struct match_state {
	__u64 alive[MATCH_WORDS];
	__u32 row;  /* found, + 1; 0: none */
	__u32 word; /* of `alive` that has the row which is tried */
};

/* What the peers say of a flow that is being born, and what is asked of them. */
struct peer_state {
	__u16 protocol; /* label ids, 0: none */
	__u16 app;
	__u8 method; /* enum method, 0: nothing is known */
	__u8 confidence;
	__u8 reserved[2];
	__u64 second; /* of a slot that was found: its second word */
	__u64 value;  /* and its last */
	__u64 address[2];
	__u64 lengths[2]; /* of prefixes, still to be asked for; as a block */
};

struct sha256_state {
	__u32 hash[8];
	__u32 block[16]; /* host byte order */
	__u32 schedule[64];
};

struct aes_state {
	__u32 key[4];
	__u32 block[4];
	__u32 round_key[44];
	__u32 first_round; /* what all blocks of a packet share */
	__u32 second_round[4];
	__u32 last; /* byte of the first round key */
};

/* A CRYPTO frame: where its data stands in the payload, and where in the stream. */
struct quic_piece {
	__u32 at;
	__u32 length;
	__u32 offset;
};

#define QUIC_PIECES 64 /* CRYPTO frames of one packet */

/* The QUIC packet in hand, one of the datagram's. */
struct quic_state {
	__u32 next;   /* where the packet behind it begins */
	__u32 id_at;  /* of the connection id it is sent to */
	__u32 number; /* where its packet number begins */
	__u32 clear;  /* where what was encrypted begins, and ends */
	__u32 clear_end;
	__u32 packets; /* of this datagram so far */
	__u32 at;      /* of the next frame */
	__u32 fields;  /* numbers of an ACK frame that are still to be passed */
	__u32 pieces;
	__u32 first; /* the piece at the stream's start, + 1; 0: none */
	__s32 result;
	__u8 salt; /* enum quic_salt of its version */
	__u8 kind; /* enum quic_kind */
	__u8 id_length;
	__u8 gain; /* the datagram brought what was missing */
	struct quic_piece piece[QUIC_PIECES];
	struct quic_keys keys;
	struct sha256_state sha;
	__u32 inner[8]; /* HMAC's two states behind the key in hand */
	__u32 outer[8];
	__u32 head; /* the packet's first byte */
	struct aes_state aes;
};

/* How far a datagram of DTLS records was looked at. */
struct dtls_state {
	__u32 at;      /* of the next handshake message */
	__u32 stop;    /* of the record that it is in */
	__u32 message; /* number and length of the hello, 0: none so far */
	__u32 fragments;
};

/* How far a STUN message was looked at, and what its attributes say. */
struct stun_state {
	__u32 at;    /* of the next attribute */
	__u32 end;   /* of the message */
	__u32 realm; /* of the attribute's value, 0: none */
	__u32 realm_length;
	__u32 software;
	__u32 software_length;
	__u32 cookie; /* 0: as before RFC 5389 */
	__u32 reserved;
	struct socket_key key;
	struct socket_app value;
};

struct scratch {
	struct packet packet;
	struct packet inside; /* of a tunnel that is one flow */
	struct place place;
	struct wire wire;
	struct work work;
	struct verdict verdict;
	struct http_state http;
	struct join_state join;
	struct question_state question;
	struct answer_state answer;
	struct hello_state hello;
	struct server_state server;
	struct der_state der;
	struct certificate_state certificate;
	struct hello_facts facts;
	struct kept_state kept;
	struct match_state match;
	struct peer_state peer;
	struct quic_state quic;
	struct {
		struct moved_key key;
		struct moved_value value;
	} moved;
	struct dtls_state dtls;
	struct stun_state stun;
	struct text_key text;	/* that is asked about */
	struct text_value told; /* the best answer, confidence 0: none */
	struct name_key key;
	__u32 reserved;
	__u8 name[NAME_MAX_LEN + 1];
	struct flow_record record;
	__u8 guard_before[GUARD];
	struct bytes payload;
	__u8 guard_behind[GUARD];
};

_Static_assert(sizeof(struct scratch) <= 32768, "a per-CPU value's limit");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

/* A handshake message whose records were taken apart. Twice the length that is
 * used, so that offset + length needs no joint bound. */
struct joined_bytes {
	__u8 b[32768];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct joined_bytes);
} joined SEC(".maps");

#endif /* XDPPROBE_SCRATCH_H */
