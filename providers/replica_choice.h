/* Which of several servers that hold the same models takes the next call.  Pure: no I/O, no clock.
 *
 * load = running + 2 * waiting, as the server's /metrics said last, + our calls that it cannot have
 * counted yet.  A KV cache that is nearly full counts as one that waits.  Without /metrics, or when
 * they are old, our own calls are all that is known.
 * A conversation stays where it was, because its prefix is cached there, until that server's load is
 * more than REPLICA_STAY above the least one. */
#ifndef HOB_REPLICA_CHOICE_H
#define HOB_REPLICA_CHOICE_H

#include "base/buf.h"

enum {
	REPLICA_STAY = 4,
	REPLICA_POLL_MS = 2000,
	REPLICA_METRICS_MAX_AGE_MS = 6000, /* three polls */
	REPLICA_AWAY_MS = 5000,      /* out of the choice after a failure; doubles ... */
	REPLICA_AWAY_MAX_MS = 60000, /* ... up to this */
	REPLICA_SESSIONS = 1024,     /* conversations whose server is remembered */
};
#define REPLICA_KV_FULL 0.95

/* What /metrics of vLLM, llama-server, SGLang, TGI or another hob says. */
struct replica_metrics {
	int running, waiting;
	double kv_usage; /* 0..1; < 0 = not said */
};
/* False: the text has none of the names that are known. */
bool replica_metrics_parse(struct str text, struct replica_metrics *out);

/* One server.  Zero it and it is up, unpolled and idle. */
struct replica_state {
	struct replica_metrics metrics;
	uint64_t metrics_ms; /* when they were asked for; 0 = never got any */
	unsigned poll, seen; /* number of the last poll begun, and of the last answered */
	int own;             /* our calls that run there */
	int before,
		after; /* of those: begun since the last answered poll was asked for, but
				* before the last one was; and after that */
	int failures;  /* in a row */
	uint64_t away_until_ms; /* 0 = up */
};

/* A call's share of its server's state. */
struct replica_ticket {
	unsigned poll;
};

struct replica_ticket replica_call_began(struct replica_state *r);
void replica_call_ended(struct replica_state *r, struct replica_ticket t);
void replica_poll_began(struct replica_state *r);
/* m NULL: it answers, but has no metrics that are known. */
void replica_poll_answered(struct replica_state *r, const struct replica_metrics *m,
			   uint64_t asked_ms);
/* It cannot be reached or is ill.  While it is away already, nothing changes: several calls that end
 * by one death are one failure. */
void replica_failed(struct replica_state *r, uint64_t now_ms);
void replica_worked(struct replica_state *r);

bool replica_is_up(const struct replica_state *r, uint64_t now_ms);
int replica_load(const struct replica_state *r, uint64_t now_ms);
/* The index, 0 <= it < n; n >= 1.  home: where the conversation was, or -1.  turn: differs from call
 * to call; ties go round by it.  When all are away: the one that comes back first. */
int replica_choose(const struct replica_state *list, int n, int home, unsigned turn,
		   uint64_t now_ms);

/* Where conversations were; the least recently used are forgotten.  Zero it. */
struct replica_sessions {
	struct replica_session {
		uint64_t key, used; /* used 0: empty */
		int replica;
	} list[REPLICA_SESSIONS];
	uint64_t clock;
};
int replica_sessions_find(const struct replica_sessions *s, uint64_t key); /* or -1 */
void replica_sessions_put(struct replica_sessions *s, uint64_t key, int replica);

#endif
