/* Decisions that user space left for further flows of one client and service. */
#ifndef MARGAY_AGGREGATE_H
#define MARGAY_AGGREGATE_H

#include "decision.h"
#include "endpoint.h"

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

/* Who serves the next flow, and under which address. */
struct target {
	struct party party;
	union address called;
};

/* An instance of this host. */
static __always_inline int local_target(struct target *target, __u32 index,
					const struct packet *packet)
{
	struct endpoint *server = bpf_map_lookup_elem(&endpoint_rows, &index);

	if (!server || !server->ifindex)
		return 0;
	target->party = endpoint_party(server, index);
	/* A caller address leads to its holder too, and stays as it was called. */
	if (endpoint_owns(server, &packet->key.destination))
		target->called = packet->key.destination;
	else
		target->called = server->addresses[packet->is_ipv6 ? CALLED_IPV6 : CALLED_IPV4];
	return 1;
}

static __always_inline int remote_target(struct target *target, __u32 row)
{
	struct remote_target *remote = bpf_map_lookup_elem(&remote_targets, &row);

	if (!remote)
		return 0;
	target->party.instance = remote->instance;
	target->party.ingress = PEER_INGRESS | remote->location;
	target->party.location = remote->location;
	target->called = remote->called;
	return 1;
}

/* The target whose turn it is; 0 if it can take no flow of the client at `own`. */
static __always_inline int aggregate_target(struct aggregate *aggregate, __u32 own,
					    const struct packet *packet, struct target *target)
{
	__u32 turn = __sync_fetch_and_add(&aggregate->turn, 1);
	__u32 len = aggregate->ring_len;
	__u32 place = aggregate->ring[(len ? turn % len : 0) & (RING_MAX - 1)];

	if (place & REMOTE_TARGET)
		return remote_target(target, place & ~REMOTE_TARGET);
	/* An instance that serves itself needs another source address. */
	return place != own && local_target(target, place, packet);
}

#endif
