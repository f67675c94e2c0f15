/* What the maps hold. User space mirrors every type here (src/layout.rs).
 *
 * Integers are in host byte order unless the comment of the field says
 * "network byte order". Raise LAYOUT_VERSION with every change: an upgrade takes
 * over maps whose rows have only grown at their ends; others are refused.
 */
#ifndef MARGAY_LAYOUT_H
#define MARGAY_LAYOUT_H

#include <linux/types.h>

#define LAYOUT_VERSION 7

/* An IPv6 address, or an IPv4 address as ::ffff:a.b.c.d. */
union address {
	__u8 bytes[16];		/* network byte order */
	__u32 words[4];		/* network byte order */
	__u64 halves[2];	/* network byte order */
};
_Static_assert(sizeof(union address) == 16, "address");

/* A packet's 5-tuple as its sender writes it. Echo has no ports: a request
 * carries its identifier as source port, a reply as destination port, and the
 * other port is 0.
 */
struct flow_key {
	union address source;
	union address destination;
	union {
		struct {
			__u16 source_port;	/* network byte order */
			__u16 destination_port;	/* network byte order */
			__u8 protocol;		/* IPPROTO_{TCP,UDP,ICMP,ICMPV6} */
			__u8 zero[3];
		};
		__u64 tail;		/* all of the above as one word */
	};
};
_Static_assert(sizeof(struct flow_key) == 40, "flow_key");

enum slot_flags {
	SLOT_FORWARD = 1 << 0,	/* client to server; else server to client */
	SLOT_REWRITE = 1 << 1,	/* `delivered` differs from the packet */
	SLOT_CLOSING = 1 << 2,	/* user space deletes its entry, unless a packet passed */
};

enum tcp_seen {
	TCP_SEEN_FIN = 1 << 0,
	TCP_SEEN_RST = 1 << 1,
};

/* By what the fragments of one packet know each other (RFC 791, RFC 8200 section
 * 4.5), and the device that sends them.
 */
struct fragment_key {
	union address source;
	union address destination;
	__u32 identification;	/* network byte order */
	__u32 ifindex;
	__u8 protocol;
	__u8 zero[7];
};
_Static_assert(sizeof(struct fragment_key) == 48, "fragment_key");

/* What became of a pair of slots that the kernel was supplied with; in the slot
 * of the forward direction.
 */
enum supplied {
	SUPPLIED_WAITING = 0,	/* not taken, or taken a moment ago */
	SUPPLIED_OPENED = 1,	/* a flow holds it */
	SUPPLIED_VOID = 2,	/* no flow came of it */
	SUPPLIED_UNUSED = 3,	/* user space took it back */
};

/* One direction of a flow. */
struct slot {
	/* First cache line: what every packet reads and writes. */
	__u32 location;		/* index of a location_cell */
	__u32 ingress;		/* who alone may send this: a device, or PEER_INGRESS and a location */
	__u32 flags;		/* enum slot_flags */
	__u32 tcp_seen;		/* enum tcp_seen, since the last SYN */
	__u64 packets;		/* segments of a super-packet one by one */
	__u64 bytes;		/* with Ethernet headers */
	__u64 last_seen_ns;	/* CLOCK_MONOTONIC, coarse */
	__u64 key_fold;		/* flow_key_fold() of the key that owns this row */
	__u32 peer;		/* slot of the other direction */
	__u32 supplied;		/* enum supplied */
	__u32 zero[2];
	/* Second cache line: what a rewrite or an adoption reads. */
	struct flow_key delivered;	/* the packet as its receiver sees it */
	__u64 client;		/* instance that opened the flow */
	__u64 server;		/* instance that serves it */
	__u64 opened_ns;	/* CLOCK_MONOTONIC */
};
_Static_assert(sizeof(struct slot) == 128, "slot");
_Static_assert(__builtin_offsetof(struct slot, delivered) == 64, "slot's second cache line");

/* Where an identity is now. Many slots share a cell: to move an identity is to
 * store another row here. Cell value 0 is the row that leads nowhere.
 */
struct location_cell {
	__u32 row;
	__u32 zero;
};
_Static_assert(sizeof(struct location_cell) == 8, "location_cell");

enum location_kind {
	LOCATION_NOWHERE = 0,
	LOCATION_LOCAL = 1,	/* the peer of a veth on this host */
	LOCATION_NEIGHBOUR = 2,	/* another host on the link of a device: as it is, or by UDP */
	LOCATION_ENCAPSULATED = 3, /* another host, by UDP */
};

/* Set in a slot's `ingress` where another host sends; the rest is the index of
 * its location. Devices have lower numbers.
 */
#define PEER_INGRESS (1U << 31)

/* One way to a location. Never edited while a cell names it. */
struct location_row {
	__u32 kind;		/* enum location_kind */
	__u32 ifindex;		/* the device that packets leave by */
	union address to;	/* the neighbour; by UDP: where datagrams go */
	union address from;	/* by UDP: where they come from */
	__u16 to_port;		/* by UDP; network byte order */
	__u16 from_port;	/* by UDP; network byte order */
	__u32 zero;
};
_Static_assert(sizeof(struct location_row) == 48, "location_row");

/* What an instance may send from. */
enum endpoint_address {
	CALLED_IPV4,
	CALLER_IPV4,
	CALLED_IPV6,
	CALLER_IPV6,
	ENDPOINT_ADDRESSES,
};

/* One instance's attachment to the network. */
struct endpoint {
	/* First cache line: what it may send from. */
	union address addresses[ENDPOINT_ADDRESSES];
	/* Second cache line: who it is, and what the kernel counts. */
	__u64 upcalls_sent;
	__u64 instance;
	__u32 ifindex;		/* 0: the row is free */
	__u32 upcall_quota;
	__u32 netns;		/* the host's number for its namespace + 1; 0: unknown */
	__u32 zero_netns;
	/* Where it may not go by the host's routing: the IPv4 pool. A mask of 0, as
	 * in rows of a time before these fields, lets nothing out.
	 */
	__u32 pool;		/* network byte order */
	__u32 pool_mask;	/* network byte order */
	__u64 zero_sent[3];
	/* Third cache line: what user space counts. */
	__u64 upcalls_done;
	__u64 zero_done[7];
};
_Static_assert(sizeof(struct endpoint) == 192, "endpoint");
_Static_assert(__builtin_offsetof(struct endpoint, upcalls_sent) == 64, "endpoint's second cache line");
_Static_assert(__builtin_offsetof(struct endpoint, upcalls_done) == 128, "endpoint's third cache line");

/* Slots that the kernel may open flows with by itself. Positions only grow; a
 * position's place in `slots` is its remainder.
 */
#define SUPPLY_MAX 1024		/* a power of two */

struct supply {
	__u64 taken;		/* positions below were taken: the kernel's */
	__u64 zero_taken[7];
	__u64 granted;		/* positions below may be taken: user space's */
	__u64 zero_granted[7];
	__u32 slots[SUPPLY_MAX];	/* of the forward direction; reverse: the next */
};
_Static_assert(sizeof(struct supply) == 128 + 4 * SUPPLY_MAX, "supply");

/* What an aggregate covers: first packets of one client to one called port. */
struct aggregate_key {
	__u32 endpoint;		/* index of the client's endpoint */
	__u16 called_port;	/* network byte order; 0 for echo */
	__u8 protocol;		/* as in struct flow_key */
	__u8 zero;
	union address called;
};
_Static_assert(sizeof(struct aggregate_key) == 24, "aggregate_key");

#define RING_MAX 64		/* a power of two */

/* A decision by which the kernel opens further flows itself. It is in force
 * while both epochs are the present ones.
 */
struct aggregate {
	__u32 policy_epoch;	/* 0: the row says nothing */
	__u32 service_epoch;
	__u32 service_cell;	/* index into the epochs */
	__u32 ring_len;
	__u64 client;		/* the instance whose it is */
	__u32 turn;		/* the next target's place in the ring */
	__u32 zero[9];
	__u32 ring[RING_MAX];	/* endpoints of the targets, or REMOTE_TARGET and a row */
};
_Static_assert(sizeof(struct aggregate) == 64 + 4 * RING_MAX, "aggregate");

/* Set in a place of a ring whose target another host serves; the rest is the index
 * of a remote_target. Endpoints have lower numbers.
 */
#define REMOTE_TARGET (1U << 31)

/* A target on another host. Never edited while an aggregate names it. */
struct remote_target {
	union address called;	/* under which its host delivers to it */
	__u64 instance;
	__u32 location;		/* of its host */
	__u32 zero;
};
_Static_assert(sizeof(struct remote_target) == 32, "remote_target");

/* What an admission covers: first packets of one client of another host to one
 * port of an instance here, as they come.
 */
struct admission_key {
	union address client;
	union address server;
	__u16 server_port;	/* network byte order; 0 for echo */
	__u8 protocol;		/* as in struct flow_key */
	__u8 zero[5];
};
_Static_assert(sizeof(struct admission_key) == 40, "admission_key");

/* What another host was told: that flows of a client of its to an instance here
 * need not be asked for. It is in force while both epochs are the present ones.
 */
struct admission {
	__u32 policy_epoch;	/* 0: the row says nothing */
	__u32 server_epoch;
	__u32 server_cell;	/* index into the epochs */
	__u32 endpoint;		/* of the server */
	__u64 client;		/* instance */
	__u64 server;		/* instance */
	__u32 from;		/* location of the client's host */
	__u32 zero;
};
_Static_assert(sizeof(struct admission) == 40, "admission");

/* First packets of other hosts that user space was handed. */
struct peer_upcalls {
	__u64 sent;		/* the kernel's */
	__u64 zero_sent[7];
	__u64 done;		/* user space's */
	__u64 zero_done[7];
};
_Static_assert(sizeof(struct peer_upcalls) == 128, "peer_upcalls");

/* The present number of an epoch: the policy's in the first cell, then those
 * that services share.
 */
struct epoch {
	__u32 number;
	__u32 zero;
};
_Static_assert(sizeof(struct epoch) == 8, "epoch");

#define POLICY_EPOCH 0
#define EPOCH_CELLS 4096

#endif
