/* The language between the router and the engine: one JSON object a line, both ways, over a
 * socketpair (the engine's standard input and output).  `hob engine --stdio` speaks it by hand.
 *
 * Router → engine
 *   {"op":"probe","model":M,"path":P,"ctx":tokens,"slots":n}   answered by probed | load_failed: reads the
 *                                                              head only, which is kept for the load
 *   {"op":"load","model":M,"path":P,"ctx":tokens,"slots":n}    some loading, then loaded | load_failed.  M may be
 *                                                              probed or parked (with the same path, ctx,
 *                                                              slots).  Runs beside answers and other loads
 *   {"op":"park","model":M}                                    answered by parked; jobs on it fail.  M is loaded
 *   {"op":"unload","model":M}                                  answered by unloaded in any case; jobs on it fail;
 *                                                              a probe or load under way is cancelled, and
 *                                                              says nothing else
 *   {"op":"start","job":J,"model":M,"messages":[{"role":"user","content":"..."}] | "prompt":"...",
 *    "max_tokens":n,"temperature":t,"top_k":k,"top_p":p,"min_p":p,"seed":s,"stop":["..."],
 *    "ignore_eos":bool,"class":"completion|interactive|batch","volatile":bool}  sampling members are
 *                                                              optional; class: interactive; volatile: its KV
 *                                                              state is not saved
 *   {"op":"cancel","job":J}                                    no answer; no event of J follows
 *                                                              those already on their way
 *   {"op":"count","job":J,"model":M,"messages":[...]}          answered by count | failed
 *   {"op":"forget"}                                            no answer; saved KV state goes, and that of
 *                                                              now is not saved
 *   {"op":"ping"}                                              answered by pong
 *   {"op":"quit"}                                              ends the process with 0; so does EOF
 *
 * Engine → router
 *   {"ev":"hello","version":2,"kernels":"avx512","threads":2}  once, at the start
 *   {"ev":"probed","model":M,"weights_bytes":n,"kv_bytes":n,"parked_bytes":n,"ctx":tokens,
 *    "ctx_train":tokens,"slots":n,"arch":"llama","name":"...","chat":true}   as loaded will say
 *   {"ev":"loading","model":M,"done":bytes,"total":bytes}      about every 100 ms; both may start anew
 *   {"ev":"loaded","model":M,"bytes":resident,"file_bytes":n,"weights_bytes":n,"kv_bytes":n,"parked_bytes":n,
 *    "ctx":tokens,"ctx_train":tokens,"slots":n,"arch":"llama","name":"...","chat":true,
 *    "source":"pack file|converted|parked|shared","load_ms":t}   kv_bytes: caches when full, and buffers;
 *                                                              weights are shared by models of one file
 *   {"ev":"load_failed","model":M,"code":"corrupt","message":"..."}    codes: names of err.h
 *   {"ev":"parked","model":M,"bytes":n}                        n: what stays, at most
 *   {"ev":"unloaded","model":M}                                what it held is free, or will be in a moment
 *   {"ev":"started","job":J,"prompt_tokens":n,"cached_tokens":n}   the prompt is in a slot
 *   {"ev":"progress","job":J,"done":n,"total":n}               prefill, after each chunk but the last
 *   {"ev":"text","job":J,"text":"..."}                         whole UTF-8 characters
 *   {"ev":"finished","job":J,"reason":"stop|length","prompt_tokens":n,"cached_tokens":n,
 *    "completion_tokens":n,"prefill_ms":t,"decode_ms":t}
 *   {"ev":"failed","job":J,"code":"context","message":"..."}
 *   {"ev":"count","job":J,"tokens":[n per message],"extra":n,"ctx":tokens}  extra: what the template
 *                                                              adds around them all (its default
 *                                                              system prompt, the answer's opening)
 *   {"ev":"pong","kv_ram_bytes":n,"kv_disk_bytes":n}           saved KV state (kv_store.h)
 *
 * M and J are integers chosen by the router, below 2^53, unique while in use.  A line that does not
 * parse is fatal to the reader: both sides are hob, so it is a bug or a forged peer.
 * Jobs beyond the slots of a model wait in the engine, by class, then first in first out. */
#ifndef HOB_WIRE_H
#define HOB_WIRE_H

enum {
	WIRE_VERSION = 2,
	WIRE_MAX_LINE_BYTES = 40 << 20, /* a 32 MiB body, escaped */
};

#endif
