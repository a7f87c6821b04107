/* What was spent, over HTTP: the query is read here, the rest is money_json().  Loop thread. */
#include "api/usage_api.h"

#include "route/money.h"

enum { DAYS_DEFAULT = 30 };

static const struct {
	const char *name;
	unsigned flag;
} groups[] = {
	{"day", MONEY_BY_DAY},
	{"model", MONEY_BY_MODEL},
	{"provider", MONEY_BY_PROVIDER},
	{"conversation", MONEY_BY_CONVERSATION},
};

static bool read_group(struct str word, unsigned *by)
{
	for (size_t i = 0; i < ARRAY_LEN(groups); i++)
		if (str_eq(word, groups[i].name)) {
			*by |= groups[i].flag;
			return true;
		}
	return false;
}

/* "model,day"; the comma may come escaped. */
static bool read_groups(struct str list, unsigned *by)
{
	struct buf text = {0};
	struct str left;
	bool ok = http_unescape(list, &text) && text.len > 0;

	*by = 0;
	left = buf_str(&text);
	while (ok && left.ptr) {
		const char *comma = memchr(left.ptr, ',', left.len);
		size_t n = comma ? (size_t)(comma - left.ptr) : left.len;

		ok = read_group((struct str){left.ptr, n}, by);
		left = comma ? (struct str){comma + 1, left.len - n - 1}
			     : (struct str){NULL, 0};
	}
	buf_free(&text);
	return ok;
}

void usage_api_get(const struct call *call)
{
	struct str number = http_query(call->http, "days");
	struct str list = http_query(call->http, "by");
	unsigned by = MONEY_BY_DAY | MONEY_BY_MODEL;
	int64_t days = DAYS_DEFAULT;
	struct buf out = {0};
	struct err e = {0};

	if (number.ptr && !str_to_i64(number, 1, MONEY_MAX_DAYS, &days))
		err_set(&e, ERR_INVALID, "days must be a number from 1 to %d",
			MONEY_MAX_DAYS);
	else if (list.ptr && !read_groups(list, &by))
		err_set(&e, ERR_INVALID,
			"by must be words of model, day, provider and conversation, with "
			"commas between them");
	else if (!call->api->money)
		err_set(&e, ERR_UNAVAILABLE, "nothing is counted yet");
	if (e.code != ERR_NONE) {
		api_reply_error(call->conn, &e);
		return;
	}
	money_json(call->api->money, (int)days, by, &out);
	api_reply_json(call->conn, &out);
	buf_free(&out);
}
