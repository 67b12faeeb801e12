/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What user space sees: the layout of every map value and ring record, and the
 * numbers that stand in them. User space reads these structs from the object's
 * BTF at run time, so this header, with the two that it includes, is their only
 * copy. A change here changes the hash in the name of the pin directory, and so a
 * probe that runs an older layout is named by `xdpprobe status`, never half-read.
 *
 * Rules: fixed-width types, no implicit padding, sizes asserted.
 */
#ifndef XDPPROBE_ABI_H
#define XDPPROBE_ABI_H

#include <linux/types.h>

#include "abi_counters.h"
#include "abi_knowledge.h"

#define FLOW_WAYS 8	 /* entries a set */
#define MAX_LABELS 8192	 /* protocol and application ids are below */
#define MAX_SLOTS 120	 /* interfaces of one probe */
#define MAX_READERS 4	 /* ring buffers that may be read at once */
#define NAME_MAX_LEN 255 /* RFC 1035, 2.3.4: octets of a domain name */
#define DIRECTIONS 2
#define ASKED 4 /* DNS queries of a flow that may wait for their answers */

/* Protocol ids that the data plane itself gives; signatures/protocols.toml
 * gives them names and must agree (checked at load). 0 is "unknown". */
enum protocol {
	PROTOCOL_UNKNOWN = 0,
	PROTOCOL_TLS = 1,
	PROTOCOL_HTTP = 2,
	PROTOCOL_DNS = 3,
	PROTOCOL_SSH = 4,
	PROTOCOL_QUIC = 5,
	PROTOCOL_MDNS = 6,
	PROTOCOL_LLMNR = 7,
	/* Those within which TLS may begin (late.h), and those that are TLS. */
	PROTOCOL_LDAP = 95,
	PROTOCOL_SOCKS = 96,
	PROTOCOL_FTP_CONTROL = 100,
	PROTOCOL_FTPS = 102,
	PROTOCOL_IMAP = 110,
	PROTOCOL_IMAPS = 111,
	PROTOCOL_POP3 = 112,
	PROTOCOL_POPS = 113,
	PROTOCOL_SMTP = 114,
	PROTOCOL_SMTPS = 115,
	PROTOCOL_MYSQL = 123,
	PROTOCOL_POSTGRESQL = 125,
	PROTOCOL_HTTP_CONNECT = 188,
	PROTOCOL_HTTP_PROXY = 189,
	PROTOCOL_JABBER = 368,
	PROTOCOL_DTLS = 337,
};

/* Evidence, weakest first: a stronger one replaces a weaker one. */
enum method {
	METHOD_NONE = 0,
	METHOD_PORT,
	METHOD_PREFIX,
	METHOD_STATISTICS,
	METHOD_PEER,
	METHOD_DNS,
	METHOD_PATTERN,
	METHOD_ECH_OUTER,
	METHOD_HTTP_HOST,
	METHOD_HTTP_SERVER, /* what answers in the place of that host */
	METHOD_SOCKS,
	METHOD_CERTIFICATE,
	METHOD_QUIC_SNI,
	METHOD_SNI,
};

/* Programs behind the entry points, by tail call: index of `xdp_stages` and
 * `tc_stages`. Program names are a hook and one of these: xdp_inspect. */
enum stage {
	STAGE_INSPECT = 0, /* copy the payload, look for what it is */
	STAGE_STREAM,	   /* put an unfinished hello together */
	STAGE_NAME,	   /* match a server name, keep it, decide */
	STAGE_MATCH,	   /* match the signatures' patterns, decide */
	STAGE_QUIC,	   /* open a QUIC Initial */
	STAGE_CRYPTO,	   /* read the hello in it, or put it together */
	STAGE_SERVER,	   /* read a TLS server's first flight */
	STAGE_STUN,	   /* look at a STUN message's attributes, decide */
	STAGE_DTLS,	   /* read a DTLS hello, or put it together */
	STAGE_MAX,
};

enum flow_state {
	FLOW_NEW = 0,	  /* one direction only, few packets */
	FLOW_ESTABLISHED, /* answered, or more than a handful of packets */
	FLOW_CLOSED,	  /* TCP: RST, or FIN both ways */
};

/* Bits of flow_hot.flags. Those with two forms come a direction each: the form
 * for direction d is BIT << d. */
enum flow_flag {
	FLOW_INITIATOR_1 = 1 << 0, /* endpoint 1 opened the flow, else 0 */
	FLOW_KEPT = 1 << 1,	   /* client's segments are kept: late.h */
	FLOW_FINAL = 1 << 2,	   /* nothing more to inspect */
	FLOW_ANSWERED_0 = 1 << 3,  /* payload or ACK from endpoint 0 */
	FLOW_ANSWERED_1 = 1 << 4,
	FLOW_FIN_0 = 1 << 5,
	FLOW_FIN_1 = 1 << 6,
	FLOW_ISN_0 = 1 << 7, /* cold.isn[0] is valid */
	FLOW_ISN_1 = 1 << 8,
	FLOW_START_0 = 1 << 9, /* first payload bytes were examined */
	FLOW_START_1 = 1 << 10,
	FLOW_PENDING_0 = 1 << 11, /* a hello is being put together */
	FLOW_PENDING_1 = 1 << 12,
	FLOW_RST_0 = 1 << 13, /* RST seen, and nothing else since */
	FLOW_RST_1 = 1 << 14,
	FLOW_CROWDED = 1 << 15, /* born where there was no room: victim.h */
};

/* Times in the tables are the low 32 bits of jiffies. One that lies less than
 * AGE_SLACK ahead is another CPU's of this moment; what lies further ahead is
 * long ago. So ages are right for 49 days at 1000 Hz, 198 at 250. */
enum age { AGE_SLACK = 1 << 16 };

/*
 * A flow: two array elements at the same index. Endpoint 0 is the one whose
 * (address, port) compares lower, word by word as they lie in memory; direction
 * d is what endpoint d sent.
 * Hot: all that an established flow's packet touches, one cache line.
 */
struct flow_hot {
	__u64 tag; /* keyed hash of the key; 0: free */
	__u64 packets[DIRECTIONS];
	__u64 bytes[DIRECTIONS]; /* frame bytes without FCS */
	__u32 seen[DIRECTIONS];	 /* jiffies, low 32 bits; of direction d */
	__u16 app;		 /* label id of the application, 0: none */
	__u16 protocol;		 /* label id of the wire protocol, 0: unknown */
	__u8 app_method;	 /* enum method */
	__u8 protocol_method;
	__u8 app_confidence; /* 0..100 */
	__u8 protocol_confidence;
	__u8 owner[DIRECTIONS]; /* port (slot * 2 + egress) that counts, + 1 */
	__u8 spent[DIRECTIONS]; /* payload packets inspected */
	__u8 state;		/* enum flow_state */
	__u8 away;   /* flows whose home this is and that live elsewhere */
	__u16 flags; /* enum flow_flag */
};

/*
 * flow_hot.away: how many live in other ways of the set, at most seven; in
 * their second set, at most eight; in their third one, at most one.
 *
 *     7     6        3 2      0
 *  +-------+----------+--------+
 *  | third |  second  |  near  |
 *  +-------+----------+--------+
 */
enum away {
	AWAY_NEAR = 0x01,
	AWAY_NEAR_MASK = 0x07,
	AWAY_SECOND = 0x08,
	AWAY_SECOND_MASK = 0x78,
	AWAY_THIRD = 0x80,
};

/* What a flow's packets come in, where the probe looks inside. */
enum tunnel {
	TUNNEL_NONE = 0,
	TUNNEL_VXLAN,  /* RFC 7348 */
	TUNNEL_GENEVE, /* RFC 8926 */
	TUNNEL_GTP_U,  /* 3GPP TS 29.281 */
	TUNNEL_GRE,    /* RFC 2784, RFC 2890 */
	TUNNEL_IP,     /* RFC 2003, RFC 2473, RFC 4213 */
};

/* Bits of flow_cold.tls_flags. */
enum tls_flag {
	TLS_ECH = 1 << 0,	   /* the client's true name is encrypted */
	TLS_ECH_GREASE = 1 << 1,   /* an ech extension that says nothing */
	TLS_RESUMED = 1 << 2,	   /* a session of before goes on */
	TLS_SNI_MISMATCH = 1 << 3, /* the certificate is for other names */
	TLS_LATE = 1 << 4,	   /* TLS began after another protocol */
};

/* Cold: written at birth and by verdicts. IPv4 addresses are v4-mapped
 * (RFC 4291, 2.5.5.2). Ports are in network byte order. */
struct flow_cold {
	__u64 tag; /* as hot.tag once the birth is complete */
	__u8 address[DIRECTIONS][16];
	__u8 port[DIRECTIONS][2];
	__u16 vlan;	       /* outermost VLAN id, 0: none */
	__u8 l4;	       /* IP protocol number */
	__u8 slot;	       /* interface of the first packet */
	__u64 first_ns;	       /* CLOCK_MONOTONIC at birth */
	__u64 name;	       /* name_entry.hash of the server name, 0: none */
	__u32 isn[DIRECTIONS]; /* TCP initial sequence numbers */
	__u32 named_after;     /* packets of both directions when named */
	__u32 reported;	       /* jiffies of the last active record */
	__u32 tunnel_id;       /* VXLAN, Geneve: the network, else 0 */
	__u8 tunnel;	       /* enum tunnel: what the flow is inside of */
	__u8 stage;	       /* what a signature noted last, see match_row */
	__u16 asked[ASKED];    /* identifications of its last DNS queries */
	__u8 asking;	       /* bit i: asked[i] waits for its answer */
	__u8 reserved[1];
	__u64 hello;	   /* hello_entry.hash of the client's hello, 0: none */
	__u16 tls_version; /* negotiated, as in TLS: 0x0304; 0: not seen */
	__u8 tls_flags;	   /* enum tls_flag */
	__u8 reserved_tls[5];
};

/* A server name, shared by the flows that have it; name_index() of the hash
 * gives the set of NAME_WAYS elements to search. */
#define NAME_WAYS 4
struct name_entry {
	__u64 hash; /* keyed; 0: free, 1: being written */
	__u32 used; /* jiffies of the last flow named so */
	__u16 app;  /* what the rules of that moment said */
	__u8 length;
	__u8 answered; /* 1: a connection had it, whose ends spoke */
	__u8 text[NAME_MAX_LEN + 1]; /* lower case, no NUL unless shorter */
};

/*
 * What a client's TLS library says of itself in a hello (RFC 8446, 4.1.2), shared
 * by the flows that say the same; the hash gives the set of HELLO_WAYS_KEPT elements
 * to search. Numbers are 16 bits each in network byte order, a list from its first
 * word on; what stands behind it is of other hellos. Extensions are in the order of
 * the first hello that said so, the others as sent. GREASE values (RFC 8701) all
 * read 0x0a0a; of extensions they are left out.
 */
#define HELLO_WAYS_KEPT 4
#define HELLO_CIPHERS 128
#define HELLO_SIGNATURES 64
#define HELLO_EXTENSIONS 64
#define HELLO_ALPN 32
struct hello_entry {
	__u64 hash;    /* keyed; 0: free, 1: being written */
	__u32 used;    /* jiffies of the last flow with it */
	__u16 version; /* the highest that is offered */
	__u8 answered; /* 1: a connection had it, whose ends spoke */
	__u8 named;    /* it has a server_name extension */
	__u8 ciphers;  /* how many there are */
	__u8 signatures;
	__u8 extensions;
	__u8 alpn_length; /* may be more than are kept */
	__u32 reserved;
	__u8 alpn[HELLO_ALPN]; /* first protocol of ALPN (RFC 7301) */
	__u64 cipher[HELLO_CIPHERS / 4];
	__u64 signature[HELLO_SIGNATURES / 4];
	__u64 extension[HELLO_EXTENSIONS / 4];
};

/* What flows of a label left behind when they went. Index: stripe *
 * MAX_LABELS + label, where label is the application or else the protocol. */
struct retired_value {
	__u64 packets[2]; /* [0] from the initiator, [1] to it */
	__u64 bytes[2];
	__u64 flows;
};

/* Totals of an interface, a direction each: [0] ingress, [1] egress. */
struct port_totals {
	__u64 packets[2];
	__u64 bytes[2];
};

/* The one value that user space changes while the probe runs. */
struct control_value {
	__u32 generation; /* selects the tables: generation & 1 */
	__u32 readers;	  /* bit i: ring i is being read */
	__u32 peers;	  /* enum peers */
	__u32 reserved;
};

enum record_kind {
	RECORD_NAMED = 1, /* the flow got a verdict, or a better one */
	RECORD_ENDED,	  /* closed */
	RECORD_EXPIRED,	  /* idle time-out, seen when the slot was reused */
	RECORD_EVICTED,	  /* pushed out by another flow */
	RECORD_ACTIVE,	  /* still going on after the active time-out */
};

struct flow_record {
	__u32 kind; /* enum record_kind */
	__u32 now;  /* jiffies */
	struct flow_hot hot;
	struct flow_cold cold;
	__u8 name[NAME_MAX_LEN + 1];
};

/* Replay: what BPF_PROG_TEST_RUN cannot say of a captured packet. */
struct replay_value {
	__u64 time_ns;	   /* capture time */
	__u32 wire_length; /* original length, without a made-up link header */
	__u32 flow_index;  /* answer: element of the flow table + 1, or 0 */
};

/* Filled by the program clock_read, which is only ever test-run. */
struct clock_value {
	__u64 jiffies;
	__u64 ktime_ns;	 /* CLOCK_MONOTONIC */
	__u64 coarse_ns; /* the same, at the last tick */
};

/* What an interface slot stands for; written by the loader only. */
#define IFACE_NAME_LEN 16
struct slot_info {
	__u32 ifindex;
	__u32 hook; /* bits: 1 xdp, 2 tc ingress, 4 tc egress; of tc: 8 by
		     * clsact, 16 whose qdisc is the probe's */
	__u32 mode; /* 0 none, 1 native, 2 skb */
	__u32 reserved;
	__u64 since_ns; /* CLOCK_BOOTTIME */
	__u64 netns;	/* inode of its network namespace */
	__u8 name[IFACE_NAME_LEN];
	__u8 netns_name[64];
};

/* What a label is called. The loader fills the table before the rules that use
 * it become active; ids never change their meaning, so no swap is needed. */
struct label_info {
	__u8 name[32]; /* slug: "youtube" */
	__u8 category[24];
	__u8 kind; /* 0 unused, 1 protocol, 2 application */
	__u8 reserved[7];
};

/* One element: what was attached, for status and the readers. */
struct probe_info {
	__u8 version[16];    /* of xdpprobe */
	__u8 signatures[32]; /* SHA-256 of the signature files in use */
	__u64 since_ns;	     /* CLOCK_BOOTTIME */
	__u64 loaded_ns;     /* CLOCK_BOOTTIME of the last signature load */
	__u32 flows;	     /* capacity */
	__u32 names;
	__u32 rules;   /* name rules in use */
	__u32 hz;      /* jiffies a second */
	__u32 privacy; /* 0 none, 1 hash, 2 cut */
	__u32 stripes; /* of `retired` */
	__u32 idle_new_ms;
	__u32 idle_established_ms;
	__u32 idle_closed_ms;
	__u32 active_ms;
	__u32 tunnels;	/* 0 flows are the tunnels, 1 what they carry */
	__u32 suffixes; /* the name rules hold the public suffixes */
	__u32 cleared;	/* the privacy that every name kept has; 0: any */
	__u32 texts;	/* of signatures, in use */
};

_Static_assert(sizeof(struct flow_hot) == 64, "one cache line");
_Static_assert(sizeof(struct flow_cold) == 112, "abi");
_Static_assert(sizeof(struct name_entry) == 272, "abi");
_Static_assert(sizeof(struct hello_entry) == 568, "abi");
_Static_assert(sizeof(struct retired_value) == 40, "abi");
_Static_assert(sizeof(struct name_key) == 68, "abi");
_Static_assert(sizeof(struct name_rule) == 8, "abi");
_Static_assert(sizeof(struct peer_value) == 8, "abi");
_Static_assert(sizeof(struct peer_slot) == 32, "abi");
_Static_assert(sizeof(struct peer_bucket) == 64, "one cache line");
_Static_assert(sizeof(struct peer_filter) == 524352, "abi");
_Static_assert(sizeof(struct match_row) == 24, "abi");
_Static_assert(sizeof(struct match_class) == 1215496, "abi");
_Static_assert(sizeof(struct flow_record) == 440, "abi");
_Static_assert(sizeof(struct text_key) == 68, "abi");
_Static_assert(sizeof(struct text_value) == 8, "abi");
_Static_assert(sizeof(struct replay_value) == 16, "abi");
_Static_assert(sizeof(struct slot_info) == 112, "abi");
_Static_assert(sizeof(struct label_info) == 64, "abi");
_Static_assert(sizeof(struct probe_info) == 120, "abi");

#endif /* XDPPROBE_ABI_H */
