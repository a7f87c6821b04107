/* How much the store keeps and for how long: what the configuration says and the store obeys. */
#ifndef HOB_STORE_LIMITS_H
#define HOB_STORE_LIMITS_H

#include <stdint.h>

/* 0 = no limit.  Defaults: research on memory, as in config.h. */
struct store_limits {
	uint64_t
		max_bytes; /* of the file: from 90 % on old conversations go, above it nothing is written */
	int64_t max_age_ms; /* since a conversation's last use */
	int64_t max_messages, max_conversations;
	uint64_t max_message_bytes,
		max_attachment_bytes; /* larger ones are not kept: ERR_TOO_LARGE */
	int64_t failed_age_ms; /* turns that failed or were interrupted, with their texts */
};

#endif
