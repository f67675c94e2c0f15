/* Fragments: the first one names the ports, the later ones follow it. */
#ifndef MARGAY_FRAGMENT_H
#define MARGAY_FRAGMENT_H

#include "maps.h"
#include "parse.h"

/* What a header says of fragmentation. */
struct fragment {
	__u32 identification;	/* network byte order; of IPv4 its 16 bits */
	__u8 protocol;		/* as the header that says the rest has it */
	__u8 is_first;		/* others follow */
	__u8 is_later;
};

static __always_inline void fragment_of_ipv4(struct fragment *fragment, const struct iphdr *ip)
{
	fragment->is_later = !!(ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET));
	fragment->is_first = !fragment->is_later &&
			     ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS);
	fragment->identification = ip->id;
	fragment->protocol = ip->protocol;
}

/* The device is part of the key: nobody names ports for another's fragments. */
static __always_inline void fragment_key_of(struct fragment_key *key, const struct packet *packet,
					    const struct fragment *fragment, __u32 ifindex)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->source = packet->key.source;
	key->destination = packet->key.destination;
	key->identification = fragment->identification;
	key->ifindex = ifindex;
	key->protocol = fragment->protocol;
}

/* Remembers which flow a first fragment belongs to. */
static __always_inline int fragment_remember(const struct packet *packet,
					     const struct fragment *fragment, __u32 ifindex)
{
	__u64 tail = packet->key.tail;
	struct fragment_key key;

	fragment_key_of(&key, packet, fragment, ifindex);
	return bpf_map_update_elem(&fragments, &key, &tail, BPF_ANY) ? DROP_FRAGMENT : PARSED;
}

/* Completes the key of a later fragment. */
static __always_inline int fragment_recall(struct packet *packet, const struct fragment *fragment,
					   __u32 ifindex)
{
	struct fragment_key key;
	__u64 *tail;

	fragment_key_of(&key, packet, fragment, ifindex);
	tail = bpf_map_lookup_elem(&fragments, &key);
	if (!tail)
		return DROP_FRAGMENT;
	packet->key.tail = *tail;
	return PARSED;
}

#endif
