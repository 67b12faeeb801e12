/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The evidence ladder: protocol and application each keep the method that named
 * them; stronger evidence replaces weaker, never the other way round.
 */
#ifndef XDPPROBE_VERDICT_H
#define XDPPROBE_VERDICT_H

#include "hellos.h"
#include "track.h"

/* Of the same method the more confident evidence counts, of two alike the later. */
static __always_inline bool stronger(__u8 method, __u8 confidence,
				     __u8 old_method, __u8 old_confidence)
{
	return method > old_method ||
	       (method == old_method && confidence >= old_confidence);
}

/* Of what this direction sends nothing more will be read: of both, it is final. */
static __always_inline void direction_done(struct flow_hot *f, __u32 direction)
{
	__u32 d = direction & 1;

	f->spent[d] = inspect_budget;
	if (f->spent[d ^ 1] >= inspect_budget)
		flow_mark(f, FLOW_FINAL);
}

/* What the client was told of the address is no longer worth anything where the flow
 * has a name of its own that no rule knows. */
static __always_inline bool outdated(const struct verdict *v, __u8 old_method)
{
	return !v->app && v->app_method > METHOD_PATTERN &&
	       old_method == METHOD_DNS;
}

/* A whole hello knows better than its first piece. */
static __always_inline void facts_apply(struct flow_cold *c,
					const struct verdict *v)
{
	if (v->hello)
		c->hello = v->hello;
	if (v->walked)
		c->tls_flags &= ~(TLS_ECH | TLS_ECH_GREASE);
	c->tls_flags |= v->tls_flags;
}

/* Under the lock, and only if the entry is still the flow's: a verdict must
 * never reach the flow that took its place. */
static __always_inline bool verdict_apply(const struct work *w,
					  const struct verdict *v)
{
	__u32 stripe = (w->index / FLOW_WAYS) & lock_mask;
	struct flow_hot *f = flow_at(w->index);
	struct flow_cold *c = cold_at(w->index);
	struct stripe *guard;
	bool ours;

	if (!f || !c)
		return false;
	guard = lock_take(stripe);
	if (!guard) {
		count(LOSS_VERDICT_BUSY);
		return false;
	}
	ours = f->tag == w->tag;
	if (ours) {
		if (v->protocol &&
		    stronger(v->protocol_method, v->confidence,
			     f->protocol_method, f->protocol_confidence)) {
			f->protocol = v->protocol;
			f->protocol_method = v->protocol_method;
			f->protocol_confidence = v->confidence;
		}
		if (v->app && stronger(v->app_method, v->confidence,
				       f->app_method, f->app_confidence)) {
			f->app = v->app;
			f->app_method = v->app_method;
			f->app_confidence = v->confidence;
		} else if (outdated(v, f->app_method)) {
			f->app = f->app_method = f->app_confidence = 0;
		}
		if (v->name && v->protocol_method >= f->protocol_method)
			c->name = v->name;
		if (!c->named_after)
			c->named_after = f->packets[0] + f->packets[1];
		facts_apply(c, v);
		if (v->final)
			flow_mark(f, FLOW_FINAL);
	}
	lock_release(guard);
	if (!ours) {
		count(LOSS_STALE_FLOW);
		return false;
	}
	return true;
}

/* Apply scratch.verdict, and tell the readers; scratch.name holds the name's
 * text, if it has one. Global: verified once. */
__noinline int verdict_give(void)
{
	struct scratch *s = scratch_get();
	__u32 active = readers_active();
	struct flow_hot *f;
	struct flow_cold *c;

	if (!s)
		return 0;
	s->verdict.hello = hello_keep(s);
	s->verdict.tls_flags = s->facts.tls_flags;
	s->verdict.walked = s->facts.walked;
	if (!verdict_apply(&s->work, &s->verdict) || s->verdict.quiet)
		return 0;
	if (!active) {
		count(INFO_NO_READER);
		return 0;
	}
	f = flow_at(s->work.index);
	c = cold_at(s->work.index);
	if (!f || !c)
		return 0;
	s->record.hot = *f;
	s->record.cold = *c;
	if (s->verdict.name)
		__builtin_memcpy(s->record.name, s->name, sizeof(s->name));
	else
		s->record.name[0] = 0;
	record_send(s, active, RECORD_NAMED, s->work.now);
	return 1;
}

#endif /* XDPPROBE_VERDICT_H */
