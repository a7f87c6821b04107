/* GET /metrics: Prometheus text; the listening side's own numbers, then the daemon's. */
#ifndef HOB_METRICS_API_H
#define HOB_METRICS_API_H

#include "api/routes.h"

route_handler metrics_get;

#endif
