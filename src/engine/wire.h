/* The language between the router and the engine: one JSON object a line, both ways, over a
 * socketpair (the engine's standard input and output).  `hob engine --stdio` speaks it by hand.
 *
 * Router → engine
 *   {"op":"load","model":M,"path":P,"ctx":tokens,"slots":n}    answered by loaded | load_failed
 *   {"op":"unload","model":M}                                  answered by unloaded; jobs on it fail
 *   {"op":"start","job":J,"model":M,"messages":[{"role":"user","content":"..."}] | "prompt":"...",
 *    "max_tokens":n,"temperature":t,"top_k":k,"top_p":p,"min_p":p,"seed":s,"stop":["..."],
 *    "ignore_eos":bool}                                        sampling members are optional
 *   {"op":"cancel","job":J}                                    no answer; no event of J follows
 *                                                              those already on their way
 *   {"op":"count","job":J,"model":M,"messages":[...]}          answered by count | failed
 *   {"op":"ping"}                                              answered by pong
 *   {"op":"quit"}                                              ends the process with 0; so does EOF
 *
 * Engine → router
 *   {"ev":"hello","version":1,"kernels":"avx512","threads":2}  once, at the start
 *   {"ev":"loaded","model":M,"bytes":resident,"file_bytes":n,"ctx":tokens,"ctx_train":tokens,
 *    "slots":n,"arch":"llama","name":"...","chat":true,"load_ms":t}
 *   {"ev":"load_failed","model":M,"code":"corrupt","message":"..."}    codes: names of err.h
 *   {"ev":"unloaded","model":M}
 *   {"ev":"started","job":J,"prompt_tokens":n,"cached_tokens":n}   the prompt is in a slot
 *   {"ev":"progress","job":J,"done":n,"total":n}               prefill, after each chunk but the last
 *   {"ev":"text","job":J,"text":"..."}                         whole UTF-8 characters
 *   {"ev":"finished","job":J,"reason":"stop|length","prompt_tokens":n,"cached_tokens":n,
 *    "completion_tokens":n,"prefill_ms":t,"decode_ms":t}
 *   {"ev":"failed","job":J,"code":"context","message":"..."}
 *   {"ev":"count","job":J,"tokens":[n per message],"extra":n,"ctx":tokens}  extra: what the template
 *                                                              adds around them all (its default
 *                                                              system prompt, the answer's opening)
 *   {"ev":"pong"}
 *
 * M and J are integers chosen by the router, below 2^53, unique while in use.  A line that does not
 * parse is fatal to the reader: both sides are hob, so it is a bug or a forged peer.
 * Jobs beyond the slots of a model wait in the engine, first in first out. */
#ifndef HOB_WIRE_H
#define HOB_WIRE_H

enum {
	WIRE_VERSION = 1,
	WIRE_MAX_LINE_BYTES = 40 << 20, /* a 32 MiB body, escaped */
};

#endif
