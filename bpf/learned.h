/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the data plane remembers beside flows, each map with a cap and a way out:
 * sockets, unfinished hellos, connections that moved, fragments, DNS answers. As in
 * maps.h.
 */
#ifndef XDPPROBE_LEARNED_H
#define XDPPROBE_LEARNED_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

/* Longest stream prefix that is kept to find a name in: a ClientHello of 16 kB
 * with its record headers. 272 blocks of 64 bytes. */
#define STREAM_BLOCK 64
#define STREAM_BLOCKS 272
#define STREAM_MAX (STREAM_BLOCKS * STREAM_BLOCK)

struct bytes {
	__u8 b[STREAM_MAX];
};

/* Sockets whose STUN messages said whose they are, see stun.h. Full: about the one
 * that was used longest ago goes; what else it does has no application then. 0.5 MB. */
struct socket_key {
	__u8 address[16];
	__u8 port[2];
	__u16 vlan;
	__u32 tunnel_id;
};

struct socket_app {
	__u32 seen; /* jiffies */
	__u16 app;
	__u16 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct socket_key);
	__type(value, struct socket_app);
} sockets SEC(".maps");

/* What opens a connection's Initials, and the connection id that it was derived from. */
#define QUIC_ID_MAX 20 /* RFC 9000, 17.2 */
struct quic_keys {
	__u32 key[4];
	__u32 nonce[3];
	__u32 header[4]; /* header protection's */
	__u8 id[QUIC_ID_MAX];
	__u8 id_length;
	__u8 salt; /* enum quic_salt; 0: there are no keys */
	__u8 reserved[2];
};

/* An unfinished hello: stream bytes at their offset, a bit a byte that is
 * there. Held through `busy` by one CPU at a time. */
struct hello_slot {
	__u64 owner; /* flow tag and direction; 0: free */
	__u32 busy;
	__u32 born;	  /* jiffies */
	__u32 base;	  /* TCP sequence number of offset 0 */
	__u32 contiguous; /* bytes from offset 0 without a hole */
	__u32 synced;	  /* base is known to be the stream's start */
	__u32 answered;	  /* the flow's other end has spoken */
	__u32 due;	  /* contiguous bytes before it is read again */
	__u32 work;	  /* that it was, see HELLO_WORK_MAX */
	__u32 named;	  /* its name was given before it was whole */
	__u32 message;	  /* of DTLS: its number and length, see dtls.h */
	__u32 kept;	  /* segments that may be of a hello, see late.h */
	__u32 heard;	  /* what the other end had said before those */
	__u32 reserved;
	struct quic_keys keys; /* of a hello that comes in QUIC */
	__u64 cover[STREAM_BLOCKS];
	struct bytes data;
};

/* Key: slot. Full: the oldest of HELLO_WAYS that is older than hello_timeout
 * or not synced goes; or for a flow that was answered, one of a flow that was
 * not, or that is older than a real hello gets; else LOSS_HELLO_FULL. 20 MB. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct hello_slot);
} hello_slots SEC(".maps");

/* What a CPU may still spend on opening QUIC Initials, see quic_budget.h. */
struct quic_bucket {
	__u32 left;   /* Initials */
	__u32 filled; /* jiffies */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct quic_bucket);
} quic_budget SEC(".maps");

/* What QUIC connections are called, by the server and the id that it chose, see
 * moved.h. Written by a server's first answer, read at the first packet of a flow that
 * may be one's. Full: about the one that was written or read longest ago goes, and is
 * not known by another port any more. 1.6 MB. */
struct moved_key {
	__u64 id; /* the first bytes */
	__u8 address[16];
	__u8 port[2];
	__u16 vlan;
	__u32 tunnel_id;
};

struct moved_value {
	__u64 name;    /* name_entry.hash */
	__u64 hello;   /* hello_entry.hash */
	__u64 rest[2]; /* of the id */
	__u32 learned; /* jiffies */
	__u16 app;
	__u8 id_length;
	__u8 tls_flags; /* enum tls_flag */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct moved_key);
	__type(value, struct moved_value);
} moved SEC(".maps");

/* Ports of the datagrams whose first fragment was seen. Full: the oldest goes;
 * its later fragments count as REASON_FRAGMENT. 0.5 MB. */
struct fragment_key {
	__u64 address[4];
	__u32 id;
	__u32 tunnel_id;
	__u16 l4;
	__u16 vlan;
	__u32 reserved;
};

struct fragment_ports {
	__be16 source;
	__be16 destination;
	__u32 seen; /* jiffies */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct fragment_key);
	__type(value, struct fragment_ports);
} fragments SEC(".maps");

/* Addresses that a client was told by DNS, see resolved.h. Written by answers to
 * queries that were seen, read at a flow's birth. Full: about the one that was
 * written or read longest ago goes; the client's next flows to it have no
 * application until something better gives them one. Client and server as in the
 * flow table, for networks may use the same addresses. 9.5 MB. */
struct resolved_key {
	__u64 client[2];
	__u64 server[2];
	__u32 tunnel_id;
	__u16 vlan;
	__u16 reserved;
};

struct resolved_app {
	__u32 expires; /* jiffies */
	__u16 app;
	__u16 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct resolved_key);
	__type(value, struct resolved_app);
} resolved SEC(".maps");

/* When the last of them is over: until the first answer comes, and after the last
 * one's time, a flow's birth asks no more than this. */
struct resolved_last {
	__u32 expires; /* jiffies */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct resolved_last);
} resolved_last SEC(".maps");

#endif /* XDPPROBE_LEARNED_H */
