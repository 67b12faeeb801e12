/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The counters of what is no flow's: a part of abi.h. */
#ifndef XDPPROBE_ABI_COUNTERS_H
#define XDPPROBE_ABI_COUNTERS_H

#include <linux/types.h>

/*
 * Where a packet that belongs to no flow went (REASON_*), what could not be
 * done and would otherwise be lost in silence (LOSS_*), and what is good to
 * know (INFO_*). Index of `counters`; the names are printed as they stand here.
 */
enum counter {
	REASON_ARP = 0,	   /* ARP and RARP */
	REASON_NOT_IP,	   /* other EtherTypes, LLC */
	REASON_TRUNCATED,  /* ends inside a header */
	REASON_MALFORMED,  /* a header contradicts itself */
	REASON_TAGS,	   /* more VLAN tags or MPLS labels than parsed */
	REASON_IPV6_CHAIN, /* more IPv6 extension headers than parsed */
	REASON_FRAGMENT,   /* later fragment of an unknown datagram */
	REASON_NO_MAP,	   /* a map look-up failed: never in practice */
	REASON_TABLE_BUSY, /* new flow, table locked for too long */
	LOSS_EVICTED_ESTABLISHED, /* live established flow pushed out */
	LOSS_EVICTED_NEW,	  /* live unestablished flow pushed out */
	LOSS_TAIL_CALL,		  /* inspection stage missing */
	LOSS_LOAD_BYTES,	  /* payload could not be copied */
	LOSS_BUDGET,		  /* inspection ended without a verdict */
	LOSS_HELLO_FULL,	  /* no slot for an unfinished hello */
	LOSS_HELLO_BUSY,	  /* slot held by another CPU for too long */
	LOSS_HELLO_LONG,	  /* beyond what is kept, or read, of a hello */
	LOSS_HELLO_AGED,	  /* unfinished hello given up for another */
	LOSS_HELLO_MALFORMED,	  /* hello that contradicts itself */
	LOSS_NAME_CHARS,	  /* name with bytes that no host name has */
	LOSS_NAME_FULL,		  /* name table slot busy: flow without name */
	LOSS_NAME_EVICTED,	  /* name pushed out; its flows lose the text */
	LOSS_STALE_FLOW,	  /* flow left the table while inspected */
	LOSS_VERDICT_BUSY,	  /* verdict lost, table locked for too long */
	LOSS_RING_FULL,		  /* record not written: reader too slow */
	LOSS_MATCH_TRIES,	  /* more signatures fit than are looked at */
	INFO_NO_READER,		  /* record not written: nobody reads */
	INFO_DUPLICATE,		  /* seen before on another interface */
	INFO_EXPIRED,		  /* flows ended by idle time-out */
	INFO_CLOSED,		  /* flows ended by FIN or RST */
	INFO_INSPECTED,		  /* packets that reached inspection */
	INFO_HELLO_PIECES,	  /* pieces given to the hello assembler */
	INFO_HELLO_JOINED,	  /* hellos completed from pieces */
	INFO_NAMED,		  /* names extracted */
	INFO_MATCHED,		  /* packets that a signature's pattern fits */
	INFO_RESOLVED,		  /* DNS answers whose addresses were noted */
	INFO_UNASKED,		  /* DNS answers to no query that was seen */
	INFO_GSO,		  /* aggregates seen at tc (bytes: as wired) */
	LOSS_QUIC_BUDGET, /* QUIC Initial not opened: too many a second */
	LOSS_QUIC_SEALED, /* QUIC Initial that its keys do not open */
	INFO_QUIC_OPENED, /* QUIC Initials opened */
	INFO_QUIC_MOVED,  /* QUIC flows known by an earlier one's id */
	LOSS_CERTIFICATE_MALFORMED, /* certificate that is no DER, or lies */
	LOSS_CERTIFICATE_LONG, /* more names or extensions than looked at */
	INFO_CERTIFICATES,     /* certificates read */
	INFO_TEXTS,	       /* texts that a signature knows */
	INFO_SOCKETS,	       /* named by what else their socket does */
	LOSS_STUN_LONG,	       /* more STUN attributes than are looked at */
	LOSS_FACTS,	       /* named hello that never came whole, or whose
				   * lists are too long: no fingerprint */
	LOSS_FACTS_FULL,       /* hello table slot busy: no fingerprint */
	LOSS_FACTS_EVICTED,    /* hello pushed out; its flows lose it */
	INFO_ECH,	       /* names that only stand for encrypted ones */
	COUNTER_MAX,
};

struct counter_value {
	__u64 packets;
	__u64 bytes;
};

#endif /* XDPPROBE_ABI_COUNTERS_H */
