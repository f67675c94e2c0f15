/* Decisions that user space left for further flows of one client and service. */
#ifndef MARGAY_AGGREGATE_H
#define MARGAY_AGGREGATE_H

#include "endpoint.h"
#include "maps.h"
#include "parse.h"

/* Whether an epoch is still the one that a decision was made in. */
static __always_inline int epoch_is_present(__u32 cell, __u32 number)
{
	struct epoch *present = bpf_map_lookup_elem(&epochs, &cell);

	return present && *(volatile __u32 *)&present->number == number;
}

/* Whether a packet that belongs to no flow may open one: of TCP only a SYN. An
 * aggregate for echo has port 0, which only requests call.
 */
static __always_inline int opens_a_flow(const struct packet *packet)
{
	__u8 telling = TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN;

	return packet->key.protocol != IPPROTO_TCP || (packet->tcp_flags & telling) == TCP_SYN;
}

/* The decision that covers a first packet, if there is one in force. */
static __always_inline struct aggregate *
aggregate_lookup(const struct packet *packet, const struct endpoint *client, __u32 index)
{
	struct aggregate_key key = {
		.endpoint = index,
		.called_port = packet->key.destination_port,
		.protocol = packet->key.protocol,
		.called = packet->key.destination,
	};
	struct aggregate *aggregate;
	__u32 *row;

	if (!opens_a_flow(packet))
		return NULL;
	row = bpf_map_lookup_elem(&aggregates, &key);
	if (!row)
		return NULL;
	aggregate = bpf_map_lookup_elem(&aggregate_rows, row);
	if (!aggregate || aggregate->client != client->instance)
		return NULL;
	if (!epoch_is_present(POLICY_EPOCH, aggregate->policy_epoch))
		return NULL;
	if (!epoch_is_present(aggregate->service_cell, aggregate->service_epoch))
		return NULL;
	return aggregate;
}

/* The endpoint index of the target whose turn it is. */
static __always_inline __u32 aggregate_target(struct aggregate *aggregate)
{
	__u32 turn = __sync_fetch_and_add(&aggregate->turn, 1);
	__u32 len = aggregate->ring_len;

	return aggregate->ring[(len ? turn % len : 0) & (RING_MAX - 1)];
}

#endif
