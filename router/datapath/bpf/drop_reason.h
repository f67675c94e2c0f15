/* Why a packet is dropped in the kernel. The numbers are an interface: user
 * space names the counters by them (margay_core::drop_reason, compared with
 * this list by a test).
 */
#ifndef MARGAY_DROP_REASON_H
#define MARGAY_DROP_REASON_H

enum drop_reason {
	DROP_FORGED_SOURCE = 0,
	DROP_UNKNOWN_ENDPOINT = 1,
	DROP_TRUNCATED = 2,
	DROP_UNKNOWN_PROTOCOL = 3,
	DROP_LOCAL_CONTROL = 4,
	DROP_FRAGMENT = 5,
	DROP_UPCALL_QUOTA = 6,
	DROP_NO_LOCATION = 7,
	DROP_REWRITE_FAILED = 8,
	DROP_UPCALL_MISS = 9,
	DROP_EXTENSION_HEADERS = 10,
	DROP_NO_ADMISSION = 11,
	DROP_FORGED_PEER = 12,

	/* Numbers from here on belong to user space. */
	DROP_REASONS_MAX = 32,
};

#endif
