/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps that user space fills and the data plane only reads: labels, name
 * rules, peers, signatures. As in maps.h.
 */
#ifndef XDPPROBE_KNOWLEDGE_H
#define XDPPROBE_KNOWLEDGE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_LABELS);
	__type(key, __u32);
	__type(value, struct label_info);
} labels SEC(".maps");

/* Key: generation & 1. The loader fills a fresh trie and puts it into the
 * element that is not in use, then raises control.generation: no packet sees
 * half a table. */
struct name_trie {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	/* Not by __type: Linux 6.1 takes a map whose types are not described
	 * for another kind than one whose types are. */
	__uint(key_size, sizeof(struct name_key));
	__uint(value_size, sizeof(struct name_rule));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct name_trie);
} name_rules SEC(".maps");

/* Peers; key: source * 2 + generation, as of peer_filters. Made, filled and sized by
 * `xdpprobe peers`, which refuses more than PEERS_MAX, or by the loader, as the name
 * rules; without any there is none. Two to four slots of 32 bytes a peer, and as
 * many a block of prefixes. The data plane only reads. docs/design/peers.md. */
struct peer_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__uint(max_entries, 1); /* of this pattern for others alone */
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct peer_bucket));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct peer_table);
} peers SEC(".maps");

/* Written with the one above. The more a set holds, the more bits are set, and the
 * oftener a look-up is for nothing: for a fifth of all ends at a million. 2 MB. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct peer_filter);
} peer_filters SEC(".maps");

/* The signatures' patterns, two generations like the name rules. Not full: the
 * compiler refuses what does not fit. 4.8 MB and 2 MB, twice while reloading. */
struct match_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MATCH_CLASSES);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct match_class));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct match_table);
} match_tables SEC(".maps");

struct automaton_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct match_automaton));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct automaton_table);
} match_automata SEC(".maps");

/* The signatures' texts, two generations like the name rules. Full: the compiler
 * refuses more. 128 bytes a text. */
struct text_trie {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__uint(key_size, sizeof(struct text_key));
	__uint(value_size, sizeof(struct text_value));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct text_trie);
} texts SEC(".maps");

#endif /* XDPPROBE_KNOWLEDGE_H */
