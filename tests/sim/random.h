/* SPDX-License-Identifier: ISC */
/* random.h: numbers that follow from a seed (splitmix64). */
#ifndef CMB_TESTS_SIM_RANDOM_H
#define CMB_TESTS_SIM_RANDOM_H

#include <stdint.h>

static inline uint64_t sim_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

#endif
