/* `hob serve`: reads the configuration and runs the daemon in the foreground. */
#include <getopt.h>

#include "base/buf.h"
#include "base/log.h"
#include "cli/commands.h"
#include "daemon.h"

static const char usage[] =
	"Usage: hob serve [OPTION]...\n"
	"Serve models on a Unix socket and on loopback TCP until SIGTERM.\n\n"
	"  -c, --config FILE   configuration (default $XDG_CONFIG_HOME/hob/hob.conf; see hob.conf(5))\n"
	"  -p, --port N        TCP port; 0 = none, -1 = any free one\n"
	"  -s, --socket PATH   Unix socket\n"
	"  -l, --local-only    nothing leaves this machine: no remote provider is used\n"
	"  -v, --verbose       log more\n"
	"  -t, --test          check the configuration and exit\n"
	"  -h, --help          this text\n\n"
	"SIGTERM finishes running replies first; SIGHUP reads the configuration again.\n";

struct options {
	struct config_source source;
	bool test;
};

/* CLI_OK: go on; -1: done, all said; else an exit status. */
static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
					      {"port", required_argument, NULL, 'p'},
					      {"socket", required_argument, NULL, 's'},
					      {"local-only", no_argument, NULL, 'l'},
					      {"verbose", no_argument, NULL, 'v'},
					      {"test", no_argument, NULL, 't'},
					      {"help", no_argument, NULL, 'h'},
					      {0}};
	int64_t port = 0;
	int c;

	optind = 1;
	while ((c = getopt_long(argc, argv, "c:p:s:lvth", longs, NULL)) != -1)
		switch (c) {
		case 'c':
			o->source.path = optarg;
			break;
		case 's':
			o->source.socket_path = optarg;
			break;
		case 'l':
			o->source.local_only = true;
			break;
		case 't':
			o->test = true;
			break;
		case 'v':
			log_set_level(LOG_LV_DEBUG);
			break;
		case 'h':
			fputs(usage, stdout);
			return -1;
		case 'p':
			o->source.has_port = str_to_i64(str_of(optarg), -1, 65535, &port);
			o->source.port = (int)port;
			if (o->source.has_port)
				break;
			fprintf(stderr,
				"hob serve: --port %s: not a port (0 to 65535, or -1)\n",
				optarg);
			return CLI_USAGE;
		default:
			fputs("See 'hob serve --help'.\n", stderr);
			return CLI_USAGE;
		}
	if (optind == argc)
		return CLI_OK;
	fprintf(stderr, "hob serve: unexpected argument '%s'\n", argv[optind]);
	return CLI_USAGE;
}

int cmd_serve(int argc, char **argv)
{
	struct options o = {0};
	struct config *c;
	struct err e = {0};
	int rc = parse(argc, argv, &o);

	if (rc != CLI_OK)
		return rc < 0 ? CLI_OK : rc;
	c = config_load(&o.source, &e);
	if (!c) {
		fprintf(stderr, "hob serve: %s\n", e.text);
		return CLI_USAGE;
	}
	if (o.test) {
		printf("%s: ok\n", c->file ? c->file : "built-in configuration");
		config_free(c);
		return CLI_OK;
	}
	if (daemon_run(c, &o.source, &e) < 0) {
		fprintf(stderr, "hob serve: %s\n", e.text);
		return e.code == ERR_CONFLICT ? CLI_OTHER_RUNS : CLI_FAIL;
	}
	return CLI_OK;
}
