#!/usr/bin/env python3
"""llama-server's command line in front of the wheel xllamacpp, which carries llama.cpp's HTTP server.

For the tests, where no llama-server is installed.  Flags that it does not know are an error, as they are there.
HOB_TEST_PYTHON_PATH is not read: run it with the interpreter that has the wheel (the tests write a wrapper).
"""
import argparse
import os
import signal
import sys

arguments = argparse.ArgumentParser(allow_abbrev=False)
arguments.add_argument("-m", "--model", required=True)
arguments.add_argument("--host", required=True)
arguments.add_argument("-c", "--ctx-size", type=int, default=4096)
arguments.add_argument("-np", "--parallel", type=int, default=1)
arguments.add_argument("-t", "--threads", type=int, default=-1)
arguments.add_argument("-a", "--alias", default="")
arguments.add_argument("--api-key-file", required=True)
arguments.add_argument("--no-webui", action="store_true")
arguments.add_argument("--no-slots", action="store_true")
arguments.add_argument("--temp", type=float)
given = arguments.parse_args()

import xllamacpp  # noqa: E402  (after the flags, so that a wrong one fails at once)

params = xllamacpp.CommonParams()
params.model.path = given.model
params.hostnames = [given.host]
params.n_ctx = given.ctx_size
params.n_parallel = given.parallel
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given.threads
params.api_keys = [line.strip() for line in open(given.api_key_file, encoding="ascii")]
params.ui = not given.no_webui
params.endpoint_slots = not given.no_slots
if given.temp is not None:
    params.sampling.temp = given.temp
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server = xllamacpp.Server(params)
sys.stdin.read()  # until the parent goes away
os._exit(0)
