/* Decisions that user space left for first packets of other hosts. */
#ifndef MARGAY_ADMISSION_H
#define MARGAY_ADMISSION_H

#include "decision.h"
#include "endpoint.h"

/* The admission that covers a first packet, if there is one in force. */
static __always_inline struct admission *admission_lookup(const struct packet *packet)
{
	struct admission_key key = {
		.client = packet->key.source,
		.server = packet->key.destination,
		.server_port = packet->key.destination_port,
		.protocol = packet->key.protocol,
	};
	struct admission *admission;
	__u32 *row = bpf_map_lookup_elem(&admissions, &key);

	if (!row)
		return NULL;
	admission = bpf_map_lookup_elem(&admission_rows, row);
	if (!admission || !epoch_is_present(POLICY_EPOCH, admission->policy_epoch))
		return NULL;
	if (!epoch_is_present(admission->server_cell, admission->server_epoch))
		return NULL;
	return admission;
}

/* The instance that serves what was admitted; 0 if it is not there any more. */
static __always_inline int admitted_server(const struct admission *admission, struct party *server)
{
	__u32 index = admission->endpoint;
	struct endpoint *endpoint = bpf_map_lookup_elem(&endpoint_rows, &index);

	if (!endpoint || !endpoint->ifindex || endpoint->instance != admission->server)
		return 0;
	*server = endpoint_party(endpoint, index);
	return 1;
}

#endif
