/* Whose a packet is: what an instance may send from. */
#ifndef MARGAY_ENDPOINT_H
#define MARGAY_ENDPOINT_H

#include "maps.h"
#include "parse.h"

/* The endpoint that is attached to a device; its `index` is set if there is one. */
static __always_inline struct endpoint *endpoint_at(__u32 ifindex, __u32 *index)
{
	__u32 *found = bpf_map_lookup_elem(&endpoints, &ifindex);

	if (!found)
		return NULL;
	*index = *found;
	return bpf_map_lookup_elem(&endpoint_rows, found);
}

/* One side of a flow that is to be opened. */
struct party {
	__u64 instance;
	__u32 ingress;		/* as in struct slot */
	__u32 location;
};

/* An instance here as a side of a flow: its location has its endpoint's number. */
static __always_inline struct party endpoint_party(const struct endpoint *endpoint, __u32 index)
{
	struct party party = {
		.instance = endpoint->instance,
		.ingress = endpoint->ifindex,
		.location = index,
	};

	return party;
}

static __always_inline int address_equal(const union address *one, const union address *other)
{
	return one->halves[0] == other->halves[0] && one->halves[1] == other->halves[1];
}

static __always_inline int endpoint_owns(const struct endpoint *endpoint,
					 const union address *source)
{
	int i;

#pragma unroll
	for (i = 0; i < ENDPOINT_ADDRESSES; i++)
		if (address_equal(&endpoint->addresses[i], source))
			return 1;
	return 0;
}

#endif
