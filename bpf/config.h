/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tunables. The loader sets them before the verifier sees the program, so a
 * constant costs nothing and what is switched off is not there. Times are in
 * jiffies. Those marked (table) belong to the flow table: every program that
 * uses the table must have the same.
 */
#ifndef XDPPROBE_CONFIG_H
#define XDPPROBE_CONFIG_H

#include "abi.h"

const volatile __u64 seed_0 = 0; /* hash key (table) */
const volatile __u64 seed_1 = 0;
const volatile __u32 set_mask = 32767;	  /* flow sets - 1 (table) */
const volatile __u32 lock_mask = 1023;	  /* lock stripes - 1 (table) */
const volatile __u32 name_mask = 8191;	  /* name sets - 1 (table) */
const volatile __u32 hello_mask = 1023;	  /* hello slots - 1 (table) */
const volatile __u32 retired_stripes = 1; /* power of two (table) */
const volatile __u32 retired_shared = 1;  /* fewer stripes than CPUs */

const volatile __u32 idle_new = 30 * 250;
const volatile __u32 idle_established = 300 * 250;
const volatile __u32 idle_closed = 5 * 250;
const volatile __u32 idle_least = 5 * 250; /* of these three */
const volatile __u32 active_timeout = 1800 * 250;
const volatile __u32 owner_timeout = 5 * 250; /* silence before re-election */
const volatile __u32 hello_timeout = 2 * 250; /* age of an unfinished hello */
const volatile __u32 fragment_timeout = 30 * 250; /* age of known ports */
const volatile __u32 hz = 250;			  /* jiffies a second */

const volatile __u32 weak_memory = 1;	 /* not x86: stores need a barrier */
const volatile __u32 slot = 0;		 /* interface of this program */
const volatile __u32 raw_ip = 0;	 /* no link header: tun, wg, ppp */
const volatile __u32 inspect_budget = 8; /* payload packets a direction */
const volatile __u32 quic_rate =
	20000; /* QUIC Initials opened a second, a CPU */
const volatile __u32 quic_burst = 2000; /* and at once */
const volatile __u32 privacy = 0;	/* 0 names, 1 hashes, 2 cut */
const volatile __u32 tunnels = 0;	/* 1: flows are those inside of them */
const volatile __u32 replaying = 0;	/* see struct replay_value */
const volatile __u32 fragments_apart = 0; /* later ones are in no flow */

/* IP protocol numbers that are a protocol by themselves: ICMP, OSPF... */
const volatile __u16 l4_protocol[256] = {};

#define PRIVACY_HASH 1
#define PRIVACY_CUT 2

/* A flow whose home is taken stays in its first set up to this many live ones;
 * then the emptier of its first two takes it; the third only where these are full.
 * At 75 % load that leaves 0.04 % of flows without room, and 11 % away from their
 * first set, which cost another wait for memory: docs/design/flow-table-sets.md. */
#define SET_COMFORT 6

/* More packets than this make a flow established that nobody has answered. */
#define ESTABLISHED_PACKETS 8

#endif /* XDPPROBE_CONFIG_H */
