/* OpenRouter beyond the protocol of OpenAI: its members and headers of a request, the quota of the
 * key, the bill of an answer that broke off, its catalogue.
 *
 * Loop thread.  Nothing is sent while nobody uses it: the quota is asked for at warm() and around
 * calls when it is older than OPENROUTER_QUOTA_MS, a bill after its call ended without a price.
 * Bills come by provider->listener->late_cost; those that never come are dropped without a word,
 * and so are those that wait when it closes. */
#ifndef HOB_OPENROUTER_H
#define HOB_OPENROUTER_H

#include "providers/remote.h"

enum {
	OPENROUTER_QUOTA_MS = 600000,
	OPENROUTER_QUOTA_AGAIN_MS = 10000, /* after a refusal for money, or a failure */
	OPENROUTER_BILLS = 64, /* that wait at a time; more are not asked for */
	OPENROUTER_MAX_BYTES = 256 << 10,
};

extern const struct remote_protocol openrouter_protocol;
extern const struct remote_extras openrouter_extras;

#endif
