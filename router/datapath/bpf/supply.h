/* Slots that user space set aside for the kernel: it opens flows with these and
 * no others.
 */
#ifndef MARGAY_SUPPLY_H
#define MARGAY_SUPPLY_H

#include "maps.h"

/* How often a CPU that lost a race for a position tries again. */
#define SUPPLY_TRIES 4

/* Takes the forward slot of a pair; 0 if there is none. */
static __always_inline int supply_take(__u32 *forward)
{
	__u32 zero = 0;
	struct supply *all = bpf_map_lookup_elem(&supply, &zero);
	int try;

	if (!all)
		return 0;
#pragma unroll
	for (try = 0; try < SUPPLY_TRIES; try++) {
		__u64 taken = *(volatile __u64 *)&all->taken;

		if (taken >= *(volatile __u64 *)&all->granted)
			return 0;
		/* Nobody writes this place before the position counts as taken. */
		*forward = all->slots[taken & (SUPPLY_MAX - 1)];
		if (__sync_bool_compare_and_swap(&all->taken, taken, taken + 1))
			return 1;
	}
	return 0;
}

#endif
