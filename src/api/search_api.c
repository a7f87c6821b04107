/* What was said, by words.  Loop thread; the search itself runs beside the store's writer. */
#include "api/search_api.h"

#include "api/store_call.h"
#include "memory/store_search.h"

enum { HITS_DEFAULT = 20, HITS_MAX = 200 };

static void add_hit(struct buf *out, const struct store_hit *h)
{
	buf_addc(out, '{');
	buf_add_json_text(out, "conversation", h->conversation);
	buf_add_json_text(out, "title", h->title);
	buf_add_json_text(out, "message", h->hash);
	buf_add_json_text(out, "role", role_name(h->role));
	buf_add_json_text(out, "snippet", h->snippet);
	buf_addf(out, ",\"created_ms\":%lld}", (long long)h->created_ms);
}

static void on_hits(void *arg, const struct err *e, const struct store_hit *list, int n)
{
	struct store_call *sc = arg;

	if (store_call_failed(sc, e))
		return;
	buf_adds(&sc->out, "{\"hits\":[");
	for (int i = 0; i < n; i++) {
		buf_adds(&sc->out, i ? "," : "");
		add_hit(&sc->out, &list[i]);
	}
	buf_adds(&sc->out, "]}");
	store_call_reply(sc);
}

static int read_words(const struct call *call, char **words, char **conversation,
		      struct err *e)
{
	if (store_call_query(call->http, "q", true, words, e) < 0 ||
	    store_call_query(call->http, "conversation", false, conversation, e) < 0)
		return -1;
	if (!*words)
		return err_set(e, ERR_INVALID, "?q= is missing: the words to look for");
	if (strlen(*words) > STORE_MAX_QUERY_BYTES)
		return err_set(e, ERR_INVALID, "?q= has at most %d bytes",
			       STORE_MAX_QUERY_BYTES);
	return 0;
}

void search_api_get(const struct call *call)
{
	struct store_search_ask ask = {.limit = HITS_DEFAULT};
	char *words = NULL, *conversation = NULL;
	struct store_call *sc;
	struct err e = {0};

	if (!api_listing(call, HITS_MAX, &ask.limit, NULL))
		return;
	if (read_words(call, &words, &conversation, &e) < 0) {
		api_reply_error(call->conn, &e);
	} else if ((sc = store_call_new(call, conversation))) {
		ask.query = words;
		ask.conversation = conversation;
		store_search(sc->store, &ask, on_hits, sc);
	}
	free(words);
	free(conversation);
}
