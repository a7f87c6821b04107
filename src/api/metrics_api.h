/* GET /metrics: Prometheus text; the daemon's numbers and the listening side's own. */
#ifndef HOB_METRICS_API_H
#define HOB_METRICS_API_H

#include "api/routes.h"

route_handler metrics_get;

#endif
