// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * The entry programs, in an object of their own: verifying them takes as long as verifying all
 * states, and two objects can be verified in parallel.
 */
#define TMON_ENTRY
#include "tmon.bpf.c"
