/* SPDX-License-Identifier: (MIT OR GPL-2.0-only) */
/* Which rows match a prober's expression, and how many of their packets it wants. */
#ifndef TMON_MEANT_H
#define TMON_MEANT_H

#include "tmon.h"

static __always_inline __u32 in_range(const struct probe_test *t, __u32 n)
{
	return (n >= t->low) & (n <= t->high);
}

static __always_inline __u32 in_net(const struct probe_test *t, const __be32 *address)
{
	__u32 differ = 0;

#pragma unroll
	for (int i = 0; i < 4; i++)
		differ |= (address[i] ^ t->net[i]) & t->mask[i];
	return !differ;
}

/* Whether an address of a pair is in the test's network. */
static __always_inline __u32 ends_in(const struct probe_test *t, const __be32 (*pair)[4], __u32 v6)
{
	__u32 wants6 = t->flags & TEST_V6;

	return !wants6 == !v6 && (in_net(t, pair[0]) | in_net(t, pair[1]));
}

/* Whether a tunnel of this kind is meant. */
static __always_inline __u32 of_kind(const struct probe_test *t, __u32 kind)
{
	return !t->kind || t->kind == kind + 1;
}

static __always_inline __u32 test_holds(const struct probe_test *t, const struct key6 *key)
{
	__u32 flags = key->flags;

	switch (t->what) {
	case TEST_OUTER:
		return !(flags & ROW_NO_OUTER) && ends_in(t, key->outer, flags & ROW_OUTER6);
	case TEST_INNER:
		return !(flags & ROW_NO_PAIR) && ends_in(t, key->inner, flags & ROW_INNER6);
	case TEST_ID:
		return (flags & ROW_ID && in_range(t, key->id[0]) && of_kind(t, key->kind[0])) ||
		       (flags & ROW_ID1 && in_range(t, key->id[1]) && of_kind(t, key->kind[1]));
	case TEST_KIND:
		return in_range(t, key->kind[0]) || (key->depth > 1 && in_range(t, key->kind[1]));
	case TEST_PROTO:
		return in_range(t, flags & ROW_NO_PAIR ? key->inner[0][0] :
				   flags & ROW_INNER6  ? TEST_IPV6 :
							 TEST_IPV4);
	}
	return 0;
}

/*
 * Whether this row matches a prober's expression. A global function, which the verifier checks once
 * instead of once for each prober: loading takes a tenth of the time.
 */
__attribute__((noinline)) __u32 is_meant(const struct prober *p, const struct key6 *key)
{
	__u32 all = 1, any = 0, n;

	if (!p || !key)
		return 0;
	n = p->tests;

	_Pragma("clang loop unroll(disable)") for (__u32 i = 0; i < PROBE_TESTS && i < n; i++)
	{
		const struct probe_test *t = &p->test[i];

		any |= test_holds(t, key);
		if (t->flags & TEST_LAST) {
			all &= any ^ !!(t->flags & TEST_NOT);
			any = 0;
		}
		/* the verifier need not track the results so far */
		barrier_var(any);
		barrier_var(all);
	}
	return all & 1;
}

/* Whether a prober has reached its limit of packets in this second. */
static __always_inline int is_over_limit(struct prober *p, __u64 now)
{
	__u32 second = now >> 30, was;

	if (!p->limit)
		return 0;
	if (p->second != second) {
		p->second = second;
		p->taken = 0;
	}
	was = __sync_fetch_and_add(&p->taken, 1);
	barrier_var(was);
	return was >= p->limit;
}

#endif
