/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps of flows, of the probe itself and of its programs: who writes, who
 * reads, what happens when one is full, what it costs. Sizes are the defaults;
 * the loader sets those marked (sized). More: knowledge.h, learned.h, scratch.h.
 */
#ifndef XDPPROBE_MAPS_H
#define XDPPROBE_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

#define HELLO_SETS 1024 /* a power of two */

struct flow_set {
	struct flow_hot way[FLOW_WAYS];
};

struct cold_set {
	struct flow_cold way[FLOW_WAYS];
};

/* Key: set. Written by every packet, read by user space through mmap. Full: the
 * new flow takes the place of the least valuable one of its first two sets, whose
 * counters go to `retired`. 16.8 MB for 262,144 flows. (sized) */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, struct flow_set);
} flow_hot SEC(".maps");

/* Key: set. Written at a flow's birth and by verdicts. 29.4 MB. (sized) */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 32768);
	__type(key, __u32);
	__type(value, struct cold_set);
} flow_cold SEC(".maps");

/* Key: stripe of sets. Held while a flow is inserted or a verdict is written;
 * see lock.h. A cache line each. */
struct stripe {
	__u32 held;
	__u32 reserved[15];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct stripe);
} flow_lock SEC(".maps");

/* Key: set of NAME_WAYS names. Full: the name used longest ago goes, first among
 * those that no connection had: kept_rank() (LOSS_NAME_EVICTED). 8.9 MB for 32,768
 * names. (sized) */
struct name_set {
	struct name_entry way[NAME_WAYS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct name_set);
} names SEC(".maps");

/* Key: set of HELLO_WAYS_KEPT hellos. Full: as of names (LOSS_FACTS_EVICTED).
 * 2.3 MB. */
struct hello_set {
	struct hello_entry way[HELLO_WAYS_KEPT];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HELLO_SETS);
	__type(key, __u32);
	__type(value, struct hello_set);
} hellos SEC(".maps");

/* Key: stripe * MAX_LABELS + label. Added to when a flow leaves. (sized) */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_LABELS);
	__type(key, __u32);
	__type(value, struct retired_value);
} retired SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTER_MAX);
	__type(key, __u32);
	__type(value, struct counter_value);
} counters SEC(".maps");

/* Key: interface slot. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, struct port_totals);
} ports SEC(".maps");

/* Written by the loader (generation), readers (readers) and `peers` (peers). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control_value);
} control SEC(".maps");

/* The data plane reads none of the next four; they make the pin directory say
 * all that there is to know of a probe. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, struct slot_info);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_info);
} info SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64[2]);
} seed SEC(".maps");

/* Key: reader. A ring has one consumer position, so each reader brings its own
 * and sets its bit in control.readers. Full: LOSS_RING_FULL. */
struct reader_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_READERS);
	__type(key, __u32);
	__array(values, struct reader_ring);
} readers SEC(".maps");

/* Programs behind the entry points. Types and frags flags must match, so each
 * hook has its own. Pinned: an unpinned one is emptied when the loader exits. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STAGE_MAX);
	__type(key, __u32);
	__type(value, __u32);
} xdp_stages SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STAGE_MAX);
	__type(key, __u32);
	__type(value, __u32);
} tc_stages SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct replay_value);
} replay SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct clock_value);
} clock SEC(".maps");

#endif /* XDPPROBE_MAPS_H */
