/* What the cache shows and takes over HTTP; JSON, errors as everywhere.
 *
 *   GET  /v1/hob/cache              tiers, models, totals, the worker
 *   GET  /v1/hob/cache/decisions    ?model=NAME&limit=N, newest first: {"decisions":[…]}
 *   GET  /v1/hob/cache/events       SSE: `snapshot` first, then `decision` and `state` as they
 *                                   happen, numbered; a client that reads too slowly gets a new
 *                                   snapshot when it goes on, never a silent gap
 *   POST /v1/hob/cache/load         {"model":NAME,"keep_alive":…,"stream":bool,"wait":bool}: answered
 *                                   when the model is ready; as SSE `progress` … `done` | `error`;
 *                                   at once with "wait":false
 *   POST /v1/hob/cache/unload       {"model":NAME,"park":bool}
 *   POST /v1/hob/cache/pin          {"model":NAME}; so does unpin
 * All but load answer at once; what unload asks for happens when the model's answers have ended. */
#ifndef HOB_CACHE_API_H
#define HOB_CACHE_API_H

#include "api/routes.h"

route_handler cache_api_get, cache_api_decisions, cache_api_events;
route_handler cache_api_load, cache_api_unload, cache_api_pin, cache_api_unpin;

#endif
