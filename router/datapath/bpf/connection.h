/* Whether a TCP connection lives, by the socket that a direction of it leads to.
 *
 * An RST ends a connection only if its receiver takes it (RFC 5961), and the
 * data path does not know the receiver's window. So it notes that one passed,
 * and user space asks here, later, whether the receiver's socket is gone.
 */
#ifndef MARGAY_CONNECTION_H
#define MARGAY_CONNECTION_H

#include "flow.h"
#include "maps.h"

/* Slots asked about at once: what a page holds with room to spare. */
#define ASKED_MAX 512

/* The endpoint that a slot's packets are for: the one that sends its answers. */
static __always_inline struct endpoint *endpoint_behind(const struct slot *slot)
{
	struct slot *answers = bpf_map_lookup_elem(&slots, &slot->peer);
	__u32 ifindex, *index;

	if (!answers)
		return NULL;
	ifindex = answers->ingress;
	index = bpf_map_lookup_elem(&endpoints, &ifindex);
	return index ? bpf_map_lookup_elem(&endpoint_rows, index) : NULL;
}

/* Fills in the packet as its receiver sees it; answers how much of the tuple counts. */
static __always_inline __u32 tuple_of(struct bpf_sock_tuple *tuple, const struct flow_key *key)
{
	if (key->source.halves[0] == 0 && key->source.words[2] == bpf_htonl(0xffff)) {
		tuple->ipv4.saddr = key->source.words[3];
		tuple->ipv4.daddr = key->destination.words[3];
		tuple->ipv4.sport = key->source_port;
		tuple->ipv4.dport = key->destination_port;
		return sizeof(tuple->ipv4);
	}
	__builtin_memcpy(tuple->ipv6.saddr, &key->source, sizeof(key->source));
	__builtin_memcpy(tuple->ipv6.daddr, &key->destination, sizeof(key->destination));
	tuple->ipv6.sport = key->source_port;
	tuple->ipv6.dport = key->destination_port;
	return sizeof(tuple->ipv6);
}

/* A socket in these states has no connection, or one that is over. */
static __always_inline int is_over(__u32 state)
{
	return state == BPF_TCP_LISTEN || state == BPF_TCP_TIME_WAIT || state == BPF_TCP_CLOSE;
}

static __always_inline int connection_lives(struct __sk_buff *skb, const struct slot *slot)
{
	struct endpoint *receiver = endpoint_behind(slot);
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sock;
	__u32 state;

	if (!receiver || !receiver->netns)
		return 0;
	if (tuple_of(&tuple, &slot->delivered) == sizeof(tuple.ipv4))
		sock = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), receiver->netns - 1, 0);
	else
		sock = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), receiver->netns - 1, 0);
	if (!sock)
		return 0;
	state = sock->state;
	bpf_sk_release(sock);
	return !is_over(state);
}

#endif
