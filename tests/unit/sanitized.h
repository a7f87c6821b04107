/* Is this a build with a sanitizer?  There the forward pass of a real model takes minutes; tests shorten its
 * prompts, and leave lengths that matter to the plain build and to tiny models. */
#ifndef HOB_TESTS_SANITIZED_H
#define HOB_TESTS_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

#endif
