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
	"      --pack-dir DIR  keep weights converted for this machine there, for faster loads\n"
	"      --pack-bytes N  ... up to so many bytes, oldest out (default 0: none)\n"
	"      --kv-dir DIR    keep the state of conversations there\n"
	"      --kv-ram-bytes N, --kv-disk-bytes N\n"
	"                      ... up to so many bytes in memory and in that folder (default 0)\n"
	"      --stdio         speak on standard input and output (the default and only way)\n"
	"  -h, --help          this text\n";

enum { OPT_PACK_DIR = 256, OPT_PACK_BYTES, OPT_KV_DIR, OPT_KV_RAM, OPT_KV_DISK };

static const struct option longs[] = {
	{"kernels", required_argument, NULL, 'k'},
	{"threads", required_argument, NULL, 't'},
	{"pack-dir", required_argument, NULL, OPT_PACK_DIR},
	{"pack-bytes", required_argument, NULL, OPT_PACK_BYTES},
	{"kv-dir", required_argument, NULL, OPT_KV_DIR},
	{"kv-ram-bytes", required_argument, NULL, OPT_KV_RAM},
	{"kv-disk-bytes", required_argument, NULL, OPT_KV_DISK},
	{"stdio", no_argument, NULL, 's'},
	{"help", no_argument, NULL, 'h'},
	{0}};

static int number(const char *option, const char *text, int64_t max, int64_t *out)
{
	if (str_to_i64(str_of(text), 0, max, out))
		return CLI_OK;
	fprintf(stderr, "hob engine: --%s %s: 0 to %lld\n", option, text, (long long)max);
	return CLI_USAGE;
}

static int bytes(const char *option, const char *text, uint64_t *out)
{
	int64_t n = 0;
	int rc = number(option, text, INT64_MAX, &n);

	*out = (uint64_t)n;
	return rc;
}

/* CLI_OK: go on; -1: done, all said; else an exit status. */
static int set_option(int c, struct engine_options *o)
{
	int64_t n = 0;
	int rc = CLI_OK;

	switch (c) {
	case 'k':
		o->kernels = optarg;
		break;
	case 't':
		rc = number("threads", optarg, POOL_MAX_THREADS, &n);
		o->threads = (int)n;
		break;
	case OPT_PACK_DIR:
		o->pack_dir = optarg;
		break;
	case OPT_PACK_BYTES:
		rc = bytes("pack-bytes", optarg, &o->pack_bytes);
		break;
	case OPT_KV_DIR:
		o->kv_dir = optarg;
		break;
	case OPT_KV_RAM:
		rc = bytes("kv-ram-bytes", optarg, &o->kv_ram_bytes);
		break;
	case OPT_KV_DISK:
		rc = bytes("kv-disk-bytes", optarg, &o->kv_disk_bytes);
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
	return rc;
}

static int parse(int argc, char **argv, struct engine_options *o)
{
	int c, rc;

	optind = 1;
	while ((c = getopt_long(argc, argv, "k:t:h", longs, NULL)) != -1)
		if ((rc = set_option(c, o)) != CLI_OK)
			return rc;
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
	/* A pack file over the limit of file sizes is an error like a full disk, not our end. */
	signal(SIGXFSZ, SIG_IGN);
	/* Ctrl-C in a terminal reaches the whole group; the router decides when we end. */
	if (!isatty(STDIN_FILENO))
		signal(SIGINT, SIG_IGN);
	return engine_main(STDIN_FILENO, STDOUT_FILENO, &o);
}
