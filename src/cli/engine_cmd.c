/* `hob engine`: the worker process, started by `hob serve` on a socketpair, or by hand.
 *
 * Before it touches a model file it makes sure that it cannot outlive its parent and can never gain
 * privileges.  Signals that end a session are left to the router, which closes our input. */
#include <getopt.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "cli/commands.h"
#include "engine/engine.h"
#include "kernels/pool.h"

static const char usage[] =
	"Usage: hob engine [OPTION]...\n"
	"Run models: reads commands and writes events, a JSON object a line, on standard input and\n"
	"output.  hob serve starts it; by hand it is for tests and benchmarks (src/engine/wire.h).\n\n"
	"  -k, --kernels NAME  auto, scalar, avx2 or avx512 (default auto)\n"
	"  -t, --threads N     threads (default: physical cores we may use)\n"
	"      --stdio         speak on standard input and output (the default and only way)\n"
	"  -h, --help          this text\n";

/* CLI_OK: go on; -1: done, all said; else an exit status. */
static int parse(int argc, char **argv, struct engine_options *o)
{
	static const struct option longs[] = {{"kernels", required_argument, NULL, 'k'},
					      {"threads", required_argument, NULL, 't'},
					      {"stdio", no_argument, NULL, 's'},
					      {"help", no_argument, NULL, 'h'},
					      {0}};
	int64_t n;
	int c;

	optind = 1;
	while ((c = getopt_long(argc, argv, "k:t:h", longs, NULL)) != -1)
		switch (c) {
		case 'k':
			o->kernels = optarg;
			break;
		case 't':
			if (!str_to_i64(str_of(optarg), 0, POOL_MAX_THREADS, &n)) {
				fprintf(stderr, "hob engine: --threads %s: 0 to %d\n",
					optarg, POOL_MAX_THREADS);
				return CLI_USAGE;
			}
			o->threads = (int)n;
			break;
		case 's':
			break;
		case 'h':
			fputs(usage, stdout);
			return -1;
		default:
			fputs("See 'hob engine --help'.\n", stderr);
			return CLI_USAGE;
		}
	if (optind == argc)
		return CLI_OK;
	fprintf(stderr, "hob engine: unexpected argument '%s'\n", argv[optind]);
	return CLI_USAGE;
}

/* The parent may have died before the signal was asked for: then we belong to init already. */
static bool die_with_parent(void)
{
	pid_t parent = getppid();

	return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
}

int cmd_engine(int argc, char **argv)
{
	struct engine_options o = {.kernels = "auto"};
	int rc = parse(argc, argv, &o);

	if (rc != CLI_OK)
		return rc < 0 ? CLI_OK : rc;
	log_set_name("engine");
	if (!die_with_parent() || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		log_error("engine: cannot tie itself to its parent");
		return CLI_FAIL;
	}
	signal(SIGPIPE, SIG_IGN);
	/* Ctrl-C in a terminal reaches the whole group; the router decides when we end. */
	if (!isatty(STDIN_FILENO))
		signal(SIGINT, SIG_IGN);
	return engine_main(STDIN_FILENO, STDOUT_FILENO, &o);
}
