// SPDX-License-Identifier: (MIT OR GPL-2.0-only)
/*
 * The programs at the hooks, as an object of their own: the verifier takes as long for them as for
 * all states, and examines two objects at the same time.
 */
#define TMON_ENTRY
#include "tmon.bpf.c"
