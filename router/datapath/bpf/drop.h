/* Dropping a packet: always for a counted reason. */
#ifndef MARGAY_DROP_H
#define MARGAY_DROP_H

#include <linux/pkt_cls.h>

#include "maps.h"

static __always_inline int drop(enum drop_reason reason)
{
	__u32 index = reason;
	__u64 *count = bpf_map_lookup_elem(&drops, &index);

	if (count)
		(*count)++;
	return TC_ACT_SHOT;
}

#endif
