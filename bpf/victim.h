/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which slot a new flow takes: its home if that is free or its flow expired;
 * else another one that is; else that of the unestablished flow that has been
 * silent for longest; an established flow's only where there is nothing else.
 *
 * In a flood the table is full of live unestablished flows, and to read a whole
 * set only to find that out costs more than all else (docs/design/
 * table-flood.md). So an entry remembers that there was no room when it was born
 * (FLOW_CROWDED), and while it is unestablished the next flow of this home takes
 * its place without looking around; one in CROWDED_LOOKS looks all the same.
 */
#ifndef XDPPROBE_VICTIM_H
#define XDPPROBE_VICTIM_H

#include "bits.h"
#include "flow.h"

/*
 * How a set's entry ranks, in one number that can be compared: its class, then
 * its age, then how early the search comes to it (which also says which it is).
 * The highest one is the victim. No branch depends on what the set holds: the
 * CPU's every guess would be wrong.
 *
 *   63     43 42   40 39  35 34             3 2    0
 *  +---------+-------+------+----------------+------+
 *  |    0    | class |  0   | silent jiffies | turn |
 *  +---------+-------+------+----------------+------+
 */
#define CLASS_ESTABLISHED 0
#define CLASS_UNSURE 1 /* unestablished, or closed */
#define CLASS_EXPIRED 2
#define CLASS_FREE 3
#define CLASS_FOUND 4 /* no victim: the flow itself is there */
#define CLASS_SHIFT 40
#define RANK_TURN (FLOW_WAYS - 1)

#define CROWDED_LOOKS 64 /* a power of two */
#define HOME_WALK 4	 /* ways looked at before the whole set is */

/* The time limits of rank_of, read once. */
struct limits {
	__s64 new;
	__s64 established; /* more than of new ones */
	__s64 closed;
};

struct survey {
	__u64 best; /* highest rank */
	__u32 live; /* entries in use */
};

static __always_inline __u32 rank_class(__u64 rank)
{
	return rank >> CLASS_SHIFT;
}

/* flow_age(), without a branch. */
static __always_inline __s64 rank_age(const struct flow_hot *f, __u32 now)
{
	__s64 a = (__u32)(now - f->seen[0]), b = (__u32)(now - f->seen[1]);
	__s64 last = (__s64)age_limit() - 1;

	a &= ~sign_mask(last - a);
	b &= ~sign_mask(last - b);
	return b + ((a - b) & sign_mask(a - b));
}

static __always_inline struct limits limits_read(void)
{
	return (struct limits){
		.new = idle_new,
		.established = (__s64)idle_established - idle_new,
		.closed = (__s64)idle_closed - idle_new,
	};
}

static __always_inline __u64 rank_of(const struct flow_hot *f, __u32 turn,
				     __u32 now, const struct limits *limits)
{
	__u64 state = f->state;
	__s64 age = rank_age(f, now);
	__s64 limit = limits->new + (limits->established & -(state & 1)) +
		      (limits->closed & -(state >> 1 & 1));
	__u64 expired = sign_bit(limit - age);
	__u64 free = zero_bit(f->tag);
	__u64 class = (~state & ~expired & 1) | free | (expired | free) << 1;

	return class << CLASS_SHIFT | (age & (free - 1)) << 3 |
	       (RANK_TURN - turn);
}

static __always_inline void set_survey(const struct flow_set *set,
				       const struct place *at,
				       const struct limits *limits,
				       struct survey *out)
{
	__u32 home = home_way(at->tag);

	/* Else clang 14 reads the tag anew at the end of the loop and falls into its
	 * beginning, which 6.1 takes for endless: tests/unit/test_object_loops.py. */
	opaque(home);
	out->best = 0;
	out->live = FLOW_WAYS;
#pragma clang loop unroll(disable)
	for (int i = 0; i < FLOW_WAYS; i++) {
		__u32 way = (home + i) & (FLOW_WAYS - 1);
		__u64 rank = rank_of(&set->way[way], i, at->now, limits);
		__s64 less = out->best - rank;

		out->best -= less & sign_mask(less);
		out->live -= rank >> (CLASS_SHIFT + 1) & 1;
	}
}

static __always_inline __u32 survey_way(const struct survey *s, __u64 tag)
{
	return (home_way(tag) + RANK_TURN - (s->best & RANK_TURN)) &
	       (FLOW_WAYS - 1);
}

/* True: the second set takes the flow. `stay`: not for an unestablished one's
 * age alone. */
static __always_inline bool prefer_second(const struct survey *a,
					  const struct survey *b, bool stay)
{
	if (b->live < FLOW_WAYS)
		return b->live < a->live;
	if (a->live < FLOW_WAYS)
		return false;
	return stay ? rank_class(b->best) > rank_class(a->best) :
		      b->best > a->best;
}

/* Another set's survey: true if it was there to be looked at. */
static __always_inline bool other_survey(__u32 index, const struct place *at,
					 const struct limits *limits,
					 struct survey *out)
{
	struct flow_set *set = bpf_map_lookup_elem(&flow_hot, &index);

	if (set)
		set_survey(set, at, limits, out);
	return set;
}

/* The best slot for the flow in `at`: its class, and the slot in `at`. The second
 * set is not asked while the first one has room to spare, and the third one, of
 * which a home may use one entry, only where the others have none that is free or
 * expired. `stay`: where `at` stands now is as good as any unestablished flow's
 * slot. */
static __always_inline int slot_survey(const struct flow_set *first,
				       struct place *at,
				       const struct limits *limits, bool stay)
{
	__u32 second = second_set(at->tag), third = third_set(at->tag);
	const struct flow_hot *home = &first->way[home_way(at->tag)];
	struct survey a, b;

	set_survey(first, at, limits, &a);
	if (a.live >= SET_COMFORT && other_survey(second, at, limits, &b) &&
	    prefer_second(&a, &b, stay)) {
		at->set = second;
		a = b;
	}
	if (a.live == FLOW_WAYS && !(home->away & AWAY_THIRD) &&
	    other_survey(third, at, limits, &b) && b.live < FLOW_WAYS) {
		at->set = third;
		a = b;
	}
	if (stay && rank_class(a.best) == CLASS_UNSURE)
		return CLASS_UNSURE;
	at->way = survey_way(&a, at->tag);
	return rank_class(a.best);
}

/* Find the packet's slot: where its flow is, or else the victim's. The class of
 * what is there, or -1; scratch.place has the slot. Global: verified once. */
__noinline int slot_choose(void)
{
	struct limits limits = limits_read();
	struct scratch *s = scratch_get();
	struct flow_set *first;
	struct flow_hot *f;
	struct place *at;
	__u32 class, turn;
	bool crowded;

	if (!s)
		return -1;
	opaque(s);
	at = &s->place;
	first = bpf_map_lookup_elem(&flow_hot, &at->primary);
	if (!first)
		return -1;
	if (flow_find(at))
		return CLASS_FOUND;
	at->set = at->primary;
#pragma clang loop unroll(disable)
	for (turn = 0; turn < HOME_WALK; turn++) {
		at->way = (home_way(at->tag) + turn) & (FLOW_WAYS - 1);
		f = &first->way[at->way & (FLOW_WAYS - 1)];
		class = rank_class(rank_of(f, 0, at->now, &limits));
		if (class != CLASS_ESTABLISHED)
			break;
	}
	if (!turn && class > CLASS_UNSURE)
		return class;
	crowded = class == CLASS_UNSURE && f->flags & FLOW_CROWDED;
	if (crowded && at->tag >> 32 & (CROWDED_LOOKS - 1))
		return class;
	return slot_survey(first, at, &limits, crowded);
}

#endif /* XDPPROBE_VICTIM_H */
