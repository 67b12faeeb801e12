// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The pipeline: parse, find the flow, count, track, inspect. Entry points for
 * XDP, tc ingress and tc egress, and the stages behind them.
 */
#include "assemble.h"
#include "dtls_hello.h"
#include "fragment.h"
#include "initial.h"
#include "inspect.h"
#include "match.h"
#include "server.h"
#include "tunnel.h"
#include "wire.h"

/* Headers to pull into the linear part where they are not there (tc). */
#define PULL_MAX 1024

/* Times are jiffies; a replay's are milliseconds of the capture. */
static __always_inline __u32 clock_now(void)
{
	__u32 zero = 0;
	struct replay_value *r;

	if (!replaying)
		return (__u32)bpf_jiffies64();
	r = bpf_map_lookup_elem(&replay, &zero);
	return r ? r->time_ns / 1000000 : 0;
}

/* Parse into scratch.packet; at tc, headers that lie behind the linear part are
 * pulled in once. What looks like no tunnel may only not be there yet. */
static __always_inline int packet_read(void *ctx, enum hook hook)
{
	struct scratch *s = scratch_get();
	int why = PARSED;
	__u32 length;

	if (!s)
		return REASON_NO_MAP;
	opaque(s);
	length = s->packet.frame_length;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 2; i++) {
		__u32 linear, wanted = 0;

		packet_clear(&s->packet);
		s->packet.vlan = ctx_vlan(ctx, hook);
		why = parse_packet(ctx, hook, &s->packet, length);
		linear = ctx_data_end(ctx, hook) - ctx_data(ctx, hook);
		if (why == REASON_TRUNCATED)
			wanted = PULL_MAX;
		else if (tunnels && why == PARSED && tunnel_likely(&s->packet))
			wanted = TUNNEL_HEADERS;
		if (wanted > length)
			wanted = length;
		if (hook == HOOK_XDP || linear >= wanted)
			break;
		if (bpf_skb_pull_data(ctx, wanted))
			break;
	}
	if (why == PARSED &&
	    (s->packet.first_fragment || s->packet.later_fragment))
		why = parse_fragment(&s->packet, clock_now());
	return why;
}

/* Global: the many ways through the headers are verified once, and not again
 * with all that comes behind each. */
__noinline int xdp_parse(struct xdp_md *ctx)
{
	return packet_read(ctx, HOOK_XDP);
}

__noinline int tc_parse(struct __sk_buff *ctx)
{
	return packet_read(ctx, HOOK_TC);
}

static __always_inline bool worth_inspecting(const struct flow_hot *f,
					     const struct packet *p,
					     const struct place *at)
{
	return p->payload_length && !(f->flags & FLOW_FINAL) &&
	       f->spent[at->direction & 1] < inspect_budget &&
	       (p->l4 == IPPROTO_TCP || p->l4 == IPPROTO_UDP);
}

/* Hand over to the inspection stages; comes back only when that fails. */
static __always_inline void inspect(void *ctx, enum hook hook,
				    const struct packet *p,
				    const struct place *at, __u32 length)
{
	struct scratch *s = scratch_get();
	__u32 payload = p->payload_length;

	if (!s || p->payload_offset >= length)
		return;
	if (payload > length - p->payload_offset)
		payload = length - p->payload_offset;
	s->work.tag = at->tag;
	s->work.index = place_index(at);
	s->work.now = at->now;
	s->work.offset = p->payload_offset;
	s->work.length = payload;
	s->work.sequence = p->sequence + !!(p->tcp_flags & TCP_SYN);
	s->work.source_port = bpf_ntohs(p->source_port);
	s->work.destination_port = bpf_ntohs(p->destination_port);
	s->work.l4 = p->l4;
	s->work.direction = at->direction;
	ctx_tail_call(ctx, hook, STAGE_INSPECT);
	count(LOSS_TAIL_CALL);
}

static __always_inline void replay_answer(const struct place *at)
{
	__u32 zero = 0;
	struct replay_value *r;

	if (!replaying)
		return;
	r = bpf_map_lookup_elem(&replay, &zero);
	if (r)
		r->flow_index = place_index(at) + 1;
}

static __always_inline int process(void *ctx, enum hook hook, __u32 egress)
{
	__u32 length = ctx_length(ctx, hook);
	struct scratch *s = scratch_get();
	struct packet *p;
	struct place *at;
	struct flow_hot *f;
	struct wire *w;
	int why;

	if (!s)
		return ctx_pass(hook);
	opaque(s);
	p = &s->packet;
	at = &s->place;
	w = &s->wire;
	p->frame_length = length;
	wire_frame(ctx, hook, w, length);
	why = hook == HOOK_XDP ? xdp_parse(ctx) : tc_parse(ctx);
	if (why != PARSED) {
		count_port(egress, w->packets, w->bytes);
		count_many(why, w->packets, w->bytes);
		return ctx_pass(hook);
	}
	wire_segments(ctx, hook, p, w, length);
	count_port(egress, w->packets, w->bytes);
	place_of(p, at);
	at->now = clock_now();
	at->port = slot * 2 + egress + 1;
	at->born = 0;
	f = flow_of(p, at, &why);
	if (!f) {
		count_many(why, w->packets, w->bytes);
		return ctx_pass(hook);
	}
	if (at->born) {
		track_birth(f, p, at);
	} else if (flow_owned(f, p, at)) {
		flow_count(f, at, w);
		flow_track(f, p, at);
	} else {
		count_many(INFO_DUPLICATE, w->packets, w->bytes);
		return ctx_pass(hook);
	}
	replay_answer(at);
	if (worth_inspecting(f, p, at))
		inspect(ctx, hook, p, at, length);
	return ctx_pass(hook);
}

SEC("xdp.frags")
int xdp_entry(struct xdp_md *ctx)
{
	return process(ctx, HOOK_XDP, 0);
}

SEC("tc")
int tc_ingress(struct __sk_buff *ctx)
{
	return process(ctx, HOOK_TC, 0);
}

SEC("tc")
int tc_egress(struct __sk_buff *ctx)
{
	return process(ctx, HOOK_TC, 1);
}

SEC("xdp.frags")
int xdp_inspect(struct xdp_md *ctx)
{
	return stage_inspect(ctx, HOOK_XDP);
}

SEC("xdp.frags")
int xdp_stream(struct xdp_md *ctx)
{
	return stage_stream(ctx, HOOK_XDP);
}

SEC("xdp.frags")
int xdp_name(struct xdp_md *ctx)
{
	return stage_name(ctx, HOOK_XDP);
}

SEC("xdp.frags")
int xdp_match(struct xdp_md *ctx)
{
	return stage_match(ctx, HOOK_XDP);
}

SEC("xdp.frags")
int xdp_quic(struct xdp_md *ctx)
{
	return stage_quic(ctx, HOOK_XDP);
}

SEC("xdp.frags")
int xdp_crypto(struct xdp_md *ctx)
{
	return stage_crypto(ctx, HOOK_XDP);
}

SEC("xdp.frags")
int xdp_server(struct xdp_md *ctx)
{
	return stage_server(ctx, HOOK_XDP);
}

SEC("xdp.frags")
int xdp_stun(struct xdp_md *ctx)
{
	return stage_stun(ctx, HOOK_XDP);
}

SEC("xdp.frags")
int xdp_dtls(struct xdp_md *ctx)
{
	return stage_dtls(ctx, HOOK_XDP);
}

SEC("tc")
int tc_inspect(struct __sk_buff *ctx)
{
	return stage_inspect(ctx, HOOK_TC);
}

SEC("tc")
int tc_stream(struct __sk_buff *ctx)
{
	return stage_stream(ctx, HOOK_TC);
}

SEC("tc")
int tc_name(struct __sk_buff *ctx)
{
	return stage_name(ctx, HOOK_TC);
}

SEC("tc")
int tc_match(struct __sk_buff *ctx)
{
	return stage_match(ctx, HOOK_TC);
}

SEC("tc")
int tc_quic(struct __sk_buff *ctx)
{
	return stage_quic(ctx, HOOK_TC);
}

SEC("tc")
int tc_crypto(struct __sk_buff *ctx)
{
	return stage_crypto(ctx, HOOK_TC);
}

SEC("tc")
int tc_server(struct __sk_buff *ctx)
{
	return stage_server(ctx, HOOK_TC);
}

SEC("tc")
int tc_stun(struct __sk_buff *ctx)
{
	return stage_stun(ctx, HOOK_TC);
}

SEC("tc")
int tc_dtls(struct __sk_buff *ctx)
{
	return stage_dtls(ctx, HOOK_TC);
}

/* Test-run only: the clocks that the loader calibrates and readers convert. */
SEC("xdp")
int clock_read(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct clock_value *c = bpf_map_lookup_elem(&clock, &zero);

	if (!c)
		return XDP_ABORTED;
	c->jiffies = bpf_jiffies64();
	c->ktime_ns = bpf_ktime_get_ns();
	c->coarse_ns = bpf_ktime_get_coarse_ns();
	return XDP_PASS;
}

/* Enums reach the object's type information through this alone. */
const struct {
	enum counter counter;
	enum protocol protocol;
	enum method method;
	enum stage stage;
	enum flow_state flow_state;
	enum flow_flag flow_flag;
	enum tls_flag tls_flag;
	enum age age;
	enum away away;
	enum tunnel tunnel;
	enum record_kind record_kind;
	struct flow_record flow_record;
	struct name_key name_key;
	struct name_rule name_rule;
	enum name_flag name_flag;
	enum match_field match_field;
	enum text_kind text_kind;
	struct text_key text_key;
	struct text_value text_value;
	struct match_class match_class[0]; /* described, but not there */
	struct match_automaton match_automaton[0];
	enum peers peers;
	enum peer_kind peer_kind;
	enum peer_slot_kind peer_slot_kind;
	struct peer_value peer_value;
	struct peer_bucket peer_bucket[0];
} abi_anchor SEC(".rodata.abi") = {};

char _license[] SEC("license") = "Dual BSD/GPL";
