/* What children say on standard error, in our log under the model's name.
 *
 * Loop thread.  A process that floods is always read, but only LLAMA_LOG_BURST lines at once
 * and LLAMA_LOG_PER_S after them are written; then how many were left out.  llama.cpp's lines
 * are "1.23.456.789 E text": E and W keep their level, I becomes debug, since it is about each
 * slot of each request.  A line without a level is told as it is. */
#include "providers/llama_server_impl.h"

#include "base/clock.h"
#include "base/log.h"

/* The level letter, or 0. */
static char level_of(struct str *line)
{
	size_t stamp = 0;

	while (stamp < line->len && strchr("0123456789.", line->ptr[stamp]))
		stamp++;
	if (stamp < line->len && stamp && line->ptr[stamp] == ' ')
		stamp++;
	if (stamp + 1 >= line->len || line->ptr[stamp + 1] != ' ' ||
	    !strchr("EWID", line->ptr[stamp]))
		return 0;
	line->ptr += stamp + 2;
	line->len -= stamp + 2;
	return line->ptr[-2];
}

/* The text that an error of ours will quote: an error line, else the last one. */
static void remember(struct llama_server *s, struct str line, bool is_error)
{
	size_t n = line.len < sizeof s->said - 1 ? line.len : sizeof s->said - 1;

	if (s->said_error && !is_error)
		return;
	s->said_error = is_error;
	for (size_t i = 0; i < n; i++)
		s->said[i] = (unsigned char)line.ptr[i] < 0x20 || line.ptr[i] == 0x7f
				     ? ' '
				     : line.ptr[i];
	s->said[n] = 0;
}

static bool gate_open(struct log_gate *g, uint64_t now_ms)
{
	uint64_t more = (now_ms - g->since_ms) * LLAMA_LOG_PER_S / 1000;

	if (!g->since_ms || g->left + more >= LLAMA_LOG_BURST) {
		g->left = LLAMA_LOG_BURST;
		g->since_ms = now_ms;
	} else if (more) {
		g->left += (unsigned)more;
		g->since_ms = now_ms;
	}
	if (!g->left)
		return false;
	g->left--;
	return true;
}

void llama_log(struct llama_server *s, struct str line)
{
	char level = level_of(&line);
	const char *what = s->kind->name;
	int n = (int)line.len;

	remember(s, line, level == 'E');
	if (!gate_open(&s->gate, clock_mono_ms())) {
		s->gate.dropped++;
		return;
	}
	if (s->gate.dropped)
		log_warn("%s '%s': %u lines left out", what, s->name, s->gate.dropped);
	s->gate.dropped = 0;
	if (level == 'E')
		log_error("%s '%s': %.*s", what, s->name, n, line.ptr);
	else if (level == 'W')
		log_warn("%s '%s': %.*s", what, s->name, n, line.ptr);
	else if (level)
		log_debug("%s '%s': %.*s", what, s->name, n, line.ptr);
	else
		log_info("%s '%s': %.*s", what, s->name, n, line.ptr);
}
