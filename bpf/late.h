/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TLS that begins in the middle of a stream: after STARTTLS (RFC 3207, 9051, 2595,
 * 6120, 4217, 4511), after a database's request for it, behind a proxy. The flow
 * stays what it began as; the hello gives it a name, and so an application.
 *
 * Its segments may come in another order than they were sent in: a client's that begins
 * no hello is kept in a slot of the assembler, for as long as the server says nothing.
 */
#ifndef XDPPROBE_LATE_H
#define XDPPROBE_LATE_H

#include "hello.h"
#include "http.h"
#include "verdict.h"

#define CONFIDENCE_FINAL 90 /* of a pattern that nothing else is asked behind */

static __always_inline bool late_possible(__u16 protocol)
{
	switch (protocol) {
	case PROTOCOL_HTTP: /* CONNECT's answer, where that was not seen */
	case PROTOCOL_HTTP_CONNECT:
	case PROTOCOL_LDAP:
	case PROTOCOL_SOCKS:
	case PROTOCOL_FTP_CONTROL:
	case PROTOCOL_FTPS: /* this and its like: TLS was asked for */
	case PROTOCOL_IMAP:
	case PROTOCOL_IMAPS:
	case PROTOCOL_POP3:
	case PROTOCOL_POPS:
	case PROTOCOL_SMTP:
	case PROTOCOL_SMTPS:
	case PROTOCOL_MYSQL:
	case PROTOCOL_POSTGRESQL:
	case PROTOCOL_JABBER:
		return true;
	}
	return false;
}

/* Those that are TLS from the start, by a hello or its answer. */
static __always_inline bool tls_named(__u16 protocol)
{
	return protocol == PROTOCOL_TLS || protocol == PROTOCOL_FTPS ||
	       protocol == PROTOCOL_IMAPS || protocol == PROTOCOL_POPS ||
	       protocol == PROTOCOL_SMTPS;
}

/* Is it known for good what the flow is, though it is not final? No pattern is
 * asked then. An HTTP flow without a name may still get an application by one. */
static __always_inline bool protocol_settled(const struct flow_hot *f)
{
	if (f->protocol_method != METHOD_PATTERN)
		return f->protocol_method > METHOD_PATTERN;
	if (tls_named(f->protocol) && f->protocol_confidence == 100)
		return true;
	return !http_named(f->protocol) && late_possible(f->protocol) &&
	       f->protocol_confidence >= CONFIDENCE_FINAL;
}

/* Note in the flow what is known of its TLS. Under the lock, and only if the entry
 * is still the flow's, like a verdict. Global: verified once. */
__noinline int tls_note(struct scratch *s, __u32 version, __u32 flags)
{
	struct flow_hot *f;
	struct flow_cold *c;
	struct stripe *guard;

	if (!s)
		return 0;
	f = flow_at(s->work.index);
	c = cold_at(s->work.index);
	if (!f || !c)
		return 0;
	guard = lock_take((s->work.index / FLOW_WAYS) & lock_mask);
	if (!guard) {
		count(LOSS_VERDICT_BUSY);
		return 0;
	}
	if (f->tag == s->work.tag) {
		if (version)
			c->tls_version = version;
		c->tls_flags |= flags;
	}
	lock_release(guard);
	return 1;
}

/* Does a handshake begin with this payload, of a stream that began as something
 * else? The client's by its hello for certain, the server's only after that. */
static __always_inline bool late_begins(struct scratch *s, struct flow_hot *f)
{
	struct flow_cold *c = cold_at(s->work.index);
	__u32 end = s->work.length;

	if (!c || !late_possible(f->protocol))
		return false;
	if (c->tls_flags & TLS_LATE) {
		if (!s->work.responder || !hello_answers(&s->payload, end))
			return false;
	} else {
		if (s->work.responder ||
		    end < TLS_RECORD_HEADER + TLS_HANDSHAKE_HEADER ||
		    !hello_begun(&s->payload, end))
			return false;
		tls_note(s, 0, TLS_LATE);
	}
	s->work.late = 1;
	return true;
}

/* Does it end as a line of text does? Then it is a command, and may be a password. */
static __always_inline bool late_is_line(const struct scratch *s)
{
	return s->work.length &&
	       byte_at(&s->payload, s->work.length - 1) == '\n';
}

/* Is the segment, which begins no hello, kept in case that one's first is still to come? */
static __always_inline bool late_keeps(struct scratch *s, struct flow_hot *f)
{
	const struct flow_cold *c = cold_at(s->work.index);

	if (!c || s->work.responder || c->tls_flags & TLS_LATE ||
	    !late_possible(f->protocol) || late_is_line(s))
		return false;
	flow_mark(f, FLOW_KEPT);
	s->work.keep = 1;
	return true;
}

/* Is what is put together of this direction nothing yet but kept segments? */
static __always_inline bool late_kept(const struct scratch *s,
				      const struct flow_hot *f)
{
	const struct flow_cold *c = cold_at(s->work.index);

	return f->flags & FLOW_KEPT && !s->work.responder && c &&
	       !(c->tls_flags & TLS_LATE);
}

#endif /* XDPPROBE_LATE_H */
