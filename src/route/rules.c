/* Rules of routes against the features of a request.  Pure; loop thread. */
#include "route/rules.h"

int rules_check(const struct config_rule *r, struct err *e)
{
	UNUSED(r);
	UNUSED(e);
	return 0;
}
