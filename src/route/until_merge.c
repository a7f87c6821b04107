/* STUB, to be deleted with the merge: what other branches define (the dispatcher's world and log, money,
 * the catalogue).  It lets `hob` link and the dry run work on configuration and local models alone. */
#include <math.h>
#include "route/dispatch_impl.h"

void dispatch_world(struct dispatch *d, struct plan_world *out)
{
	*out = (struct plan_world){.config = d->parts.config,
				   .models = d->parts.models,
				   .providers = d->parts.providers,
				   .nproviders = d->parts.nproviders};
}

struct route_log *dispatch_log(struct dispatch *d)
{
	UNUSED(d);
	return NULL;
}

enum money_verdict money_ask(const struct money *m, const struct money_ask *a, char *why,
			     size_t bytes)
{
	UNUSED(m);
	UNUSED(a);
	UNUSED(why);
	UNUSED(bytes);
	return MONEY_OK;
}

double money_most(const struct prices *p, int prompt_tokens, int output_tokens,
		  int images)
{
	UNUSED(images);
	return p->input < 0 || p->output < 0
		       ? -1
		       : p->input * prompt_tokens + p->output * output_tokens;
}

double money_left_today(const struct money *m)
{
	UNUSED(m);
	return INFINITY;
}

double money_spent_today(const struct money *m, const char *provider)
{
	UNUSED(m);
	UNUSED(provider);
	return 0;
}

const struct remote_model *remote_models_find(const struct remote_models *m,
					      const char *id)
{
	UNUSED(m);
	UNUSED(id);
	return NULL;
}

int remote_models_count(const struct remote_models *m)
{
	UNUSED(m);
	return 0;
}

int64_t remote_models_age_s(const struct remote_models *m)
{
	UNUSED(m);
	return -1;
}
