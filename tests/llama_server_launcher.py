#!/usr/bin/env python3
"""llama-server's command line in front of the wheel xllamacpp, which carries llama.cpp's HTTP server.

For tests where no llama-server is installed.  A flag that it does not know is an error, as it is there.
"""
import argparse
import os
import signal
import sys

import xllamacpp

flags = argparse.ArgumentParser(allow_abbrev=False)
flags.add_argument("-m", required=True)
flags.add_argument("--host", required=True)
flags.add_argument("-c", type=int, default=4096)
flags.add_argument("-np", type=int, default=1)
flags.add_argument("-t", type=int, default=-1)
flags.add_argument("--api-key-file", required=True)
flags.add_argument("--no-webui", action="store_true")
flags.add_argument("--no-slots", action="store_true")
flags.add_argument("--temp", type=float, default=0.8)
given = flags.parse_args()

params = xllamacpp.CommonParams()
params.model.path = given.m
params.hostnames = [given.host]
params.n_ctx, params.n_parallel = given.c, given.np
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given.t
params.api_keys = [line.strip() for line in open(given.api_key_file, encoding="ascii")]
params.ui, params.endpoint_slots = not given.no_webui, not given.no_slots
params.sampling.temp = given.temp
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server = xllamacpp.Server(params)  # returns when it is ready, and serves in a thread
sys.stdin.read()  # until the parent goes away
os._exit(0)
