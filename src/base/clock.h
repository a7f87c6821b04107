/* The two clocks: monotonic for deadlines and durations, wall for what people read. */
#ifndef HOB_CLOCK_H
#define HOB_CLOCK_H

#include <stdint.h>

uint64_t clock_mono_ms(void); /* CLOCK_MONOTONIC */
uint64_t clock_mono_us(void);
int64_t clock_unix_ms(void); /* CLOCK_REALTIME */

#endif
